//! What only an inspection tells, and when it is asked for (rule 1).

use tidewatch_docker::Facts;
use tidewatch_docker::fake::{Call, Fault};
use tidewatch_fleet::State;

use crate::world::{World, labelled, ms, secs};

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
async fn a_container_that_cannot_be_inspected_gets_its_row_all_the_same() {
    let world = World::new(&["shop"]).await;
    world.docker.fail_next(Call::Inspect, Fault::unreachable());
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    assert!(world.host().await.reachable);
}

#[tokio::test]
async fn an_end_that_docker_tells_of_before_it_lists_it_is_shown_without_another_event() {
    for with_a_resync in [false, true] {
        let world = World::new(&["shop"]).await;
        world.docker.put(labelled("c1", "shop", "web"));
        world.until_rows(&["shop/web c1 running"]).await;
        world.pass(ms(50)).await;
        world.docker.hold_lists();
        if with_a_resync {
            world.docker.emit_doubt();
        }
        world.docker.emit("c1", "die");
        world.pass(ms(50)).await;
        assert_eq!(world.docker.waiting_lists(), 1, "it has seen the container run");
        let mut ended = labelled("c1", "shop", "web");
        ended.state = State::Stopped;
        ended.exit_code = Some(137);
        world.docker.put_silently(ended);
        let facts = Facts {
            exit_code: Some(137),
            ..Facts::default()
        };
        world.docker.set_facts("c1", facts);
        world.docker.release_lists();
        world.until_rows(&["shop/web c1 stopped"]).await;
        let lists = world.docker.calls();
        world.pass(ms(200)).await;
        assert_eq!(
            world.docker.calls().id_lists,
            lists.id_lists,
            "once more is enough"
        );
    }
}
