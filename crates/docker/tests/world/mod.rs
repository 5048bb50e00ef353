//! A keyspace, a scripted daemon and a running reconciler, with time that moves when it is told to.
#![allow(dead_code, reason = "each test file uses some of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) mod stalled;

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::conformance::intercepted;
use tidewatch_core::{Clock, Keyspace, ManualClock, Revision};
use tidewatch_docker::fake::FakeDocker;
use tidewatch_docker::{Container, Reconciler, ReconcilerStatus};
use tidewatch_fleet::{Host, View};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::stalled::Stalled;

/// The most turns other tasks get until a condition must hold. In-process work needs some dozens.
const MAX_TURNS: usize = 20_000;

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) ks: Keyspace,
    pub(crate) docker: FakeDocker,
    pub(crate) status: ReconcilerStatus,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

/// A keyspace of its own with its driver running.
pub(crate) fn keyspace(clock: &ManualClock) -> Keyspace {
    let builder = Keyspace::builder().clock(Arc::new(clock.clone()));
    // Without a journal there is nothing to wait for.
    let ks = futures_util::FutureExt::now_or_never(builder.open())
        .unwrap()
        .unwrap();
    tokio::spawn(ks.driver());
    ks
}

impl World {
    /// A host `h1` with these workloads declared as stacks, a daemon without containers, and a
    /// reconciler that has done its first resync.
    pub(crate) async fn new(stacks: &[&str]) -> Self {
        let clock = ManualClock::new();
        let ks = keyspace(&clock);
        for id in stacks {
            let value = format!(r#"{{"id":"{id}","kind":"stack"}}"#);
            ks.put(format!("/workloads/{id}"), value).await.unwrap();
        }
        let world = Self::start(clock, ks, FakeDocker::new("d1"), "i1");
        world
            .until("the first resync", || world.status.snapshot().resyncs > 0)
            .await;
        world.settle().await;
        world
    }

    /// The same, of what there is, and without waiting for anything.
    pub(crate) fn start(clock: ManualClock, ks: Keyspace, docker: FakeDocker, instance: &str) -> Self {
        let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
            .keyspace(ks.clone())
            .events(docker.clone())
            .inspect(docker.clone())
            .clock(Arc::new(clock.clone()))
            .instance(instance)
            .seed(7)
            .build();
        let status = reconciler.status();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(reconciler.run(async {
            let _ = stopped.await;
        }));
        Self {
            clock,
            ks,
            docker,
            status,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// A running world whose keyspace can be stalled; the rows are read around that.
    pub(crate) async fn stalled() -> (Self, Arc<Stalled>) {
        let clock = ManualClock::new();
        let ks = keyspace(&clock);
        ks.put("/workloads/shop", r#"{"id":"shop","kind":"stack"}"#)
            .await
            .unwrap();
        let stalled = Arc::new(Stalled::default());
        let between = intercepted(&ks, stalled.clone());
        let mut world = Self::start(clock, between, FakeDocker::new("d1"), "i1");
        world
            .until("the first resync", || world.status.snapshot().resyncs > 0)
            .await;
        world.settle().await;
        world.ks = ks;
        (world, stalled)
    }

    /// Stops the reconciler as SIGTERM does, and waits for it.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
    }

    /// Kills the reconciler: nothing is given up.
    pub(crate) fn kill(&mut self) {
        self.task.take().unwrap().abort();
    }

    /// Gives other tasks their turns until the condition holds. Time stands still.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..MAX_TURNS {
            if condition() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{what} did not happen: {:?}, {:?}", self.docker, self.status);
    }

    /// Gives other tasks their turns until the rows are these.
    pub(crate) async fn until_rows(&self, rows: &[&str]) {
        let mut found = Vec::new();
        for _ in 0..MAX_TURNS / 10 {
            found = self.rows().await;
            if found == rows {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{found:?} are not {rows:?}; {:?}, {:?}", self.docker, self.status);
    }

    /// Gives other tasks their turns until nobody can have anything left to do at this moment.
    pub(crate) async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// Moves time forward in steps of at most 100 ms, with turns for others after each.
    pub(crate) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(100);
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            self.clock.advance(step.min(until - self.clock.now()));
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        self.settle().await;
    }

    /// Moves time forward in steps of five minutes, for what takes days.
    pub(crate) async fn pass_hours(&self, hours: u32) {
        for _ in 0..hours * 12 {
            self.clock.advance(Duration::from_secs(300));
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
        self.pass(secs(2)).await;
    }

    /// `<workload>/<row> <container> <state>` of each row, in order.
    pub(crate) async fn rows(&self) -> Vec<String> {
        let view = self.view().await;
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view.containers
            .iter()
            .map(|((workload, row, _), entry)| {
                format!(
                    "{workload}/{row} {} {}",
                    entry.value.container_id, entry.value.state
                )
            })
            .collect()
    }

    pub(crate) async fn view(&self) -> View {
        View::read(&self.ks).await.unwrap().1
    }

    pub(crate) async fn host(&self) -> Host {
        let kv = self.ks.get("/hosts/h1").await.unwrap().unwrap();
        serde_json::from_slice(&kv.value).unwrap()
    }

    pub(crate) async fn revision(&self) -> Revision {
        self.ks.status().await.unwrap().revision
    }
}

/// A container with our labels.
pub(crate) fn labelled(id: &str, workload: &str, role: &str) -> Container {
    let mut container = Container::new(id, format!("{workload}-{role}-{id}"));
    for (label, value) in [
        ("tidewatch.managed", "true"),
        ("tidewatch.workload.id", workload),
        ("tidewatch.role", role),
    ] {
        container.labels.insert(label.into(), value.into());
    }
    container
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
