//! `grpc.health.v1`: what load balancers and probes ask.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

/// The services whose health is told. The empty name stands for the whole server.
const SERVICES: [&str; 5] = [
    "",
    "tidewatch.v1.Admin",
    "tidewatch.v1.Fleet",
    "tidewatch.v1.Keyspace",
    "tidewatch.v1.Watch",
];

/// The health of one server.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            reporter: HealthReporter::new(),
        }
    }

    pub(crate) fn service(&self) -> HealthServer<impl HealthApi> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Everything is served.
    pub(crate) async fn serving(&self) {
        for service in SERVICES {
            self.reporter
                .set_service_status(service, ServingStatus::Serving)
                .await;
        }
    }

    /// Nothing new is to be sent here. Those who watch are told, and then let go: a connection that
    /// is only watched for its health must not hold up a drain.
    pub(crate) async fn draining(&self) {
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
