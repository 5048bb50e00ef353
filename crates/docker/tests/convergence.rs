//! Whatever happens to containers, events, lists, daemons and reconcilers: after one resync the rows say exactly what
//! Docker does.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewatch_docker::fake::{Call, Fault};
use tidewatch_docker::{Container, Network};
use tidewatch_fleet::{ContainerRow, Health, State};

use world::{World, labelled, ms};

/// The two daemons that may answer at the same address.
const DAEMONS: [&str; 2] = ["d1", "d2"];

/// Something that happens, on the host, to its events, or to who looks after it.
#[derive(Clone, Debug)]
enum Step {
    /// A container is made, or changes.
    Put { id: u8, looks: Looks, event: Delivery },
    /// A container is removed.
    Remove { id: u8, event: Delivery },
    /// An event about nothing, or about what was long ago.
    Stray(u8),
    /// Events that were held up arrive, the last one first.
    Deliver,
    /// The connection breaks.
    Disconnect,
    /// The next list fails.
    ListFails,
    /// The next list by id never answers.
    ListHangs,
    /// The next inspection fails.
    InspectFails,
    /// Lists are held back from now on, having looked already.
    Hold,
    /// Lists go on.
    Release,
    /// The daemon goes away, and connections with it.
    DaemonStops,
    /// It hangs; connections stay.
    DaemonHangs,
    /// It is there again. Events of the meantime are lost.
    DaemonReturns,
    /// Another daemon answers at the address, with containers of its own.
    OtherDaemon,
    /// The reconciler ends as SIGTERM has it, and another one begins.
    Restart,
    /// It is killed, and the same instance begins anew.
    Kill,
    /// Others get some turns, and time passes.
    Pass(u8),
}

/// What a list shows of a container.
#[derive(Clone, Debug)]
struct Looks {
    role: bool,
    state: State,
    health: Option<Health>,
    connected: bool,
    renamed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    Once,
    Twice,
    Lost,
    Late,
}

fn any_step() -> impl Strategy<Value = Step> {
    let delivery = || {
        prop_oneof![
            3 => Just(Delivery::Once),
            1 => Just(Delivery::Twice),
            2 => Just(Delivery::Lost),
            2 => Just(Delivery::Late),
        ]
    };
    prop_oneof![
        10 => (0..5_u8, any_looks(), delivery()).prop_map(|(id, looks, event)| Step::Put { id, looks, event }),
        4 => (0..5_u8, delivery()).prop_map(|(id, event)| Step::Remove { id, event }),
        2 => (0..7_u8).prop_map(Step::Stray),
        2 => Just(Step::Deliver),
        1 => Just(Step::Disconnect),
        1 => Just(Step::ListFails),
        1 => Just(Step::ListHangs),
        1 => Just(Step::InspectFails),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        1 => Just(Step::DaemonStops),
        1 => Just(Step::DaemonHangs),
        3 => Just(Step::DaemonReturns),
        1 => Just(Step::OtherDaemon),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        5 => (0..60_u8).prop_map(Step::Pass),
    ]
}

fn any_looks() -> impl Strategy<Value = Looks> {
    let state = prop_oneof![
        Just(State::Created),
        Just(State::Running),
        Just(State::Paused),
        Just(State::Restarting),
        Just(State::Stopped),
        Just(State::Dead),
    ];
    let health = prop_oneof![
        Just(None),
        Just(Some(Health::Healthy)),
        Just(Some(Health::Unhealthy))
    ];
    (any::<bool>(), state, health, any::<bool>(), any::<bool>()).prop_map(
        |(role, state, health, connected, renamed)| Looks {
            role,
            state,
            health,
            connected,
            renamed,
        },
    )
}

