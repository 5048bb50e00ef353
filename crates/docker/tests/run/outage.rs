//! A daemon or a keyspace that is not there, and what a daemon that is there costs (rules 8 and 12).

use std::sync::atomic::Ordering;

use tidewatch_core::{Clock, Keyspace, ManualClock};
use tidewatch_docker::fake::{FakeDocker, Fault};

use crate::world::{self, World, labelled, ms, secs};

#[tokio::test]
async fn rule_12_a_quiet_host_costs_a_ping_every_two_seconds_and_nothing_else() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    let before = world.docker.calls();
    let revision = world.revision().await;
    world.pass(secs(40)).await;
    let after = world.docker.calls();
    assert_eq!(after.pings - before.pings, 20);
    assert_eq!(
        (
            after.lists,
            after.id_lists,
            after.inspects,
            after.daemons,
            after.subscriptions
        ),
        (
            before.lists,
            before.id_lists,
            before.inspects,
            before.daemons,
            before.subscriptions
        )
    );
    world.pass(secs(600)).await;
    assert_eq!(
        world.revision().await,
        revision,
        "and nothing is written, resyncs included"
    );
    assert!(world.docker.calls().lists > after.lists);
}

#[tokio::test]
async fn rule_12_a_daemon_that_hangs_shows_within_five_seconds_and_its_rows_stay() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    // The worst moment: right after a ping was answered.
    let pings = world.docker.calls().pings;
    while world.docker.calls().pings == pings {
        world.pass(ms(10)).await;
    }
    world.docker.set_down(Some(Fault::Hang));
    world.pass(ms(4_400)).await;
    assert!(world.host().await.reachable);
    world.pass(ms(600)).await;
    let host = world.host().await;
    assert!(!host.reachable);
    assert!(host.error.contains("did not answer within"), "{}", host.error);
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    let revision = world.revision().await;
    world.pass(secs(120)).await;
    assert_eq!(world.revision().await, revision, "an outage is told once");
    world.docker.set_down(None);
    world.pass(secs(16)).await;
    assert!(world.host().await.reachable);
}

#[tokio::test]
async fn a_server_that_starts_without_a_docker_shows_it_and_finds_it_later() {
    let clock = ManualClock::new();
    let ks = world::keyspace(&clock);
    let docker = FakeDocker::new("d1");
    docker.set_down(Some(Fault::unreachable()));
    let world = World::start(clock, ks, docker, "i1");
    world.pass(secs(8)).await;
    let host = world.host().await;
    assert!(
        !host.reachable && host.error.contains("docker cannot be reached at fake"),
        "{host:?}"
    );
    assert_eq!(world.status.snapshot().reachable, Some(false));
    world.docker.set_down(None);
    world.pass(secs(6)).await;
    let host = world.host().await;
    assert!(host.reachable && host.daemon_id == "d1" && host.versions["engine"] == "1.0");
}

#[tokio::test]
async fn a_keyspace_that_is_gone_is_tried_again_and_told() {
    let clock = ManualClock::new();
    let ks = Keyspace::memory();
    ks.close();
    let world = World::start(clock, ks, FakeDocker::new("d1"), "i1");
    world.pass(secs(5)).await;
    assert!(world.status.snapshot().store_error.contains("closed"));
    assert!(world.clock.next_deadline().unwrap() > world.clock.now());
}

#[tokio::test]
async fn what_happened_while_the_keyspace_was_out_of_reach_is_written_when_it_is_back() {
    let (world, stalled) = World::stalled().await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    stalled.unreachable.store(true, Ordering::SeqCst);
    world.docker.put(labelled("c2", "shop", "db"));
    world.docker.remove("c1");
    world.pass(secs(5)).await;
    assert!(world.status.snapshot().store_error.contains("cannot be reached"));
    assert_eq!(
        world.status.snapshot().reachable,
        Some(true),
        "that is not the daemon's fault"
    );
    stalled.unreachable.store(false, Ordering::SeqCst);
    world.pass(secs(6)).await;
    assert_eq!(world.rows().await, ["shop/db c2 running", "shop/web c1 missing"]);
    assert_eq!(world.status.snapshot().store_error, "");
}

#[tokio::test]
async fn rule_12_a_daemon_that_answers_again_is_seen_within_five_seconds() {
    for hung_ms in [20_000, 21_300, 22_700, 60_100] {
        let world = World::new(&["shop"]).await;
        world.docker.set_down(Some(Fault::Hang));
        world.pass(ms(hung_ms)).await;
        assert!(!world.host().await.reachable);
        world.docker.put_silently(labelled("c1", "shop", "web"));
        world.docker.set_down(None);
        world.pass(secs(5)).await;
        assert!(world.host().await.reachable, "after {hung_ms} ms");
        assert_eq!(world.rows().await, ["shop/web c1 running"]);
    }
}

/// What `tidewatch hosts` shows: since when, to the second, and why.
#[tokio::test]
async fn rule_12_an_outage_says_since_when_and_why_and_flips_no_row() {
    for (fault, why) in [
        (Fault::Hang, "did not answer within"),
        (
            Fault::unreachable(),
            "docker cannot be reached at fake: connection refused",
        ),
    ] {
        let world = World::new(&["shop"]).await;
        world.docker.put(labelled("c1", "shop", "web"));
        world.until_rows(&["shop/web c1 running"]).await;
        let rows = world.view().await.containers;
        world.pass(secs(90)).await;
        let began = world.clock.system_time();
        world.docker.set_down(Some(fault));
        world.pass(secs(5)).await;
        let status = world.status.snapshot();
        assert_eq!(status.reachable, Some(false));
        let since = status.since.unwrap();
        assert!(since > began && since <= began + secs(5));
        assert!(status.error.contains(why), "{}", status.error);
        let host = world.host().await;
        assert!(!host.reachable && host.error.contains(why), "{host:?}");
        world.pass(secs(300)).await;
        assert_eq!(
            world.status.snapshot().since,
            Some(since),
            "it stays the same outage"
        );
        assert_eq!(world.view().await.containers, rows);
    }
}
