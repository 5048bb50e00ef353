//! The life of a server: bind, recover, serve, drain.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{Clock, EndReason, SystemClock};
use tidewatch_directives::DirectiveStore as _;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::directives;
use crate::error::Error;
use crate::fleet::LogTurns;
use crate::grpc::{DirectivesService, Health, Services};
use crate::http::{self, Gate, HostRule, HttpState, InFlight};
use crate::listener::{self, Acceptor};
use crate::metrics::Metrics;
use crate::part::Parts;
use crate::readiness::{Readiness, Stage};
use crate::reconciler;
use crate::store::Store;

/// Those who are sent away come back spread over this time, so that whoever takes over is not
/// stormed; each watch draws its own pause from it.
const RETRY_WITHIN: Duration = Duration::from_secs(5);

/// Runs a server until `shutdown` is ready, then drains it.
///
/// # Errors
/// Those of [`Server::bind`] and [`Server::run`].
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    Server::bind(config).await?.run(shutdown).await
}

/// A server that has its port and nothing else yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl Server {
    /// Checks the configuration and opens the port.
    ///
    /// # Errors
    /// Those of [`Config::check`]; [`Error::PortInUse`], [`Error::Listen`].
    pub async fn bind(config: Config) -> Result<Self, Error> {
        config.check()?;
        let listener = listener::bind(config.listen).await?;
        let local_addr = listener.local_addr().map_err(|source| Error::Listen {
            listen: config.listen,
            source,
        })?;
        Ok(Self {
            config,
            clock: SystemClock::shared(),
            listener,
            local_addr,
        })
    }

    /// Where it listens; of use when the configuration said port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Recovers the keyspace, or waits until its etcd can be reached, and serves it until `shutdown` is ready, then drains: tells probes and
    /// clients, ends watches with where to resume, lets calls finish, and returns within
    /// [`Config::drain_timeout`]. Needs a tokio runtime with all drivers enabled.
    ///
    /// # Errors
    /// [`Error::DataDir`], [`Error::Database`], [`Error::Recover`], [`Error::Etcd`]; [`Error::TaskEnded`] if a part of
    /// the server ended by itself, after the same drain.
    ///
    /// # Cancel safety
    /// Dropping the future stops everything at once. What was acknowledged is durable all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        self.run_with(|| (), shutdown).await
    }

    /// [`run`](Self::run) for those who want to know when it serves: `ready` is called once the
    /// keyspace is open and calls are answered.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_with(
        self,
        ready: impl FnOnce(),
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let sites = self.config.sites()?;
        let state = HttpState {
            readiness: Readiness::new(),
            metrics: Arc::new(Metrics::new(self.clock.clone())),
            in_flight: InFlight::default(),
            host_rule: HostRule::new(self.local_addr, &self.config),
        };
        let gate = Gate::new(http::startup_router(&state));
        let mut parts = Parts::default();
        let acceptor = Acceptor {
            gate: gate.clone(),
            limits: self.config.limits.clone(),
            readiness: state.readiness.clone(),
            metrics: state.metrics.clone(),
            clock: self.clock.clone(),
        };
        parts.spawn("listener", acceptor.run(self.listener));

        let store = tokio::select! {
            store = Store::open(&self.config, &self.clock) => store?,
            error = parts.ended() => return Err(error),
            () = &mut shutdown => return Ok(()),
        };
        parts.spawn("keyspace", store.keyspace.driver());
        if let Some(followed) = store.followed() {
            state.readiness.follow(followed.clone());
            state.metrics.upstream.observe(followed.clone());
        }
        // Apart from the other parts, because they need the keyspace for their last words.
        let mut reconciling = Parts::default();
        let context = reconciler::Context {
            store: &store,
            clock: &self.clock,
            readiness: &state.readiness,
        };
        let reconcilers = Arc::new(context.start(sites, &mut reconciling));
        let directives = directives::start(&self.config, &store.keyspace, &self.clock, &mut parts);
        let seen = directives.handle().clone();
        state
            .metrics
            // A scrape asks etcd nothing, and is answered also while it is away.
            .observe(store.keyspace.with_stale_reads(), reconcilers.clone(), seen);
        let health = Health::new();
        let services = Services {
            store: store.clone(),
            directives: DirectivesService::new(
                store.keyspace.clone(),
                directives.handle().clone(),
                self.clock.clone(),
            ),
            reconcilers,
            health: health.clone(),
            metrics: state.metrics.watch.clone(),
            started: self.clock.system_time(),
            clock: self.clock.clone(),
            max_request_bytes: self.config.limits.max_request_bytes,
            local_addr: self.local_addr,
            progress_interval: self.config.etcd_progress_interval,
            readiness: state.readiness.clone(),
            log_turns: LogTurns::default(),
        };
        let api = http::api::router(services.fleet(), services.directives.clone());
        gate.open(http::router(services.into_router(), api, &state));
        state.readiness.advance(Stage::Serving);
        health.tell(&state.readiness).await;
        let followed = health.clone().follow(state.readiness.clone(), self.clock.clone());
        parts.spawn("health", followed);
        if !self.local_addr.ip().is_loopback() {
            tracing::warn!(address = %self.local_addr, "whoever can reach this address can read and write everything");
        }
        tracing::info!(address = %self.local_addr, instance = store.instance, "serving");
        ready();

        let result = tokio::select! {
            () = &mut shutdown => Ok(()),
            error = parts.ended() => Err(error),
            error = reconciling.ended() => Err(error),
        };
        match &result {
            Ok(()) => tracing::info!("draining"),
            Err(error) => tracing::error!(%error, "draining"),
        }
        state.readiness.advance(Stage::Draining);
        health.draining().await;
        // It would try to follow a keyspace that goes away.
        drop(directives);
        let drain = Drain {
            clock: self.clock,
            timeout: self.config.drain_timeout,
        };
        drain.run(&store, &state.in_flight, reconciling, parts).await;
        result
    }
}

/// The end of a server, in bounded time.
struct Drain {
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl Drain {
    async fn run(self, store: &Store, in_flight: &InFlight, mut reconciling: Parts, mut parts: Parts) {
        let half = self.timeout / 2;
        // Calls first: a write that has come this far is to succeed, not to find the keyspace closed.
        // And the reconcilers, which give up their hosts.
        let writers = async { tokio::join!(in_flight.none(), reconciling.all_ended()) };
        if !self.within(half, writers).await {
            tracing::warn!(%reconciling, "some calls or reconcilers have not finished");
        }
        store.keyspace.backend().close(EndReason::Draining {
            retry_after: RETRY_WITHIN,
        });
        if !self.within(half, parts.all_ended()).await {
            tracing::warn!(remaining = %parts, "some clients did not let go in time");
        }
    }

    /// Whether the future was ready in time.
    async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> bool {
        tokio::select! {
            biased;
            _ = future => true,
            () = self.clock.sleep(limit) => false,
        }
    }
}
