//! Members that are killed, stopped, compacted, wiped, restored and filled.

use std::time::Duration;

use tidewatch_directives::{Connection, DirectiveStore, Reason};
use tidewatch_etcd::EtcdDirectiveStore;
use tidewatch_tests::etcd_cluster::{EtcdCluster, Setup};
use tidewatch_tests::tcp_proxy::TcpProxy;

use super::{
    CEILING, KEY, Publisher, ids, set, store, until, until_ids, until_interrupted, until_live, until_status,
};

/// The longest that a stopped member may cost, live; exactly five seconds are shown with the clock moved by hand.
const STALE_CEILING: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_member_that_is_killed_and_comes_back_is_gone_on_with() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store(etcd.endpoints()).await;
    etcd.kill(0);
    until_interrupted(&ours).await;
    assert_eq!(ids(&ours), ["a"], "the last set stays in force");
    etcd.restart(0).unwrap();
    until_live(&ours).await;
    Publisher::new(etcd.endpoints()).await.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
}

#[tokio::test]
async fn a_stopped_member_of_three_is_left_for_one_that_answers_and_the_status_says_so() {
    let Some(etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    Publisher::new(etcd.endpoints()).await.publish(set(&["a"])).await;
    let mut proxies = Vec::new();
    for member in 0..3 {
        proxies.push(TcpProxy::start(etcd.address(member)).await.unwrap());
    }
    let ours = store(proxies.iter().map(TcpProxy::address)).await;
    let serving = proxies
        .iter()
        .rposition(|proxy| !proxy.accepted().is_empty())
        .unwrap();
    let mut changes = ours.changes();
    etcd.pause(serving);
    let stopped = now();
    let said_so = tokio::time::timeout(CEILING, async {
        loop {
            let status = changes.status_changed().await.unwrap();
            if matches!(status.connection, Connection::Interrupted { .. }) {
                return;
            }
        }
    });
    said_so.await.expect("the status says so");
    let others = (0..3).filter(|&member| member != serving);
    let publisher = Publisher::new(others.map(|member| etcd.address(member).to_string()).collect()).await;
    // It may have been the leader.
    let mut kv = publisher.0.kv_client();
    while kv.put(KEY, set(&["b"]), None).await.is_err() {
        assert!(stopped.elapsed() < CEILING);
    }
    until_ids(&ours, &["b"]).await;
    assert!(stopped.elapsed() < STALE_CEILING, "{:?}", stopped.elapsed());
    etcd.resume(serving);
}

#[tokio::test]
async fn a_stopped_member_that_was_the_only_choice_says_so_in_the_status() {
    let Some(etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    Publisher::new(etcd.endpoints()).await.publish(set(&["a"])).await;
    let ours = store([etcd.address(0)]).await;
    etcd.pause(0);
    until_interrupted(&ours).await;
    let status = ours.status();
    assert!(status.age.is_some_and(|age| age > Duration::ZERO), "{status:?}");
    assert_eq!(ids(&ours), ["a"]);
    etcd.resume(0);
    until_live(&ours).await;
}

#[tokio::test]
async fn a_lost_quorum_is_an_interruption_that_serves_what_there_was() {
    let Some(mut etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store([etcd.address(0)]).await;
    etcd.kill(1);
    etcd.kill(2);
    until_interrupted(&ours).await;
    assert_eq!(ids(&ours), ["a"]);
    etcd.restart(1).unwrap();
    until_live(&ours).await;
    Publisher::new(vec![etcd.address(0).to_string()])
        .await
        .publish(set(&["b"]))
        .await;
    until_ids(&ours, &["b"]).await;
}

#[tokio::test]
async fn the_death_of_the_leader_is_survived_by_those_who_watch_a_follower() {
    let Some(mut etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    Publisher::new(etcd.endpoints()).await.publish(set(&["a"])).await;
    let leader = (0..3).find(|&member| etcd.is_leader(member)).unwrap();
    let follower = (leader + 1) % 3;
    let ours = store([etcd.address(follower)]).await;
    etcd.kill(leader);
    assert!(until(|| (0..3).any(|member| member != leader && etcd.is_leader(member))).await);
    let others = (0..3).filter(|&member| member != leader);
    let publisher = Publisher::new(others.map(|member| etcd.address(member).to_string()).collect()).await;
    publisher.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
    until_live(&ours).await;
}

#[tokio::test]
async fn what_was_compacted_away_while_away_is_made_up_for_by_a_read() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store([proxy.address()]).await;
    proxy.refuse(true);
    proxy.cut();
    until_interrupted(&ours).await;
    publisher.publish(set(&["b"])).await;
    publisher.delete().await;
    publisher.publish(set(&["c"])).await;
    publisher.compact().await;
    proxy.refuse(false);
    until_ids(&ours, &["c"]).await;
    until_live(&ours).await;
    publisher.publish(set(&["d"])).await;
    until_ids(&ours, &["d"]).await;
}

#[tokio::test]
async fn a_deletion_that_was_compacted_away_is_found() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store([proxy.address()]).await;
    proxy.refuse(true);
    proxy.cut();
    until_interrupted(&ours).await;
    publisher.delete().await;
    publisher.compact().await;
    proxy.refuse(false);
    until_ids(&ours, &[]).await;
}

#[tokio::test]
async fn a_wiped_cluster_is_another_history_though_its_id_is_the_same() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    for _ in 0..5 {
        publisher.publish(set(&["a"])).await;
    }
    let ours = store(etcd.endpoints()).await;
    let before = ours.load().origin().unwrap();
    etcd.wipe().unwrap();
    // Nothing was published there, and to a watch from the old revision on it would be silent for long.
    until_ids(&ours, &[]).await;
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
    let after = ours.load().origin().unwrap();
    assert!(after.revision < before.revision);
    assert_ne!(after.keyspace, before.keyspace);
}

#[tokio::test]
async fn a_wiped_cluster_that_has_come_further_is_found_all_the_same() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store([proxy.address()]).await;
    proxy.refuse(true);
    proxy.cut();
    until_interrupted(&ours).await;
    etcd.wipe().unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.compact().await;
    proxy.refuse(false);
    // Its revision is beyond the one before, its term and id are the same; but the key is not there.
    until_ids(&ours, &[]).await;
}

