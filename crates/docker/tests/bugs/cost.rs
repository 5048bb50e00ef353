//! What is asked, and how much of it.

use tidewatch_docker::Container;
use tidewatch_fleet::State;

use crate::world::{World, labelled, ms};

#[tokio::test]
async fn bug_06_health_probes_cost_no_inspection() {
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
async fn bug_dead_containers_by_the_thousand_cost_one_list_and_no_inspection() {
    let world = World::new(&["shop"]).await;
    for n in 0..21_000 {
        let mut dead = Container::new(format!("dead{n}"), format!("run-{n}"));
        dead.state = State::Dead;
        world.docker.put_silently(dead);
    }
    world.docker.put_silently(labelled("c1", "shop", "web"));
    let before = world.docker.calls();
    world.docker.emit_doubt();
    world.until_rows(&["shop/web c1 running"]).await;
    let after = world.docker.calls();
    assert_eq!(
        (after.lists - before.lists, after.id_lists - before.id_lists),
        (1, 0)
    );
    assert_eq!(after.inspects - before.inspects, 1, "of the one that has a row");
    assert_eq!(world.status.untracked().len(), 21_000);
}
