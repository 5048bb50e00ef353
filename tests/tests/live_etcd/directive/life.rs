//! How long directives live, with time moved by hand.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{Clock, ManualClock};
use tidewatch_directives::DirectiveStore;
use tidewatch_etcd::EtcdDirectiveStore;
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::tcp_proxy::TcpProxy;
use tidewatch_tests::wait::eventually_async;

use super::{KEY, Publisher, ids, set_with_ttl, until, until_ids};

#[tokio::test]
async fn a_life_of_four_seconds_ends_after_four_seconds_whatever_the_wall_clock_does() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set_with_ttl(&["a"], 4)).await;
    let clock = ManualClock::new();
    let ours = EtcdDirectiveStore::connect(etcd.endpoints(), KEY, Arc::new(clock.clone()))
        .await
        .unwrap();
    until_ids(&ours, &["a"]).await;
    clock.set_system_time(clock.system_time() - Duration::from_secs(3600));
    clock.advance(Duration::from_millis(3_999));
    assert_eq!(ids(&ours), ["a"]);
    clock.advance(Duration::from_millis(1));
    assert!(ids(&ours).is_empty());
}

/// How long the directive lives, and in which steps.
const LIFE: Duration = Duration::from_secs(4);
const STEP: Duration = Duration::from_millis(20);

#[tokio::test]
async fn neither_flapping_nor_restarting_gives_more_than_four_seconds() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let publisher = Publisher::new(etcd.endpoints()).await;
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let connect = || {
        EtcdDirectiveStore::builder([proxy.address().to_string()], KEY)
            .last_good(dir.path().join("last-good"))
            .clock(Arc::new(clock.clone()))
            .connect()
    };
    publisher.publish(set_with_ttl(&["a"], 4)).await;
    let mut ours = connect().await.unwrap();
    let is_live = |store: &EtcdDirectiveStore| store.status().connection.name() == "live";
    let (mut passed, mut cuts, mut restarts) = (Duration::ZERO, 0, 0);
    while passed + STEP < LIFE {
        assert_eq!(ids(&ours), ["a"], "after {passed:?}");
        if is_live(&ours) {
            proxy.cut();
            cuts += 1;
            assert!(until(|| !is_live(&ours)).await);
        } else if passed.as_millis() % 1_000 == 500 {
            drop(ours);
            ours = connect().await.unwrap();
            restarts += 1;
        }
        // Pauses pass with this clock; the attempts that follow take the machine's time.
        clock.advance(STEP);
        passed += STEP;
        eventually_async(Duration::from_millis(20), || std::future::ready(is_live(&ours))).await;
    }
    assert_eq!(ids(&ours), ["a"], "after {passed:?}");
    clock.advance(STEP);
    assert!(ids(&ours).is_empty());
    assert!(cuts + restarts > 5, "it flapped and restarted");
}

#[tokio::test]
async fn the_same_publish_found_in_a_restored_cluster_goes_on_where_its_life_was() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let publisher = Publisher::new(etcd.endpoints()).await;
    publisher.publish(set_with_ttl(&["a"], 10)).await;
    let snapshot = etcd.save_snapshot().unwrap();
    let clock = ManualClock::new();
    let ours = EtcdDirectiveStore::connect(etcd.endpoints(), KEY, Arc::new(clock.clone()))
        .await
        .unwrap();
    publisher.publish(set_with_ttl(&["b"], 10)).await;
    until_ids(&ours, &["b"]).await;
    clock.advance(Duration::from_secs(6));
    etcd.restore(&snapshot).unwrap();
    // Pauses pass with the clock.
    let restored = until(|| {
        clock.advance(Duration::from_millis(1));
        ids(&ours) == ["a"]
    });
    assert!(restored.await, "{:?}", ours.status());
    clock.advance(Duration::from_secs(4));
    assert!(ids(&ours).is_empty(), "it was first seen ten seconds ago");
}
