//! What the services share, and how they get into a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tidewatch_core::txn::Header;
use tidewatch_core::{Clock, Keyspace, Status as KeyspaceStatus, SystemClock};
use tidewatch_proto::etcdserverpb as pb;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::auth::AuthService;
use crate::cluster::ClusterService;
use crate::error;
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::maintenance::MaintenanceService;
use crate::oversized::Bounded;
use crate::watch::{NoHost, WatchHost, WatchService};

/// The term of an election that never is: the first one, for good. Clients that keep the highest term
/// they have seen, to notice servers that were left behind, are at ease with that.
const RAFT_TERM: u64 = 1;

/// What a call returns.
pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// The server, as etcd's clients see it: the only member of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id; should survive a restart where the keyspace does.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it, as `http://host:port`. Clients that look for further members connect to
    /// these addresses only.
    pub client_urls: Vec<String>,
}

/// Bounds of what clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request that is read, in bytes. One that is larger than a transaction may be, but not
    /// than this, is refused as etcd does.
    pub max_request_bytes: usize,
    /// The most that a range may be answered with, in bytes of keys and values.
    pub max_answer_bytes: usize,
    /// The most watches on one stream; further ones are refused.
    pub max_watches_per_stream: usize,
}

impl Default for Limits {
    /// gRPC's usual 4 MiB; 64 MiB and 10 000 watches as in the native API, where a stream is a connection.
    fn default() -> Self {
        Self {
            max_request_bytes: 4 << 20,
            max_answer_bytes: 64 << 20,
            max_watches_per_stream: 10_000,
        }
    }
}

/// etcd's services over a keyspace.
#[derive(Clone)]
pub struct EtcdApi {
    pub(crate) keyspace: Keyspace,
    pub(crate) member: Member,
    pub(crate) limits: Limits,
    pub(crate) draining: Shared<BoxFuture<'static, ()>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress_interval: Duration,
    pub(crate) host: Arc<dyn WatchHost>,
}

/// How often an idle watch that asked for it is told how far it is. With etcd it is ten minutes, which is
/// long for clients that tell by it whether what they have is fresh.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

impl EtcdApi {
    /// The services of `member` over `keyspace`.
    pub fn new(keyspace: Keyspace, member: Member) -> Self {
        Self {
            keyspace,
            member,
            limits: Limits::default(),
            draining: std::future::pending().boxed().shared(),
            clock: SystemClock::shared(),
            progress_interval: PROGRESS_INTERVAL,
            host: Arc::new(NoHost),
        }
    }

    /// Sets the bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Tells when the server begins to go away: streams that wait for a client end then with UNAVAILABLE,
    /// which makes etcd's clients look for another server. Without it they end with the connection.
    #[must_use]
    pub fn draining(mut self, draining: impl Future<Output = ()> + Send + 'static) -> Self {
        self.draining = draining.boxed().shared();
        self
    }

    /// Sets the clock; that of the machine is the default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how often an idle watch that asked for it is told how far it is: 10 s by default, at least
    /// 100 ms, or else such watches are refused.
    #[must_use]
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// Sets who is asked and told about watches.
    #[must_use]
    pub fn host(mut self, host: impl WatchHost) -> Self {
        self.host = Arc::new(host);
        self
    }

    /// Adds the services to those of a server.
    #[must_use]
    pub fn add_to(self, routes: Routes) -> Routes {
        use pb::{
            auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
            lease_server::LeaseServer, maintenance_server::MaintenanceServer,
        };
        let max = self.limits.max_request_bytes;
        routes
            .add_service(Bounded(
                KvServer::new(KvService { api: self.clone() }).max_decoding_message_size(max),
            ))
            .add_service(WatchService { api: self.clone() })
            .add_service(LeaseServer::new(LeaseService { api: self.clone() }).max_decoding_message_size(max))
            .add_service(ClusterServer::new(ClusterService { api: self.clone() }))
            .add_service(AuthServer::new(AuthService { api: self.clone() }))
            .add_service(MaintenanceServer::new(MaintenanceService { api: self }))
    }

    /// The header of an answer to a call on the keyspace.
    pub(crate) fn header(&self, header: Header) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: header.keyspace.0,
            member_id: self.member.id,
            revision: signed(header.revision.0),
            raft_term: RAFT_TERM,
        }
    }

    /// The header of an answer that no call on the keyspace gives.
    pub(crate) fn header_of(&self, status: &KeyspaceStatus) -> pb::ResponseHeader {
        self.header(Header {
            keyspace: status.keyspace,
            revision: status.revision,
        })
    }

    /// The header of an answer that needs nothing but a header.
    pub(crate) async fn current(&self) -> Result<pb::ResponseHeader, Status> {
        let status = self.keyspace.status().await.map_err(error::status)?;
        Ok(self.header_of(&status))
    }
}

impl fmt::Debug for EtcdApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdApi")
            .field("keyspace", &self.keyspace)
            .field("member", &self.member)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A count or revision as etcd's messages have it. None comes anywhere near the end.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
