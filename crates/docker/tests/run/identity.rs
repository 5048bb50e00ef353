//! Another daemon behind the same address (rule 8).

use crate::world::{World, labelled, secs};

#[tokio::test]
async fn rule_8_a_daemon_that_is_replaced_while_it_is_asked_sweeps_nothing() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    let row = || async { world.ks.get("/containers/shop/h1/web").await.unwrap().unwrap() };
    let before = row().await;
    world.docker.hold_lists();
    world.docker.clear();
    world.docker.emit_doubt();
    world
        .until("the list waits", || world.docker.waiting_lists() == 1)
        .await;
    world.docker.become_daemon("d2");
    world.docker.release_lists();
    world.until_rows(&["shop/web c1 unknown"]).await;
    assert_eq!(
        row().await.version,
        before.version + 1,
        "it was never said to be missing"
    );
}

#[tokio::test]
async fn a_daemon_is_asked_who_it_is_once_a_session_and_before_what_a_full_list_says_is_written() {
    let world = World::new(&["shop"]).await;
    world.settle().await;
    let before = world.docker.calls();
    world.pass(secs(300)).await;
    let after = world.docker.calls();
    assert!(after.lists >= before.lists + 4, "{after:?}");
    assert_eq!(after.daemons, before.daemons, "nothing has changed");
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.docker.emit_doubt();
    world.until_rows(&["shop/web c1 running"]).await;
    assert_eq!(world.docker.calls().daemons, before.daemons + 1);
    world.pass(secs(600)).await;
    let later = world.docker.calls().daemons;
    assert_eq!(later, before.daemons + 2, "what it is may have been upgraded");
    world.docker.disconnect();
    world.pass(secs(5)).await;
    assert_eq!(world.docker.calls().daemons, later + 1, "it may be another one");
}
