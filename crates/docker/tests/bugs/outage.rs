//! Daemons that are away, hang, or come back.

use std::sync::Arc;

use tidewatch_docker::fake::{Call, FakeDocker, Fault};

use crate::world::{World, labelled, ms, secs};

#[tokio::test]
async fn bug_05_it_never_stops_trying() {
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
async fn bug_08_a_socket_that_is_down_declares_nothing_dead() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.docker.put(labelled("c2", "shop", "db"));
    world
        .until_rows(&["shop/db c2 running", "shop/web c1 running"])
        .await;
    let before = world.view().await.containers;
    world.docker.set_down(Some(Fault::unreachable()));
    world.docker.disconnect();
    world.pass(secs(600)).await;
    let host = world.host().await;
    assert!(
        !host.reachable && host.error.contains("connection refused"),
        "{host:?}"
    );
    assert_eq!(world.view().await.containers, before, "not one row was written");
    world.docker.set_down(None);
    world.pass(secs(10)).await;
    assert!(world.host().await.reachable);
    assert_eq!(world.view().await.containers, before);
}

#[tokio::test]
async fn bug_13_rule_12_a_hanging_host_delays_no_other() {
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
    assert!(other.calls().pings > 0);
}

#[tokio::test]
async fn bug_list_hang_is_given_up_after_its_deadline_though_pings_are_answered() {
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
async fn bug_14_a_proxy_that_cuts_every_few_seconds_makes_no_host_look_lost() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    let before = world.status.snapshot();
    let revision = world.revision().await;
    for _ in 0..20 {
        world.docker.disconnect();
        world.pass(secs(3)).await;
    }
    let after = world.status.snapshot();
    assert_eq!((after.reachable, after.since), (Some(true), before.since));
    assert_eq!(
        world.revision().await,
        revision,
        "it is told to nobody, for it is nothing"
    );
    assert!(
        after.resyncs - before.resyncs <= 22,
        "one for each, and the periodic one"
    );
    // What happened while nobody listened is there all the same.
    world.docker.disconnect();
    world.docker.remove_silently("c1");
    world.pass(secs(3)).await;
    assert_eq!(world.rows().await, ["shop/web c1 missing"]);
}