#[tokio::test]
async fn a_restored_cluster_is_read_anew() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["old"])).await;
    let snapshot = etcd.save_snapshot().unwrap();
    publisher.publish(set(&["new"])).await;
    let ours = store(etcd.endpoints()).await;
    until_ids(&ours, &["new"]).await;
    etcd.restore(&snapshot).unwrap();
    until_ids(&ours, &["old"]).await;
    Publisher::new(etcd.endpoints())
        .await
        .publish(set(&["newer"]))
        .await;
    until_ids(&ours, &["newer"]).await;
}

#[tokio::test]
async fn a_malformed_or_oversized_publish_changes_nothing_but_the_status() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["good"])).await;
    let ours = store(etcd.endpoints()).await;
    for (value, reason) in [
        ("{".to_owned(), Reason::InvalidJson),
        (" ".repeat(1 << 20), Reason::TooLarge),
    ] {
        publisher.publish(value).await;
        let rejected = |status: &tidewatch_directives::Status| {
            status
                .rejected
                .as_ref()
                .is_some_and(|rejected| rejected.rejection.reason() == reason)
        };
        until_status(&ours, rejected).await;
        until_live(&ours).await;
        assert_eq!(ids(&ours), ["good"]);
    }
    publisher.publish(set(&["better"])).await;
    until_ids(&ours, &["better"]).await;
}

#[tokio::test]
async fn an_etcd_without_space_is_read_and_watched_on() {
    let Some(etcd) = EtcdCluster::set_up(&Setup {
        args: vec!["--quota-backend-bytes=1048576".to_owned()],
        ..Setup::default()
    }) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let ours = store(etcd.endpoints()).await;
    let mut kv = publisher.0.kv_client();
    let mut filled = false;
    for _ in 0..100 {
        filled = filled || kv.put("/elsewhere", vec![b'x'; 200_000], None).await.is_err();
    }
    assert!(filled);
    publisher.delete().await;
    until_ids(&ours, &[]).await;
    let another = store(etcd.endpoints()).await;
    assert!(ids(&another).is_empty());
}

#[tokio::test]
async fn a_start_during_an_outage_begins_with_the_last_good_set_marked_stale() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set(&["a"])).await;
    let dir = tempfile::tempdir().unwrap();
    let connect = |budget| {
        EtcdDirectiveStore::builder(etcd.endpoints(), KEY)
            .last_good(dir.path().join("last-good"))
            .start_budget(budget)
            .connect()
    };
    drop(connect(CEILING).await.unwrap());
    etcd.pause(0);
    let ours = connect(Duration::from_secs(2)).await.unwrap();
    assert_eq!(ids(&ours), ["a"]);
    let status = ours.status();
    assert!(status.stale && status.age.is_some(), "{status:?}");
    etcd.resume(0);
    until_live(&ours).await;
    assert!(!ours.status().stale);
    let publish = tokio::time::timeout(CEILING, publisher.publish(set(&["b"])));
    publish.await.expect("etcd goes on");
    until_ids(&ours, &["b"]).await;
}

#[expect(clippy::disallowed_methods, reason = "etcd runs on the machine's time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
