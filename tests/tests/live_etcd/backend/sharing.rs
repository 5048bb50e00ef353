//! Several who share an etcd.

use tidewatch_core::txn::RangeRequest;
use tidewatch_core::{HistoryWindow, KeyRange, Position, Revision, Settings, prefix};
use tidewatch_etcd::EtcdBackend;
use tidewatch_etcd::backend::MAX_BACKFILLS;
use tidewatch_tests::etcd_cluster::EtcdCluster;

use super::{Served, client, comes_to_hold, next_events, until};

/// How many watches there are in etcd.
const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";

#[tokio::test]
async fn a_write_through_any_server_or_none_is_seen_by_all_at_the_same_revision() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let (one, other) = (
        Served::at(etcd.endpoints()).await,
        Served::at(etcd.endpoints()).await,
    );
    let identity = one.ks.status().await.unwrap().keyspace;
    assert_eq!(identity, other.ks.status().await.unwrap().keyspace);
    let mut seen_by_one = one
        .ks
        .watch(KeyRange::all())
        .with_prev_kv()
        .start()
        .await
        .unwrap();
    let mut seen_by_other = other
        .ks
        .watch(KeyRange::all())
        .with_prev_kv()
        .start()
        .await
        .unwrap();
    let by_one = one.ks.put("/a", "1").await.unwrap();
    let by_other = other.ks.put("/a", "2").await.unwrap();
    let mut direct = client(etcd.endpoints()).await;
    let answer = direct.put("/a", "3", None).await.unwrap();
    let by_hand = u64::try_from(answer.header().unwrap().revision()).unwrap();
    // A read on either shows what was acknowledged anywhere.
    for served in [&one, &other] {
        assert_eq!(served.ks.get("/a").await.unwrap().unwrap().value, "3");
    }
    for watch in [&mut seen_by_one, &mut seen_by_other] {
        assert_eq!(next_events(watch).await, (by_one.0, vec!["/a=1".to_owned()]));
        assert_eq!(
            next_events(watch).await,
            (by_other.0, vec!["/a=2 after 1".to_owned()])
        );
        assert_eq!(
            next_events(watch).await,
            (by_hand, vec!["/a=3 after 2".to_owned()])
        );
    }
    // And a position is one on both.
    let position = seen_by_one.position();
    let mut moved = other
        .ks
        .watch(KeyRange::all())
        .resume(position)
        .start()
        .await
        .unwrap();
    let last = one.ks.delete(KeyRange::all()).await.unwrap().0;
    assert_eq!(
        next_events(&mut moved).await,
        (last.0, vec!["/a deleted".to_owned()])
    );
}

#[tokio::test]
async fn who_writes_beside_a_namespace_neither_shows_nor_hinders() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let namespaced = || EtcdBackend::builder(etcd.endpoints()).namespace("/fleet/");
    let (one, other) = (Served::new(namespaced()).await, Served::new(namespaced()).await);
    let mut direct = client(etcd.endpoints()).await;
    let noise = tokio::spawn({
        let mut direct = direct.clone();
        async move {
            loop {
                direct.put("/elsewhere", "noise", None).await.unwrap();
            }
        }
    });
    let mut watch = other.ks.watch(KeyRange::all()).start().await.unwrap();
    for round in 0..30_u32 {
        let written = one.ks.put("/n", round.to_string()).await.unwrap();
        // What was acknowledged by one is shown by the other: in reads, and in the snapshot of a watch.
        let read = other.ks.get("/n").await.unwrap().unwrap();
        assert_eq!(
            (read.value, read.mod_revision),
            (round.to_string().into(), written)
        );
        let mut snapshot = other
            .ks
            .watch(KeyRange::all())
            .with_snapshot()
            .start()
            .await
            .unwrap();
        let batch = loop {
            let batch = super::next(&mut snapshot).await;
            if !batch.is_empty() {
                break batch;
            }
        };
        assert_eq!(super::lines(&batch), [format!("/n={round}")]);
        // Of a watch that begins now it is the past, however late the cache hears of it.
        let mut now = other.ks.watch(KeyRange::all()).start().await.unwrap();
        assert!(now.created().revision >= written);
        let gone = direct.delete("/fleet//n", None).await.unwrap();
        let gone = u64::try_from(gone.header().unwrap().revision()).unwrap();
        assert_eq!(next_events(&mut now).await, (gone, vec!["/n deleted".to_owned()]));
        assert_eq!(
            next_events(&mut watch).await,
            (written.0, vec![format!("/n={round}")])
        );
        assert_eq!(
            next_events(&mut watch).await,
            (gone, vec!["/n deleted".to_owned()])
        );
    }
    noise.abort();
    assert_eq!(
        one.ks
            .range(RangeRequest::new(KeyRange::all()))
            .await
            .unwrap()
            .1
            .count,
        0
    );
}