/// A world, and what is not in it at the moment.
struct Story {
    world: World,
    daemon: usize,
    /// What the daemon runs that does not answer at the moment.
    elsewhere: BTreeMap<String, Container>,
    late: Vec<(String, &'static str)>,
}

impl Story {
    async fn begin() -> Self {
        Self {
            world: World::new(&["shop"]).await,
            daemon: 0,
            elsewhere: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// No two daemons give the same id.
    fn id(&self, id: u8) -> String {
        format!("{}-c{id}", DAEMONS[self.daemon])
    }

    fn tell(&mut self, id: String, action: &'static str, event: Delivery) {
        let docker = &self.world.docker;
        match event {
            Delivery::Lost => {}
            Delivery::Late => self.late.push((id, action)),
            Delivery::Once => docker.emit(&id, action),
            Delivery::Twice => {
                docker.emit(&id, action);
                docker.emit(&id, action);
            }
        }
    }

    fn put(&mut self, id: u8, looks: &Looks, event: Delivery) {
        let id = self.id(id);
        let mut container = labelled(&id, "shop", if looks.role { "web" } else { "db" });
        container.state = looks.state;
        container.health = looks.health;
        if looks.connected {
            container.networks = vec![Network {
                name: "front".into(),
                ip: "10.0.0.2".into(),
            }];
        }
        if looks.renamed {
            container.name.push_str("-again");
        }
        self.world.docker.put_silently(container);
        let runs = looks.state == State::Running;
        self.tell(id, if runs { "start" } else { "die" }, event);
    }

    fn switch_daemon(&mut self) {
        let docker = &self.world.docker;
        self.daemon = 1 - self.daemon;
        let own = std::mem::replace(&mut self.elsewhere, docker.containers());
        docker.clear();
        docker.become_daemon(DAEMONS[self.daemon]);
        for container in own.into_values() {
            docker.put_silently(container);
        }
        docker.disconnect();
        self.late.clear();
    }

    /// Another reconciler of the same host.
    fn succeed(&mut self) {
        let world = &self.world;
        let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i1");
        self.world = next;
    }

    async fn play(&mut self, step: &Step) {
        let docker = self.world.docker.clone();
        match step {
            Step::Put { id, looks, event } => self.put(*id, looks, *event),
            Step::Remove { id, event } => {
                let id = self.id(*id);
                docker.remove_silently(&id);
                self.tell(id, "destroy", *event);
            }
            Step::Stray(id) => docker.emit(&self.id(*id), "start"),
            Step::Deliver => {
                for (id, action) in self.late.drain(..).rev() {
                    docker.emit(&id, action);
                }
            }
            Step::Disconnect => docker.disconnect(),
            Step::ListFails => docker.fail_next(Call::List, Fault::unreachable()),
            Step::ListHangs => docker.fail_next(Call::ListIds, Fault::Hang),
            Step::InspectFails => docker.fail_next(Call::Inspect, Fault::unreachable()),
            Step::Hold => docker.hold_lists(),
            Step::Release => docker.release_lists(),
            Step::DaemonStops => {
                docker.set_down(Some(Fault::unreachable()));
                docker.disconnect();
            }
            Step::DaemonHangs => docker.set_down(Some(Fault::Hang)),
            Step::DaemonReturns => docker.set_down(None),
            Step::OtherDaemon => self.switch_daemon(),
            Step::Restart => {
                self.world.stop().await;
                self.succeed();
            }
            Step::Kill => {
                self.world.kill();
                self.succeed();
            }
            Step::Pass(time) => {
                self.world.clock.advance(ms(u64::from(*time)));
                for _ in 0..*time {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Lets everything be well, and everything be listed once.
    async fn end(&mut self) {
        let docker = &self.world.docker;
        docker.set_down(None);
        docker.release_lists();
        // Long enough for what hangs to be given up and for the connection to be made anew.
        self.world.pass(ms(35_000)).await;
        self.world.docker.emit_doubt();
        self.world.pass(ms(5_000)).await;
    }

    /// What is wrong with the rows, compared with what runs.
    async fn differences(&self) -> Vec<String> {
        let view = self.world.view().await;
        let mut wrong: Vec<_> = view
            .skipped
            .keys()
            .map(|key| format!("{key:?} cannot be read"))
            .collect();
        let mut rows: BTreeMap<&str, &ContainerRow> = BTreeMap::new();
        for entry in view.containers.values() {
            let row = &entry.value;
            let id = &row.container_id;
            let gone = matches!(row.state, State::Missing | State::Unknown);
            if row.daemon_id != DAEMONS[self.daemon] {
                if row.state != State::Unknown {
                    wrong.push(format!("{id} is another daemon's and its row says {}", row.state));
                }
            } else if !gone && rows.insert(id, row).is_some() {
                wrong.push(format!("{id} has two rows"));
            }
        }
        for (id, container) in &self.world.docker.containers() {
            let row = rows.remove(&**id);
            let says_so = row.is_some_and(|row| {
                row.state == container.state
                    && row.health == container.health
                    && row.name == container.name
                    && row.networks == container.networks
            });
            if !says_so {
                wrong.push(format!("{container:?} runs and its row says {row:?}"));
            }
        }
        wrong.extend(
            rows.into_keys()
                .map(|id| format!("{id} is gone and its row says otherwise")),
        );
        let host = self.world.host().await;
        if !host.reachable || host.daemon_id != DAEMONS[self.daemon] {
            wrong.push(format!("the host is {host:?}"));
        }
        wrong
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_one_resync_the_rows_are_what_docker_shows(steps in proptest::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
        let wrong = runtime.block_on(async {
            let mut story = Story::begin().await;
            for step in &steps {
                story.play(step).await;
            }
            story.end().await;
            story.differences().await
        });
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }
}
