//! When everything is listed, and what that repairs (rule 10).

use crate::world::{World, labelled, ms};

#[tokio::test]
async fn rule_10_any_sign_of_loss_leads_to_a_full_resync_that_is_no_drift() {
    let world = World::new(&["shop"]).await;
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.docker.emit_doubt();
    world.until_rows(&["shop/web c1 running"]).await;
    assert_eq!(world.status.snapshot().drift, 0);
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
