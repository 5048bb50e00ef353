//! What becomes of reads, writes and watches while etcd fails.

use std::time::Duration;

use tidewatch_core::watch::BatchKind;
use tidewatch_core::{EndReason, Error, KeyRange, Watch, key};
use tidewatch_etcd::{EtcdBackend, Phase};
use tidewatch_tests::etcd_cluster::{EtcdCluster, Setup};
use tidewatch_tests::tcp_proxy::TcpProxy;

use super::{Served, client, next, next_events, until};

#[tokio::test]
async fn a_restored_cluster_is_one_other_keyspace_for_all_who_saw_it() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let (one, other) = (
        Served::at(etcd.endpoints()).await,
        Served::at(etcd.endpoints()).await,
    );
    one.ks.put("/a", "kept").await.unwrap();
    let snapshot = etcd.save_snapshot().unwrap();
    for round in 0..50 {
        one.ks.put("/a", format!("lost-{round}")).await.unwrap();
    }
    let before = one.ks.status().await.unwrap();
    let mut plain = one.ks.watch(KeyRange::all()).start().await.unwrap();
    let mut with_snapshot = other
        .ks
        .watch(KeyRange::all())
        .with_snapshot()
        .start()
        .await
        .unwrap();
    let position = plain.position().unwrap();
    while next(&mut with_snapshot).await.kind() != BatchKind::SnapshotEnd {}

    etcd.restore(&snapshot).unwrap();

    let ended = tokio::time::timeout(super::CEILING, plain.next())
        .await
        .unwrap()
        .unwrap_err();
    let EndReason::KeyspaceChanged { actual, .. } = ended.reason else {
        panic!("{ended:?}");
    };
    assert_ne!(actual, before.keyspace);
    assert!(ended.resume.is_none());
    // The other one goes on with what there is now, and both agree on what that is.
    let batch = next(&mut with_snapshot).await;
    assert_eq!(batch.kind(), BatchKind::SnapshotBegin);
    assert_eq!(super::lines(&next(&mut with_snapshot).await), ["/a=kept"]);
    assert_eq!(next(&mut with_snapshot).await.kind(), BatchKind::SnapshotEnd);
    until("agreement", async || {
        let now = one.ks.status().await.unwrap();
        let there = other.ks.status().await.unwrap();
        now.keyspace == there.keyspace && with_snapshot.keyspace() == there.keyspace
    })
    .await;
    assert_eq!(one.ks.get("/a").await.unwrap().unwrap().value, "kept");
    let written = one.ks.put("/a", "anew").await.unwrap();
    assert!(written < before.revision, "its history has gone back");
    assert_eq!(
        next_events(&mut with_snapshot).await,
        (written.0, vec!["/a=anew".to_owned()])
    );
    let mut stale = other
        .ks
        .watch(key("/a").unwrap())
        .resume(position)
        .start()
        .await
        .unwrap();
    let ended = stale.next().await.unwrap_err();
    assert!(
        matches!(ended.reason, EndReason::KeyspaceChanged { .. }),
        "{ended:?}"
    );
    // Who comes now finds the same.
    let late = Served::at(etcd.endpoints()).await;
    assert_eq!(
        late.ks.status().await.unwrap().keyspace,
        one.ks.status().await.unwrap().keyspace
    );
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_has_an_unknown_outcome_and_happens_at_most_once() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let served = Served::at([proxy.address()]).await;
    served.ks.put("/n", "0").await.unwrap();
    // The connection that writes takes the request with it.
    proxy.freeze();
    let ks = served.ks.clone();
    let lost = tokio::spawn(async move { ks.put("/n", "1").await });
    let error = tokio::time::timeout(super::CEILING, lost)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error:?}");
    proxy.cut();
    until("another write", async || served.ks.put("/m", "2").await.is_ok()).await;
    let kv = served.ks.get("/n").await.unwrap().unwrap();
    assert!(kv.version <= 2, "{kv:?}");
    // Where nobody can be reached nothing is sent, and that is known.
    proxy.refuse(true);
    proxy.cut();
    until("a refusal that had no effect", async || {
        matches!(served.ks.put("/never", "3").await, Err(Error::Unavailable(_)))
    })
    .await;
    proxy.refuse(false);
    until("life", async || served.backend.upstream().phase == Phase::Live).await;
    assert!(served.ks.get("/m").await.unwrap().is_some());
}

