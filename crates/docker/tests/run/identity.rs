//! Another daemon behind the same address (rule 8).

use crate::world::{World, labelled, ms};

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
