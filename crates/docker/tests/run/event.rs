//! What is heard is acted on at once, and never waited for (rule 11).

use std::sync::atomic::Ordering;

use tidewatch_fleet::State;

use crate::world::{World, labelled, ms, secs};

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
async fn rule_11_the_event_reader_never_waits_for_the_keyspace() {
    let (world, stalled) = World::stalled().await;
    stalled.hangs.store(true, Ordering::SeqCst);
    world.docker.put(labelled("c0", "shop", "web"));
    world
        .until("the keyspace hangs", || {
            stalled.waiting.load(Ordering::SeqCst) > 0
        })
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