#[tokio::test]
async fn writes_while_members_die_are_each_made_once_or_said_to_be_unknown() {
    let Some(mut etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    let served = Served::at(etcd.endpoints()).await;
    let mut watch = served.ks.watch(KeyRange::all()).start().await.unwrap();
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for member in 0..3 {
        etcd.kill(member);
        let mut done = 0;
        while done < 20 {
            let name = format!("/{member}/{}", acknowledged.len() + unknown.len());
            match served.ks.put(name.clone(), "v").await {
                Ok(revision) => {
                    acknowledged.push((revision.0, name));
                    done += 1;
                }
                Err(Error::OutcomeUnknown(_)) => unknown.push(name),
                Err(Error::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        etcd.restart(member).unwrap();
    }
    let last = acknowledged.last().unwrap().0;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(revision, _)| *revision < last) {
        let (revision, lines) = next_events(&mut watch).await;
        seen.extend(
            lines
                .into_iter()
                .map(|line| (revision, line.trim_end_matches("=v").to_owned())),
        );
    }
    seen.retain(|(_, name)| !unknown.contains(name));
    assert_eq!(seen, acknowledged);
}

#[tokio::test]
async fn a_full_etcd_refuses_to_grow_and_serves_the_rest() {
    let Some(etcd) = EtcdCluster::set_up(&Setup {
        args: vec!["--quota-backend-bytes=16777216".into()],
        ..Setup::default()
    }) else {
        return;
    };
    let served = Served::at(etcd.endpoints()).await;
    let mut watch = served.ks.watch(key("/last").unwrap()).start().await.unwrap();
    served.ks.put("/last", "1").await.unwrap();
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(number < 64, "it never fills up");
        if let Err(error) = served
            .ks
            .put(format!("/fill/{number}"), vec![b'x'; 1 << 20])
            .await
        {
            break error;
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let granted = served.ks.lease_grant(None, Duration::from_secs(60)).await;
    assert!(matches!(granted, Err(Error::NoSpace { .. })), "{granted:?}");
    assert_eq!(served.ks.get("/last").await.unwrap().unwrap().value, "1");
    let deleted = served.ks.delete(key("/last").unwrap()).await.unwrap();
    assert_eq!(next_events(&mut watch).await.1, ["/last=1"]);
    assert_eq!(
        next_events(&mut watch).await,
        (deleted.0.0, vec!["/last deleted".to_owned()])
    );
}

#[tokio::test]
async fn history_that_is_compacted_during_an_outage_ends_who_needs_it_and_nobody_else() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let served = Served::new(EtcdBackend::builder([proxy.address().to_string()]).history(0)).await;
    served.ks.put("/a", "1").await.unwrap();
    served.ks.put("/b", "1").await.unwrap();
    let mut watch = served.ks.watch(KeyRange::all()).start().await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    let mut direct = client(etcd.endpoints()).await;
    direct.delete("/a", None).await.unwrap();
    let mut last = 0;
    for round in 0..20 {
        let answer = direct.put("/b", format!("{round}"), None).await.unwrap();
        last = answer.header().unwrap().revision();
    }
    direct.compact(last, None).await.unwrap();
    proxy.refuse(false);
    let ended = ended(&mut watch).await;
    assert!(
        matches!(ended, EndReason::Compacted { oldest, .. } if i64::try_from(oldest.0).unwrap() == last),
        "{ended:?}"
    );
    until("what is there now", async || {
        let b = served.ks.get("/b").await;
        b.is_ok_and(|b| b.is_some_and(|b| b.value == "19"))
    })
    .await;
    assert_eq!(served.ks.get("/a").await.unwrap(), None);
    assert!(served.backend.upstream().relists >= 1);
}

async fn ended(watch: &mut Watch) -> EndReason {
    let ended = tokio::time::timeout(super::CEILING, async {
        loop {
            if let Err(ended) = watch.next().await {
                return ended.reason;
            }
        }
    });
    ended.await.expect("it ends")
}
