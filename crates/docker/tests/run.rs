//! A reconciler that runs: what it hears, when it looks, and what it does when something fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewatch_core::{Clock, Keyspace, ManualClock};
use tidewatch_docker::fake::{Call, FakeDocker, Fault};
use tidewatch_docker::{Facts, Network};
use tidewatch_fleet::State;

use world::stalled::Stalled;
use world::{World, labelled, ms, secs};

#[tokio::test]
async fn rule_10_it_subscribes_first_and_lists_then() {
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
async fn rule_11_the_first_event_is_acted_on_at_once() {
    let world = World::new(&["shop"]).await;
    let lists = world.docker.calls().lists;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world
        .docker
        .change("c1", "die", |container| container.state = State::Stopped);
    world.pass(ms(20)).await;
    world.until_rows(&["shop/web c1 stopped"]).await;
    assert_eq!(world.docker.calls().lists, lists, "a list by id is enough");
}

#[tokio::test]
async fn rule_11_a_burst_is_coalesced() {
    let world = World::new(&["shop"]).await;
    let before = world.docker.calls().id_lists;
    for n in 0..200 {
        world.docker.put(labelled(&format!("c{}", n % 5), "shop", "web"));
        tokio::task::yield_now().await;
    }
    world.pass(ms(100)).await;
    assert_eq!(world.rows().await.len(), 5);
    let lists = world.docker.calls().id_lists - before;
    assert!(lists <= 3, "{lists} lists for a burst");
}

#[tokio::test]
async fn rule_11_events_are_read_while_a_list_hangs() {
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
async fn rule_10_a_container_that_changes_during_its_list_is_listed_again() {
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
async fn rule_10_a_lost_event_is_repaired_by_the_periodic_resync_and_counted_as_drift() {
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
async fn rule_10_any_sign_of_loss_leads_to_a_full_resync_that_is_no_drift() {
    let world = World::new(&["shop"]).await;
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.docker.emit_doubt();
    world.until_rows(&["shop/web c1 running"]).await;
    assert_eq!(world.status.snapshot().drift, 0);
}

#[tokio::test]
async fn rule_10_every_reconnect_leads_to_a_full_resync() {
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
async fn rule_10_more_dirty_containers_than_a_list_by_id_is_worth_are_listed_with_everything() {
    let world = World::new(&["shop"]).await;
    let before = world.docker.calls();
    world.docker.hold_lists();
    for n in 0..1_500 {
        world.docker.put(labelled(&format!("c{n:04}"), "shop", "web"));
    }
    world
        .until("all events are read", || world.status.snapshot().events == 1_500)
        .await;
    world.docker.release_lists();
    world.pass(ms(300)).await;
    assert_eq!(world.rows().await.len(), 1_500);
    assert!(world.docker.calls().id_lists <= before.id_lists + 1);
    assert!(world.docker.calls().lists <= before.lists + 2);
}

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
async fn it_never_stops_trying() {
    let world = World::new(&["shop"]).await;
    world.docker.set_down(Some(Fault::unreachable()));
    world.docker.disconnect();
    for _ in 0..500 {
        world.clock.advance(secs(300));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    let tried = world.status.snapshot().failures;
    assert!(tried >= 500, "after 41 hours it still tries: {tried}");
    world.docker.set_down(None);
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.pass(secs(6)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
}

#[tokio::test]
async fn rule_12_a_hanging_host_delays_no_other() {
    let world = World::new(&["shop"]).await;
    let other = FakeDocker::new("d2");
    other.set_down(Some(Fault::Hang));
    let reconciler = tidewatch_docker::Reconciler::builder("h2".parse().unwrap(), other.clone())
        .keyspace(world.ks.clone())
        .events(other.clone())
        .clock(Arc::new(world.clock.clone()))
        .build();
    tokio::spawn(reconciler.run(std::future::pending()));
    world.settle().await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    assert!(other.calls().subscriptions > 0);
}

#[tokio::test]
async fn health_probes_cost_no_inspection() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.pass(ms(50)).await;
    let before = world.docker.calls();
    for _ in 0..50 {
        world.docker.change("c1", "health_status: healthy", |container| {
            container.health = Some(tidewatch_fleet::Health::Healthy);
        });
    }
    world.pass(ms(100)).await;
    let after = world.docker.calls();
    assert_eq!(after.inspects, before.inspects);
    assert!(after.id_lists - before.id_lists <= 2);
    let view = world.view().await;
    let row = &view.containers.values().next().unwrap().value;
    assert_eq!(row.health, Some(tidewatch_fleet::Health::Healthy));
}

#[tokio::test]
async fn a_network_that_is_connected_shows() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.change("c1", "connect", |container| {
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
async fn what_only_an_inspection_tells_is_learnt_on_transitions_also_when_the_state_ends_up_the_same() {
    let world = World::new(&["shop"]).await;
    let facts = |count, at: &str| Facts {
        restart_count: count,
        started_at: Some(at.into()),
        ..Facts::default()
    };
    world.docker.set_facts("c1", facts(0, "2026-01-01T00:00:00Z"));
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.pass(ms(50)).await;
    world.docker.set_facts("c1", facts(1, "2026-01-01T00:00:09Z"));
    world.docker.emit("c1", "die");
    world.docker.emit("c1", "start");
    world.pass(ms(50)).await;
    let view = world.view().await;
    let row = &view.containers.values().next().unwrap().value;
    assert_eq!(row.restart_count, 1);
    assert_eq!(row.started_at.as_deref(), Some("2026-01-01T00:00:09Z"));
    let oom = Facts {
        oom_killed: true,
        ..facts(1, "2026-01-01T00:00:09Z")
    };
    world.docker.set_facts("c1", oom);
    world.docker.change("c1", "die", |container| {
        container.state = State::Stopped;
        container.exit_code = Some(137);
    });
    world.pass(ms(50)).await;
    let view = world.view().await;
    let row = &view.containers.values().next().unwrap().value;
    assert!(row.oom_killed && row.exit_code == Some(137));
    let inspects = world.docker.calls().inspects;
    world.pass(secs(130)).await;
    assert_eq!(world.docker.calls().inspects, inspects, "none in a steady tick");
}

#[tokio::test]
async fn why_a_start_failed_is_learnt_though_the_container_stays_created() {
    let world = World::new(&["shop"]).await;
    let mut container = labelled("c1", "shop", "web");
    container.state = State::Created;
    world.docker.put(container);
    world.until_rows(&["shop/web c1 created"]).await;
    world.pass(ms(50)).await;
    let failed = Facts {
        exit_code: Some(127),
        error: "no such program".to_owned(),
        ..Facts::default()
    };
    world.docker.set_facts("c1", failed);
    world.docker.emit("c1", "network disconnect");
    world.pass(ms(50)).await;
    let view = world.view().await;
    let row = &view.containers.values().next().unwrap().value;
    assert_eq!((row.state, row.exit_code), (State::Created, Some(127)));
    assert_eq!(row.reason, "no such program");
}

#[tokio::test]
async fn a_container_that_waits_for_its_workload_gets_its_row_when_that_is_declared() {
    let world = World::new(&[]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.pass(ms(200)).await;
    assert_eq!(world.rows().await, [""; 0]);
    let told = world.status.explain("shop-web-c1");
    assert_eq!(told[0].untracked().unwrap().name(), "unknown_workload");
    let workload = r#"{"id":"shop","kind":"stack"}"#;
    world.ks.put("/workloads/shop", workload).await.unwrap();
    world.pass(ms(200)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    assert!(world.status.untracked().is_empty());
    assert!(world.status.explain("c1")[0].untracked().is_none());
}

#[tokio::test]
async fn rows_of_many_containers_are_written_in_several_transactions() {
    let world = World::new(&["shop"]).await;
    for n in 0..500 {
        world
            .docker
            .put_silently(labelled(&format!("c{n:03}"), "shop", "web"));
    }
    world.docker.emit_doubt();
    world
        .until("the rows are written", || world.status.snapshot().changes == 500)
        .await;
    assert_eq!(world.rows().await.len(), 500);
    let revision = world.revision().await;
    world.docker.emit_doubt();
    world.pass(ms(50)).await;
    assert_eq!(world.revision().await, revision);
}

#[tokio::test]
async fn the_host_is_claimed_with_a_lease_and_given_up_on_shutdown() {
    let mut world = World::new(&[]).await;
    let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
    assert_eq!(&alive.value[..], br#"{"instance":"i1"}"#);
    let lease = alive.lease.unwrap();
    let (_, info) = world.ks.lease_info(lease).await.unwrap();
    assert_eq!(info.granted, secs(10));
    world.pass(secs(60)).await;
    let kept = world.ks.get("/alive/h1").await.unwrap().unwrap();
    assert_eq!(
        kept.mod_revision, alive.mod_revision,
        "kept alive, never rewritten"
    );
    world.stop().await;
    assert!(world.ks.get("/alive/h1").await.unwrap().is_none());
}

#[tokio::test]
async fn an_instance_that_comes_back_takes_its_host_over_at_once() {
    let mut world = World::new(&["shop"]).await;
    world.kill();
    world.settle().await;
    world.docker.put_silently(labelled("c1", "shop", "web"));
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i1");
    next.until_rows(&["shop/web c1 running"]).await;
}

#[tokio::test]
async fn another_instance_waits_until_the_lease_has_expired() {
    let mut world = World::new(&["shop"]).await;
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i2");
    next.settle().await;
    assert_eq!(next.status.snapshot().ours, Some(false));
    assert_eq!(next.status.snapshot().held_by, "i1");
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    assert_eq!(next.status.snapshot().changes, 0);
    world.kill();
    world.docker.put_silently(labelled("c2", "shop", "db"));
    next.pass(ms(9_000)).await;
    assert_eq!(next.rows().await, ["shop/web c1 running"]);
    next.pass(ms(6_000)).await;
    assert_eq!(next.rows().await, ["shop/db c2 running", "shop/web c1 running"]);
}

#[tokio::test]
async fn a_plan_is_not_applied_once_the_host_is_somebody_elses() {
    let world = World::new(&["shop"]).await;
    let (_, grant) = world.ks.lease_grant(None, secs(600)).await.unwrap();
    let theirs = tidewatch_core::txn::PutRequest::new("/alive/h1", r#"{"instance":"other"}"#);
    world.ks.txn(theirs.lease(grant.id).into()).await.unwrap();
    world.docker.put(labelled("c1", "shop", "web"));
    world.pass(secs(5)).await;
    assert_eq!(world.rows().await, [""; 0]);
    assert_eq!(world.status.snapshot().held_by, "other");
    world.ks.lease_revoke(grant.id).await.unwrap();
    world.pass(secs(5)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
}

#[tokio::test]
async fn rule_8_another_daemon_never_sweeps_the_rows_of_the_first_one() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.clear();
    world.docker.become_daemon("d2");
    world.docker.put_silently(labelled("c2", "shop", "web"));
    world.docker.disconnect();
    world.pass(ms(300)).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 unknown", "shop/web.2 c2 running"]
    );
    assert_eq!(world.host().await.daemon_id, "d2");
    // The first one is back: its rows say what it shows.
    world.docker.clear();
    world.docker.become_daemon("d1");
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.docker.disconnect();
    world.pass(secs(1)).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 running", "shop/web.2 c2 unknown"]
    );
    pass_hours(&world, 25).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 running"],
        "retired after the retention time"
    );
}

#[tokio::test]
async fn rule_8_a_daemon_that_is_replaced_while_it_is_asked_sweeps_nothing() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.hold_lists();
    world.docker.clear();
    world.docker.emit_doubt();
    world
        .until("the list waits", || world.docker.waiting_lists() == 1)
        .await;
    world.docker.become_daemon("d2");
    world.docker.release_lists();
    world.settle().await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    world.pass(ms(300)).await;
    assert_eq!(world.rows().await, ["shop/web c1 unknown"]);
}

async fn pass_hours(world: &World, hours: u32) {
    for _ in 0..hours * 12 {
        world.clock.advance(Duration::from_secs(300));
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    world.pass(secs(2)).await;
}

#[tokio::test]
async fn rule_4_a_missing_row_is_kept_for_a_day_and_its_project_for_as_long() {
    let world = World::new(&[]).await;
    let mut container = labelled("c1", "", "");
    container.labels = [
        ("com.docker.compose.project".to_owned(), "blog".to_owned()),
        ("com.docker.compose.service".to_owned(), "web".to_owned()),
    ]
    .into();
    world.docker.put(container);
    world.until_rows(&["compose-blog/web c1 running"]).await;
    world.docker.remove("c1");
    world.pass(ms(50)).await;
    assert_eq!(world.rows().await, ["compose-blog/web c1 missing"]);
    pass_hours(&world, 23).await;
    assert_eq!(world.rows().await, ["compose-blog/web c1 missing"]);
    assert!(world.view().await.workloads.contains_key("compose-blog"));
    pass_hours(&world, 2).await;
    assert_eq!(world.rows().await, [""; 0]);
    assert!(
        world.view().await.workloads.is_empty(),
        "retired when no host has a row of it"
    );
}

#[tokio::test]
async fn rule_13_a_project_is_not_retired_while_another_host_has_containers_of_it() {
    let world = World::new(&[]).await;
    let workload = r#"{"id":"compose-blog","kind":"compose"}"#;
    world.ks.put("/workloads/compose-blog", workload).await.unwrap();
    let row = r#"{"id":"compose-blog:web","workload_id":"compose-blog","workload_kind":"compose","role":"web","host":"h2","container_id":"c9","state":"running"}"#;
    world
        .ks
        .put("/containers/compose-blog/h2/web", row)
        .await
        .unwrap();
    world.docker.emit_doubt();
    world.pass(secs(1)).await;
    assert!(world.view().await.workloads.contains_key("compose-blog"));
    world
        .ks
        .delete(tidewatch_core::key("/containers/compose-blog/h2/web").unwrap())
        .await
        .unwrap();
    world.docker.emit_doubt();
    world.pass(secs(1)).await;
    assert!(world.view().await.workloads.is_empty());
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
async fn a_restart_of_the_reconciler_writes_nothing_but_its_claim() {
    let mut world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.stop().await;
    let revision = world.revision().await;
    world.clock.advance(secs(1000));
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i1");
    next.until("a resync", || next.status.snapshot().resyncs > 0)
        .await;
    next.settle().await;
    assert_eq!(next.revision().await, revision.next());
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

/// A running world whose keyspace can be stalled; the rows are read around that.
async fn stalled() -> (World, Arc<Stalled>) {
    let clock = ManualClock::new();
    let ks = world::keyspace(&clock);
    ks.put("/workloads/shop", r#"{"id":"shop","kind":"stack"}"#)
        .await
        .unwrap();
    let stalled = Stalled::over(ks.clone());
    let mut world = World::start(clock, Keyspace::new(stalled.clone()), FakeDocker::new("d1"), "i1");
    world
        .until("the first resync", || world.status.snapshot().resyncs > 0)
        .await;
    world.settle().await;
    world.ks = ks;
    (world, stalled)
}

#[tokio::test]
async fn rule_11_the_event_reader_never_waits_for_the_keyspace() {
    let (world, stalled) = stalled().await;
    stalled.hangs.store(true, Ordering::SeqCst);
    world.docker.put(labelled("c0", "shop", "web"));
    world
        .until("the keyspace hangs", || *stalled.waiting.lock().unwrap() > 0)
        .await;
    for n in 1..5_000 {
        world.docker.emit(&format!("c{n}"), "start");
    }
    world
        .until("all events are read", || world.status.snapshot().events == 5_000)
        .await;
    stalled.hangs.store(false, Ordering::SeqCst);
    world.pass(secs(16)).await;
    assert_eq!(world.rows().await, ["shop/web c0 running"]);
}

#[tokio::test]
async fn what_happened_while_the_keyspace_was_out_of_reach_is_written_when_it_is_back() {
    let (world, stalled) = stalled().await;
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
async fn a_list_that_hangs_while_pings_are_answered_is_given_up_after_its_deadline() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.fail_next(Call::List, Fault::Hang);
    world.docker.remove_silently("c1");
    world.docker.emit_doubt();
    world.pass(ms(29_900)).await;
    assert!(world.host().await.reachable);
    world.pass(ms(200)).await;
    assert!(!world.host().await.reachable);
    assert_eq!(
        world.rows().await,
        ["shop/web c1 running"],
        "what cannot be listed is not gone"
    );
    world.pass(secs(1)).await;
    assert!(world.host().await.reachable);
    assert_eq!(world.rows().await, ["shop/web c1 missing"]);
}

#[tokio::test]
async fn a_container_that_cannot_be_inspected_gets_its_row_all_the_same() {
    let world = World::new(&["shop"]).await;
    world.docker.fail_next(Call::Inspect, Fault::unreachable());
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    assert!(world.host().await.reachable);
}

#[tokio::test]
async fn after_its_lease_was_lost_the_host_is_claimed_again_and_listed_again() {
    let world = World::new(&["shop"]).await;
    let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
    world.ks.lease_revoke(alive.lease.unwrap()).await.unwrap();
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.pass(secs(4)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    assert!(world.ks.get("/alive/h1").await.unwrap().is_some());
}

#[tokio::test]
async fn keys_about_the_host_that_somebody_deletes_come_back() {
    let world = World::new(&[]).await;
    for key in ["/alive/h1", "/hosts/h1"] {
        world.ks.delete(tidewatch_core::key(key).unwrap()).await.unwrap();
    }
    world.pass(secs(4)).await;
    assert!(
        world.ks.get("/alive/h1").await.unwrap().is_some(),
        "with the next keep-alive"
    );
    world.pass(secs(130)).await;
    assert!(world.host().await.reachable, "with the next resync but one");
}
