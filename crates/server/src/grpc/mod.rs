//! The gRPC services: the native ones here, etcd's from `tidewatch-etcd-api`.

mod admin;
mod backup;
mod directives;
mod etcd;
mod fleet;
mod health;
mod joined;
mod keyspace;
mod watch;
mod watcher;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use tidewatch_core::Clock;
use tidewatch_proto::{FILE_DESCRIPTOR_SET, error, v1};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use admin::AdminService;
pub(crate) use directives::DirectivesService;
pub(crate) use fleet::{FleetService, row as fleet_row};
pub(crate) use health::Health;
use keyspace::KeyspaceService;
use watch::WatchService;

use crate::connection::{Connection, WatchSlot};
use crate::fleet::LogTurns;
use crate::metrics::WatchMetrics;
use crate::readiness::Readiness;
use crate::reconciler::Reconcilers;
use crate::store::Store;

/// What a call returns.
type Answer<T> = Result<Response<T>, Status>;

/// What the services need.
pub(crate) struct Services {
    pub(crate) store: Store,
    pub(crate) directives: DirectivesService,
    pub(crate) reconcilers: Arc<Reconcilers>,
    pub(crate) health: Health,
    pub(crate) metrics: WatchMetrics,
    /// When the server began to serve.
    pub(crate) started: SystemTime,
    pub(crate) clock: Arc<dyn Clock>,
    /// The largest message that is accepted, in bytes.
    pub(crate) max_request_bytes: usize,
    /// Where the server listens, for etcd's clients that ask for it.
    pub(crate) local_addr: SocketAddr,
    /// How often etcd's idle watches are told how far they are.
    pub(crate) progress_interval: Duration,
    pub(crate) readiness: Readiness,
    pub(crate) log_turns: LogTurns,
}

impl Services {
    /// What is told about the fleet, for the other faces.
    pub(crate) fn fleet(&self) -> FleetService {
        FleetService {
            keyspace: self.store.keyspace.clone(),
            reconcilers: self.reconcilers.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            log_turns: self.log_turns.clone(),
        }
    }

    /// All services, as routes.
    pub(crate) fn into_router(self) -> Router {
        let max = self.max_request_bytes;
        let etcd = etcd::api(&self);
        let keyspace = KeyspaceService {
            keyspace: self.store.keyspace.clone(),
        };
        let watch = WatchService {
            keyspace: self.store.keyspace.clone(),
            metrics: self.metrics.clone(),
            max_request_bytes: max,
        };
        let fleet = self.fleet();
        let admin = AdminService {
            store: self.store,
            reconcilers: self.reconcilers,
            started: self.started,
            clock: self.clock,
        };
        let routes = Routes::new(self.health.service())
            .add_service(reflection().build_v1().expect(DESCRIPTORS_FIT))
            // Most tools still ask for this one.
            .add_service(reflection().build_v1alpha().expect(DESCRIPTORS_FIT))
            .add_service(v1::keyspace_server::KeyspaceServer::new(keyspace).max_decoding_message_size(max))
            .add_service(watch)
            .add_service(v1::fleet_server::FleetServer::new(fleet).max_decoding_message_size(max))
            .add_service(
                v1::directives_server::DirectivesServer::new(self.directives).max_decoding_message_size(max),
            )
            .add_service(v1::admin_server::AdminServer::new(admin).max_decoding_message_size(max));
        etcd.add_to(routes).into_axum_router()
    }
}

/// What reflection tells about: our services and health.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Why building it cannot fail.
const DESCRIPTORS_FIT: &str = "the descriptors were made by the compiler that made the services";

/// For whom a watch is that a request asks for, for operators.
fn watch_label<T>(request: &Request<T>) -> Option<Arc<str>> {
    request.extensions().get::<Connection>().map(Connection::label)
}

/// Takes room for a watch on the connection that a request came on.
fn watch_slot<T>(request: &Request<T>) -> Result<Option<WatchSlot>, Status> {
    let connection = request.extensions().get::<Connection>();
    connection.map(Connection::watch_slot).transpose().map_err(status)
}

/// The one way from an error of the keyspace to a status.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn status(error: tidewatch_core::Error) -> Status {
    error::to_status(&error)
}

/// The one way from an error of the fleet to a status.
fn fleet_status(error: tidewatch_fleet::Error) -> Status {
    use tidewatch_fleet::Error;

    let invalid = |what, reason: String| status(tidewatch_core::Error::InvalidArgument { what, reason });
    match error {
        Error::Keyspace(error) => status(error),
        Error::Name(error) => invalid(error.what, name_reason(&error)),
        error @ Error::UnknownKind { .. } => invalid("kind", error.to_string()),
        Error::InvalidValue { reason, .. } => invalid("workload", reason),
        error @ Error::WorkloadNotFound { .. } => error::not_found("workload", error),
        error => error::refused("workload", error),
    }
}

/// What is wrong with a name, for a message that says already what it was to name.
fn name_reason(error: &tidewatch_fleet::NameError) -> String {
    let text = error.to_string();
    let told = format!("invalid {} ", error.what);
    text.strip_prefix(&told).unwrap_or(&text).to_owned()
}
