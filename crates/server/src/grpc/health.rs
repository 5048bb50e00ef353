//! `grpc.health.v1`: what load balancers and probes ask.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::Clock;
use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use crate::readiness::Readiness;

/// The services whose health is told. The empty name stands for the whole server.
const SERVICES: [&str; 5] = [
    "",
    "tidewatch.v1.Admin",
    "tidewatch.v1.Fleet",
    "tidewatch.v1.Keyspace",
    "tidewatch.v1.Watch",
];

/// How often it is looked whether the server is still ready: as often as probes usually ask.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The health of one server; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    /// What was told last. Who tells something holds it, so that a drain has the last word.
    told: Arc<Mutex<Told>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Ready,
    NotReady,
    Draining,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            reporter: HealthReporter::new(),
            told: Arc::new(Mutex::new(Told::Nothing)),
        }
    }

    pub(crate) fn service(&self) -> HealthServer<impl HealthApi> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Says whether the server is ready to serve everything.
    pub(crate) async fn tell(&self, readiness: &Readiness) {
        let mut told = self.told.lock().await;
        let obstacle = readiness.obstacle();
        let is = if obstacle.is_none() {
            Told::Ready
        } else {
            Told::NotReady
        };
        if matches!(*told, Told::Draining) || *told == is {
            return;
        }
        match (&obstacle, *told) {
            (Some(obstacle), _) => tracing::warn!(reason = obstacle, "not ready"),
            (None, Told::NotReady) => tracing::info!("ready again"),
            (None, _) => {}
        }
        let status = match obstacle {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        *told = is;
    }

    /// Goes on to say it, until the server drains.
    pub(crate) async fn follow(self, readiness: Readiness, clock: Arc<dyn Clock>) {
        loop {
            tokio::select! {
                () = readiness.draining() => return,
                () = clock.sleep(LOOK_INTERVAL) => self.tell(&readiness).await,
            }
        }
    }

    /// Nothing new is to be sent here. Those who watch are told, and then let go: a connection that
    /// is only watched for its health must not hold up a drain.
    pub(crate) async fn draining(&self) {
        let mut told = self.told.lock().await;
        *told = Told::Draining;
        let mut reporter = self.reporter.clone();
        for service in SERVICES {
            reporter
                .set_service_status(service, ServingStatus::NotServing)
                .await;
            reporter.clear_service_status(service).await;
            reporter
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
    }
}