#[tokio::test]
async fn many_watchers_are_a_handful_in_etcd_also_while_they_catch_up_from_long_ago() {
    const WATCHES: u64 = 400;
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let mut written = vec![];
    let first = {
        let served = Served::at(etcd.endpoints()).await;
        for number in 0..WATCHES {
            written.push(served.ks.put("/w/key", number.to_string()).await.unwrap());
        }
        served.ks.status().await.unwrap().keyspace
    };
    // Nothing of that is in memory after this start, and nearly nothing stays there.
    let history = HistoryWindow {
        max_revisions: Some(8),
        ..HistoryWindow::default()
    };
    let settings = Settings {
        history,
        ..Settings::default()
    };
    let builder = EtcdBackend::builder(etcd.endpoints())
        .history(0)
        .settings(settings);
    let served = Served::new(builder).await;
    assert_eq!(served.ks.status().await.unwrap().keyspace, first);
    // What the start looked at is over.
    assert!(comes_to_hold(async || etcd.metric(0, WATCHERS).unwrap() <= 1.0).await);
    let watches = written.iter().map(|&revision| {
        let ks = served.ks.clone();
        let position = Position {
            keyspace: first,
            revision: revision.prev(),
        };
        tokio::spawn(async move {
            let watch = ks.watch(prefix("/w/").unwrap()).with_prev_kv().resume(position);
            let mut watch = watch.start().await.unwrap();
            let mut seen = Vec::new();
            while seen
                .last()
                .is_none_or(|(_, lines): &(u64, Vec<String>)| lines[0] != "/w/key=end after 399")
            {
                seen.push(next_events(&mut watch).await);
            }
            (seen, watch)
        })
    });
    let watches: Vec<_> = watches.collect();
    let end = served.ks.put("/w/key", "end").await.unwrap();
    let mut most = 0.0_f64;
    until("the end of all", async || {
        most = most.max(etcd.metric(0, WATCHERS).unwrap());
        watches.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
    let mut kept = Vec::new();
    for (at, watch) in watches.into_iter().enumerate() {
        let (seen, watch) = watch.await.unwrap();
        kept.push(watch);
        let revisions: Vec<_> = seen.iter().map(|(revision, _)| Revision(*revision)).collect();
        let mut expected = written[at..].to_vec();
        expected.push(end);
        assert_eq!(revisions, expected, "from {at}");
        let before = at
            .checked_sub(1)
            .map(|before| format!(" after {before}"))
            .unwrap_or_default();
        assert_eq!(seen[0].1, [format!("/w/key={at}{before}")]);
    }
    let upstream = served.backend.upstream();
    assert!(upstream.backfills_begun >= 1, "{upstream:?}");
    assert!(
        most <= f64::from(1 + u32::try_from(MAX_BACKFILLS).unwrap()),
        "{most} watches in etcd"
    );
    assert!(comes_to_hold(async || etcd.metric(0, WATCHERS).unwrap() <= 1.0).await);
    assert_eq!(served.backend.upstream().backfills, 0);
}

#[tokio::test]
async fn what_etcd_has_forgotten_is_compacted_here_and_says_where_to_begin() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let (first, last) = {
        let served = Served::at(etcd.endpoints()).await;
        let first = served.ks.put("/a", "1").await.unwrap();
        (first, served.ks.put("/a", "2").await.unwrap())
    };
    let mut direct = client(etcd.endpoints()).await;
    let compacted = i64::try_from(last.0).unwrap();
    direct.compact(compacted, None).await.unwrap();
    let served = Served::at(etcd.endpoints()).await;
    assert_eq!(served.ks.status().await.unwrap().oldest, last);
    let mut watch = served
        .ks
        .watch(KeyRange::all())
        .from_revision(first)
        .start()
        .await
        .unwrap();
    let ended = watch.next().await.unwrap_err();
    let is_right = matches!(ended.reason, tidewatch_core::EndReason::Compacted { requested, oldest } if requested == first && oldest == last);
    assert!(is_right, "{ended:?}");
    let request = RangeRequest {
        revision: Some(first),
        ..RangeRequest::new(KeyRange::all())
    };
    let error = served.ks.range(request).await.unwrap_err();
    let is_right = matches!(error, tidewatch_core::Error::Compacted { requested, oldest } if requested == first && oldest == last);
    assert!(is_right, "{error}");
    // Where it does begin is to be had, though it was before this start.
    let mut watch = served
        .ks
        .watch(KeyRange::all())
        .from_revision(last)
        .start()
        .await
        .unwrap();
    assert_eq!(next_events(&mut watch).await.0, last.0);
}
