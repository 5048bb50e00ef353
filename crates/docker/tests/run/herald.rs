//! Whoever is told how a reconciler is, when its lease is kept alive.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

use std::sync::{Arc, Mutex};

use tidewatch_core::{BoxFuture, Error, Keyspace, LeaseId, ManualClock, Revision};
use tidewatch_docker::fake::{FakeDocker, Fault};
use tidewatch_docker::{Herald, Reconciler, ReconcilerStatus};
use tidewatch_fleet::HostReport;

use crate::world::{keyspace, ms, secs};

/// Keeps leases alive, and remembers what it was told.
struct Told {
    ks: Keyspace,
    reports: Mutex<Vec<(Revision, HostReport)>>,
}

impl Told {
    fn last(&self) -> HostReport {
        let reports = self.reports.lock().unwrap();
        reports
            .last()
            .map(|(_, report)| report.clone())
            .unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.reports.lock().unwrap().len()
    }
}

impl Herald for Told {
    fn keep_alive<'a>(
        &'a self,
        status: &'a ReconcilerStatus,
        lease: LeaseId,
        claimed: Revision,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        self.reports.lock().unwrap().push((claimed, status.report()));
        Box::pin(async move {
            self.ks.lease_keep_alive(lease).await?;
            let alive = self.ks.get("/alive/h1").await?;
            Ok(alive.is_some_and(|alive| alive.mod_revision == claimed))
        })
    }
}

struct World {
    clock: ManualClock,
    ks: Keyspace,
    docker: FakeDocker,
    told: Arc<Told>,
}

impl World {
    fn start(docker: FakeDocker) -> Self {
        let clock = ManualClock::new();
        let ks = keyspace(&clock);
        let told = Arc::new(Told {
            ks: ks.clone(),
            reports: Mutex::default(),
        });
        let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
            .keyspace(ks.clone())
            .events(docker.clone())
            .clock(Arc::new(clock.clone()))
            .herald(told.clone())
            .instance("i1")
            .seed(7)
            .build();
        tokio::spawn(reconciler.run(std::future::pending()));
        Self {
            clock,
            ks,
            docker,
            told,
        }
    }

    /// Gives the others their turns; time stands still.
    async fn settle(&self) {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    }

    async fn claimed(&self) -> Revision {
        self.ks.get("/alive/h1").await.unwrap().unwrap().mod_revision
    }
}

#[tokio::test]
async fn a_new_claim_and_the_first_list_are_told_without_waiting_for_a_renewal() {
    let world = World::start(FakeDocker::new("d1"));
    world.settle().await;
    let told = world.told.last();
    assert!(
        told.reachable == Some(true) && told.last_sync.is_some(),
        "{told:?}"
    );
    let claimed = world.claimed().await;
    assert_eq!(world.told.reports.lock().unwrap()[0].0, claimed);
    // And then it is as quiet as ever.
    let before = world.told.count();
    for _ in 0..30 {
        world.clock.advance(ms(100));
        world.settle().await;
    }
    assert_eq!(world.told.count(), before, "the next is due after 3.3 s");
}

#[tokio::test]
async fn a_claim_is_told_though_docker_was_known_not_to_answer_before() {
    let docker = FakeDocker::new("d1");
    docker.set_down(Some(Fault::unreachable()));
    let world = World::start(docker);
    world.settle().await;
    assert_eq!(world.told.last().reachable, Some(false));
}

#[tokio::test]
async fn an_outage_of_docker_is_told_at_once_and_so_is_its_end() {
    let world = World::start(FakeDocker::new("d1"));
    world.settle().await;
    for is_down in [true, false, true] {
        world.docker.set_down(is_down.then(Fault::unreachable));
        if is_down {
            world.docker.disconnect();
        }
        // It is written into the host's key when it is found out, and told at that very moment.
        let found_out = async || {
            let host = world.ks.get("/hosts/h1").await.unwrap().unwrap();
            let host: tidewatch_fleet::Host = serde_json::from_slice(&host.value).unwrap();
            host.reachable != is_down
        };
        let mut waited = secs(0);
        while !found_out().await {
            assert!(waited < secs(10), "nobody finds out");
            world.clock.advance(ms(50));
            world.settle().await;
            waited += ms(50);
        }
        assert_eq!(world.told.last().reachable, Some(!is_down), "after {waited:?}");
    }
}

#[tokio::test]
async fn a_claim_that_is_lost_time_and_again_is_not_made_anew_without_a_pause() {
    let world = World::start(FakeDocker::new("d1"));
    world.settle().await;
    let before = world.told.count();
    for _ in 0..100 {
        // Whoever does this is faster than any claim.
        if world.ks.get("/alive/h1").await.unwrap().is_some() {
            let key = tidewatch_core::key("/alive/h1").unwrap();
            world.ks.delete(key).await.unwrap();
        }
        world.clock.advance(ms(100));
        world.settle().await;
    }
    let told = world.told.count() - before;
    assert!(told <= 20, "{told} in ten seconds");
}
