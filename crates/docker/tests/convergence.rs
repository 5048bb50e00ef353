//! Whatever happens to containers and events: after one resync the rows say exactly what Docker does.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewatch_docker::Container;
use tidewatch_docker::fake::{Call, Fault};
use tidewatch_fleet::State;

use world::{World, labelled, ms};

/// Something that happens, on the host or to its events.
#[derive(Clone, Debug)]
enum Step {
    /// A container is made, or changes.
    Put {
        id: u8,
        role: bool,
        state: State,
        event: Delivery,
    },
    /// A container is removed.
    Remove { id: u8, event: Delivery },
    /// An event arrives late, or about nothing.
    Stray(u8),
    /// The connection breaks.
    Disconnect,
    /// The next list fails.
    ListFails,
    /// The next list by id never answers.
    ListHangs,
    /// Lists are held back from now on, having looked already.
    Hold,
    /// Lists go on.
    Release,
    /// Others get some turns, and time passes.
    Pass(u8),
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    Once,
    Twice,
    Lost,
}

fn any_step() -> impl Strategy<Value = Step> {
    let delivery = || {
        prop_oneof![
            3 => Just(Delivery::Once),
            1 => Just(Delivery::Twice),
            2 => Just(Delivery::Lost),
        ]
    };
    let state = prop_oneof![
        Just(State::Created),
        Just(State::Running),
        Just(State::Paused),
        Just(State::Restarting),
        Just(State::Stopped),
        Just(State::Dead),
    ];
    prop_oneof![
        8 => (0..5_u8, proptest::bool::ANY, state, delivery())
            .prop_map(|(id, role, state, event)| Step::Put { id, role, state, event }),
        4 => (0..5_u8, delivery()).prop_map(|(id, event)| Step::Remove { id, event }),
        2 => (0..7_u8).prop_map(Step::Stray),
        1 => Just(Step::Disconnect),
        1 => Just(Step::ListFails),
        1 => Just(Step::ListHangs),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        4 => (0..60_u8).prop_map(Step::Pass),
    ]
}

async fn play(world: &World, step: &Step) {
    let docker = &world.docker;
    let tell = |id: &str, action: &str, event: Delivery| match event {
        Delivery::Lost => {}
        Delivery::Once => docker.emit(id, action),
        Delivery::Twice => {
            docker.emit(id, action);
            docker.emit(id, action);
        }
    };
    match step {
        Step::Put {
            id,
            role,
            state,
            event,
        } => {
            let id = format!("c{id}");
            let mut container = labelled(&id, "shop", if *role { "web" } else { "db" });
            container.state = *state;
            docker.put_silently(container);
            tell(
                &id,
                if *state == State::Running { "start" } else { "die" },
                *event,
            );
        }
        Step::Remove { id, event } => {
            let id = format!("c{id}");
            docker.remove_silently(&id);
            tell(&id, "destroy", *event);
        }
        Step::Stray(id) => docker.emit(&format!("c{id}"), "start"),
        Step::Disconnect => docker.disconnect(),
        Step::ListFails => docker.fail_next(Call::List, Fault::unreachable()),
        Step::ListHangs => docker.fail_next(Call::ListIds, Fault::Hang),
        Step::Hold => docker.hold_lists(),
        Step::Release => docker.release_lists(),
        Step::Pass(time) => {
            world.clock.advance(ms(u64::from(*time)));
            for _ in 0..*time {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// What is wrong with the rows, compared with what runs.
async fn differences(world: &World, containers: &BTreeMap<String, Container>) -> Vec<String> {
    let view = world.view().await;
    let mut wrong = Vec::new();
    let mut rows: BTreeMap<&str, State> = BTreeMap::new();
    for entry in view.containers.values() {
        let row = &entry.value;
        if row.state != State::Missing && rows.insert(&row.container_id, row.state).is_some() {
            wrong.push(format!("{} has two rows", row.container_id));
        }
        if row.state == State::Missing && containers.contains_key(&row.container_id) {
            wrong.push(format!("{} is missing though it is there", row.container_id));
        }
    }
    for (id, container) in containers {
        match rows.remove(&**id) {
            Some(state) if state == container.state => {}
            other => wrong.push(format!("{id} is {} and its row says {other:?}", container.state)),
        }
    }
    wrong.extend(
        rows.into_keys()
            .map(|id| format!("{id} is gone and its row says otherwise")),
    );
    wrong
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_one_resync_the_rows_are_what_docker_shows(steps in proptest::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
        let wrong = runtime.block_on(async {
            let world = World::new(&["shop"]).await;
            for step in &steps {
                play(&world, step).await;
            }
            world.docker.release_lists();
            // Long enough for a list that hangs to be given up and for the connection to be made anew,
            // too short for a periodic resync to be what repairs it.
            world.pass(ms(16_000)).await;
            world.docker.emit_doubt();
            world.pass(ms(16_000)).await;
            differences(&world, &world.docker.containers()).await
        });
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }
}
