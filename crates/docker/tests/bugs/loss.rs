//! Events that are missed, and lists that are overtaken.

use tidewatch_core::{Clock, ManualClock};
use tidewatch_docker::Network;
use tidewatch_docker::fake::{Call, FakeDocker, Fault};

use crate::world::{self, World, labelled, ms, secs};

#[tokio::test]
async fn bug_01_rule_10_it_subscribes_first_and_lists_then() {
    let clock = ManualClock::new();
    let docker = FakeDocker::new("d1");
    docker.fail_next(Call::Subscribe, Fault::Hang);
    let ks = world::keyspace(&clock);
    let world = World::start(clock, ks, docker, "i1");
    world.settle().await;
    assert_eq!(world.docker.calls().subscriptions, 1);
    assert_eq!(
        world.docker.calls().lists,
        0,
        "nothing is listed before the subscription stands"
    );
    world.pass(secs(16)).await;
    assert_eq!(world.docker.calls().subscriptions, 2);
    assert_eq!(world.docker.calls().lists, 1);
}

#[tokio::test]
async fn bug_01_a_subscription_reaches_back_to_before_it_was_asked_for() {
    let world = World::new(&["shop"]).await;
    world.pass(secs(30)).await;
    let asked = world.clock.system_time();
    world.docker.disconnect();
    world.pass(ms(300)).await;
    assert_eq!(world.docker.calls().subscriptions, 2);
    let since = world.docker.last_since().unwrap();
    assert!(since <= asked - secs(9), "an engine answers before it listens");
    assert!(since >= asked - secs(11), "and need not tell everything again");
}

#[tokio::test]
async fn bug_02_rule_10_a_lost_event_is_repaired_by_the_periodic_resync_and_counted_as_drift() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.remove_silently("c1");
    world.pass(secs(53)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    assert_eq!(world.status.snapshot().drift, 0);
    world.pass(secs(14)).await;
    assert_eq!(world.rows().await, ["shop/web c1 missing"]);
    assert_eq!(world.status.snapshot().drift, 1);
}

#[tokio::test]
async fn bug_03_rule_10_a_container_that_changes_during_its_list_is_listed_again() {
    let world = World::new(&["shop"]).await;
    world.docker.hold_lists();
    world.docker.put(labelled("c1", "shop", "web"));
    world
        .until("the list waits", || world.docker.waiting_lists() == 1)
        .await;
    // The list that waits has seen it running; a list that is overtaken must not have the last word.
    world.docker.remove("c1");
    world.docker.release_lists();
    world.pass(ms(50)).await;
    assert_eq!(world.rows().await, ["shop/web c1 missing"]);
}

#[tokio::test]
async fn bug_07_a_network_that_is_connected_shows() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.change("c1", "network connect", |container| {
        container.networks.push(Network {
            name: "backend".into(),
            ip: "10.0.0.2".into(),
        });
    });
    world.pass(ms(50)).await;
    let view = world.view().await;
    assert_eq!(
        view.containers.values().next().unwrap().value.networks[0].name,
        "backend"
    );
}

#[tokio::test]
async fn bug_12_rule_11_events_are_read_while_a_list_hangs() {
    let world = World::new(&["shop"]).await;
    world.docker.hold_lists();
    world.docker.emit("c1", "start");
    world
        .until("a list waits", || world.docker.waiting_lists() == 1)
        .await;
    for n in 0..10_000 {
        world.docker.emit(&format!("c{n}"), "start");
    }
    world
        .until("all events are read", || world.status.snapshot().events == 10_001)
        .await;
    assert_eq!(world.docker.waiting_lists(), 1);
}

#[tokio::test]
async fn bug_12_rule_10_every_reconnect_leads_to_a_full_resync_whatever_is_replayed() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.remove_silently("c1");
    world.docker.put_silently(labelled("c2", "shop", "db"));
    world.docker.disconnect();
    world.pass(ms(300)).await;
    assert_eq!(world.rows().await, ["shop/db c2 running", "shop/web c1 missing"]);
    assert!(world.host().await.reachable);
}

#[tokio::test]
async fn bug_14_what_is_told_again_writes_nothing() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.docker.put(labelled("c2", "shop", "db"));
    world.docker.remove("c2");
    world.until_rows(&["shop/web c1 running"]).await;
    world.pass(secs(2)).await;
    let revision = world.revision().await;
    world.docker.disconnect();
    world.pass(secs(2)).await;
    for (id, action) in [
        ("c1", "create"),
        ("c1", "start"),
        ("c2", "start"),
        ("c2", "destroy"),
    ] {
        world.docker.emit(id, action);
    }
    world.pass(secs(2)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    let host = world.ks.get("/hosts/h1").await.unwrap().unwrap();
    let last = world.revision().await;
    assert!(
        last == revision || last == host.mod_revision,
        "only the host may tell of it"
    );
}
