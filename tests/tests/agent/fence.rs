//! What was seen before a pause is not written after it, once somebody else has had the host.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{Clock, Keyspace, ManualClock, Watch, key};
use tidewatch_docker::fake::FakeDocker;
use tidewatch_docker::{Container, LEASE_TTL, Reconciler, ReconcilerStatus};
use tidewatch_fleet::State;
use tokio::sync::oneshot;

use super::pausable::Pause;

/// The most turns other tasks get until a condition must hold.
const MAX_TURNS: usize = 20_000;

struct World {
    clock: ManualClock,
    ks: Keyspace,
    rows: Watch,
}

/// A reconciler of `h1` that can be paused.
struct Agent {
    docker: FakeDocker,
    status: ReconcilerStatus,
    pause: Pause,
    stop: Option<oneshot::Sender<()>>,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let builder = Keyspace::builder().clock(Arc::new(clock.clone()));
        let ks = builder.open().await.unwrap();
        tokio::spawn(ks.driver());
        let shop = r#"{"id":"shop","kind":"stack"}"#;
        ks.put("/workloads/shop", shop).await.unwrap();
        let rows = ks.watch(tidewatch_core::prefix("/containers/").unwrap());
        let rows = rows.start().await.unwrap();
        Self { clock, ks, rows }
    }

    /// Starts a reconciler whose daemon shows one container in this state.
    fn start(&self, instance: &str, state: State) -> Agent {
        let docker = FakeDocker::new("d1");
        docker.put_silently(container(state));
        let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
            .keyspace(self.ks.clone())
            .events(docker.clone())
            .clock(Arc::new(self.clock.clone()))
            .instance(instance)
            .description(format!("agent {instance}"))
            .seed(7)
            .build();
        let (status, pause) = (reconciler.status(), Pause::default());
        let (stop, stopped) = oneshot::channel();
        let run = reconciler.run(async {
            let _ = stopped.await;
        });
        tokio::spawn(pause.over(run));
        Agent {
            docker,
            status,
            pause,
            stop: Some(stop),
        }
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..MAX_TURNS {
            if condition() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{what} did not happen");
    }

    async fn pass(&self, time: Duration) {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            self.clock.advance(Duration::from_millis(100));
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// The states that the row has had since the last time this was asked.
    async fn states(&mut self) -> Vec<State> {
        let now = self.ks.put("/mark", "").await.unwrap();
        let mut states = Vec::new();
        while self.rows.last_delivered().is_none_or(|seen| seen < now) {
            // Nothing comes after the last event but the next one.
            let Some(batch) = futures_util::FutureExt::now_or_never(self.rows.next()) else {
                break;
            };
            for event in &batch.unwrap() {
                let row: serde_json::Value = serde_json::from_slice(event.value()).unwrap();
                states.push(serde_json::from_value(row["state"].clone()).unwrap());
            }
        }
        states
    }

    async fn holder(&self) -> Option<String> {
        let alive = self.ks.get("/alive/h1").await.unwrap()?;
        let alive: serde_json::Value = serde_json::from_slice(&alive.value).unwrap();
        Some(alive["instance"].as_str().unwrap().to_owned())
    }
}

fn container(state: State) -> Container {
    let mut container = Container::new("c1", "shop-web-1");
    for (label, value) in [
        ("tidewatch.managed", "true"),
        ("tidewatch.workload.id", "shop"),
        ("tidewatch.role", "web"),
    ] {
        container.labels.insert(label.into(), value.into());
    }
    container.state = state;
    container
}

/// Two agents with one host name: the first is stopped, for longer than its lease, while it has a list in
/// hand that it has not written yet; the second has taken over meanwhile.
async fn overtaken() -> (World, Agent, Agent) {
    let mut world = World::new().await;
    let first = world.start("i1", State::Running);
    world
        .until("the first resync", || first.status.snapshot().resyncs > 0)
        .await;
    assert_eq!(world.states().await, [State::Running]);
    first.docker.hold_lists();
    first.docker.put_silently(container(State::Paused));
    first.docker.emit_doubt();
    world
        .until("the list", || first.docker.waiting_lists() == 1)
        .await;
    first.pause.stop();
    // What it has in hand says `paused`. The same daemon shows something newer to whoever asks from now on.
    first.docker.put_silently(container(State::Stopped));
    let second = world.start("i2", State::Stopped);
    world.pass(Duration::from_secs(1)).await;
    let told = second.status.snapshot().trouble();
    assert!(
        told.contains("i1 (agent i1)") && told.contains("--host-name"),
        "{told}"
    );
    world.pass(LEASE_TTL).await;
    assert_eq!(world.holder().await.unwrap(), "i2");
    assert_eq!(world.states().await, [State::Stopped]);
    assert_eq!(second.status.snapshot().trouble(), "");
    (world, first, second)
}

#[tokio::test]
async fn what_was_listed_before_a_pause_is_not_written_while_another_instance_has_the_host() {
    let (mut world, first, _second) = overtaken().await;
    first.pause.go_on();
    first.docker.release_lists();
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.states().await, []);
    let told = first.status.snapshot().trouble();
    assert!(
        told.contains("instance i2") && told.contains("or stop it"),
        "{told}"
    );
}

#[tokio::test]
async fn what_was_listed_before_a_pause_is_not_written_even_when_the_host_is_ours_again() {
    let (mut world, first, mut second) = overtaken().await;
    drop(second.stop.take());
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.holder().await, None);
    // It finds its lease gone, claims the host anew, and holds a plan of its earlier claim.
    first.pause.go_on();
    for _ in 0..MAX_TURNS {
        if world.holder().await.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(world.holder().await.unwrap(), "i1");
    first.docker.release_lists();
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(
        world.states().await,
        [],
        "`paused` was listed under the earlier claim"
    );
    assert!(first.status.snapshot().resyncs > 1, "everything was listed again");
    first.docker.put(container(State::Running));
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.states().await, [State::Running]);
}

#[tokio::test]
async fn who_waits_for_a_host_writes_nothing_and_takes_it_at_once_when_it_is_given_up() {
    let world = World::new().await;
    let mut first = world.start("i1", State::Running);
    world
        .until("the first resync", || first.status.snapshot().resyncs > 0)
        .await;
    let second = world.start("i2", State::Running);
    world.pass(Duration::from_secs(1)).await;
    let before = world.ks.status().await.unwrap();
    world.pass(Duration::from_secs(300)).await;
    let after = world.ks.status().await.unwrap();
    assert_eq!((after.revision, after.leases), (before.revision, before.leases));
    drop(first.stop.take());
    world
        .until("the second to have the host", || {
            second.status.snapshot().ours == Some(true)
        })
        .await;
    assert!(world.ks.get("/alive/h1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_that_is_deleted_by_hand_is_no_fence_for_plans_that_were_made_before() {
    let mut world = World::new().await;
    let first = world.start("i1", State::Running);
    world
        .until("the first resync", || first.status.snapshot().resyncs > 0)
        .await;
    world.states().await;
    world.ks.delete(key("/alive/h1").unwrap()).await.unwrap();
    first.docker.put(container(State::Stopped));
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.holder().await.unwrap(), "i1");
    assert_eq!(
        world.states().await,
        [State::Stopped],
        "written under the new claim"
    );
}
