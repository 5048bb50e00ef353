//! The metrics of one server, in a registry of its own: several servers run in one process in tests.
//!
//! Every metric is documented in `docs/metrics.md`; a test compares the names.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tidewatch_core::{Clock, Keyspace};
use tidewatch_docker::StatusSnapshot;
use tidewatch_fleet::HostName;

use crate::reconciler::Reconcilers;

/// Upper bounds of the histogram of request times, in seconds: from a read of one key to a commit on
/// a disk that struggles.
const REQUEST_SECONDS_BUCKETS: [f64; 12] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0,
];

/// What [`EndReason::name`](tidewatch_core::EndReason::name) can say.
const END_REASONS: [&str; 7] = [
    "canceled",
    "overflow",
    "compacted",
    "keyspace_changed",
    "draining",
    "closed",
    "failed",
];

/// A gauge of something that is never negative.
type Level = Gauge<u64, AtomicU64>;

/// Everything the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    clock: Arc<dyn Clock>,
    observed: OnceLock<(Keyspace, Arc<Reconcilers>)>,
    server: ServerMetrics,
    /// What the watch streams count.
    pub(crate) watch: WatchMetrics,
    levels: KeyspaceLevels,
    reconciler: ReconcilerLevels,
}

struct ServerMetrics {
    connections: Gauge,
    connections_opened: Counter,
    connections_refused: Counter,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<FaceLabels, Histogram, fn() -> Histogram>,
    requests_refused: Counter,
}

/// What the watch streams of all faces count. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct WatchMetrics {
    pub(crate) streams: Gauge,
    pub(crate) events_sent: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) ended: Family<ReasonLabels, Counter>,
}

/// How the keyspace is, asked for at each scrape.
#[derive(Default)]
struct KeyspaceLevels {
    revision: Level,
    oldest_revision: Level,
    dispatched_revision: Level,
    keys: Level,
    size_bytes: Level,
    quota_bytes: Level,
    history_bytes: Level,
    leases: Level,
    watchers: Level,
}

/// How each host's reconciler is, asked for at each scrape.
#[derive(Default)]
struct ReconcilerLevels {
    reachable: Family<HostLabels, Level>,
    ours: Family<HostLabels, Level>,
    sync_age_seconds: Family<HostLabels, Gauge<f64, AtomicU64>>,
    lag_seconds: Family<HostLabels, Gauge<f64, AtomicU64>>,
    containers: Family<HostLabels, Level>,
    resyncs: Family<HostLabels, Counter>,
    events: Family<HostLabels, Counter>,
    changes: Family<HostLabels, Counter>,
    drift: Family<HostLabels, Counter>,
    failures: Family<HostLabels, Counter>,
}

/// By which protocol a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Face {
    Grpc,
    Http,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: Face,
    method: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaceLabels {
    face: Face,
}

/// Which host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Metrics {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let mut registry = Registry::with_prefix("tidewatch");
        registry.register(
            "build",
            "The version of the program",
            Info::new(BuildLabels {
                version: env!("CARGO_PKG_VERSION"),
            }),
        );
        Self {
            server: ServerMetrics::register(&mut registry),
            watch: WatchMetrics::register(&mut registry),
            levels: KeyspaceLevels::register(&mut registry),
            reconciler: ReconcilerLevels::register(&mut registry),
            registry,
            clock,
            observed: OnceLock::new(),
        }
    }

    /// Names what is asked for its state at each scrape. Only the first call counts.
    pub(crate) fn observe(&self, keyspace: Keyspace, reconcilers: Arc<Reconcilers>) {
        let _ = self.observed.set((keyspace, reconcilers));
    }

    /// All metrics in the text form of `OpenMetrics`.
    pub(crate) async fn encode(&self) -> Result<String, fmt::Error> {
        if let Some((keyspace, reconcilers)) = self.observed.get() {
            if let Ok(status) = keyspace.status().await {
                self.levels.set(&status);
            }
            let now = self.clock.system_time();
            for (host, snapshot) in reconcilers.snapshots() {
                self.reconciler.set(host, &snapshot, now);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection_opened(&self) -> Up {
        self.server.connections_opened.inc();
        Up::new(&self.server.connections)
    }

    /// Counts a connection that was turned away because there are too many.
    pub(crate) fn connection_refused(&self) {
        self.server.connections_refused.inc();
    }

    /// Counts a request that was turned away before it was looked at.
    pub(crate) fn request_refused(&self) {
        self.server.requests_refused.inc();
    }

    /// Begins to measure a request.
    pub(crate) fn request_started(&self) -> Instant {
        self.clock.now()
    }

    /// Counts a request that was answered. `method` is from a bounded set.
    pub(crate) fn request_answered(&self, started: Instant, face: Face, method: &str, code: u16) {
        let took = self.clock.now().saturating_duration_since(started);
        let labels = RequestLabels {
            face,
            method: method.to_owned(),
            code,
        };
        self.server.requests.get_or_create(&labels).inc();
        let seconds = self.server.request_seconds.get_or_create(&FaceLabels { face });
        seconds.observe(took.as_secs_f64());
    }
}

impl ServerMetrics {
    fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("server");
        let histogram: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS_BUCKETS);
        let metrics = Self {
            connections: Gauge::default(),
            connections_opened: Counter::default(),
            connections_refused: Counter::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(histogram),
            requests_refused: Counter::default(),
        };
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register(
            "connections_opened",
            "Connections accepted since the start",
            metrics.connections_opened.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed at once because there were too many",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "requests",
            "Requests answered, by face, method and gRPC or HTTP code; a stream counts when it begins",
            metrics.requests.clone(),
        );
        registry.register(
            "request_seconds",
            "Time from a request to the begin of its answer",
            metrics.request_seconds.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests turned away because of their Host header",
            metrics.requests_refused.clone(),
        );
        metrics
    }
}

impl WatchMetrics {
    fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("watch");
        let metrics = Self::default();
        registry.register("streams", "Watches served to clients", metrics.streams.clone());
        registry.register(
            "events_sent",
            "Events handed to clients",
            metrics.events_sent.clone(),
        );
        registry.register(
            "messages_sent",
            "Messages that carried them and everything else on watches",
            metrics.messages_sent.clone(),
        );
        registry.register(
            "streams_ended",
            "Watches that ended, by reason",
            metrics.ended.clone(),
        );
        for reason in END_REASONS {
            // So that a rate can be computed from the first one on.
            drop(metrics.ended.get_or_create(&ReasonLabels { reason }));
        }
        metrics
    }

    /// Counts the end of a watch.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl KeyspaceLevels {
    fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("keyspace");
        let levels = Self::default();
        for (name, help, level) in levels.table() {
            registry.register(name, help, level.clone());
        }
        levels
    }

    fn table(&self) -> [(&'static str, &'static str, &Level); 9] {
        [
            ("revision", "The current revision", &self.revision),
            (
                "oldest_revision",
                "The oldest revision that can be read",
                &self.oldest_revision,
            ),
            (
                "dispatched_revision",
                "The revision up to which watchers have been served",
                &self.dispatched_revision,
            ),
            ("keys", "Keys", &self.keys),
            (
                "size_bytes",
                "Bytes of keys and values, as the quota counts them",
                &self.size_bytes,
            ),
            ("quota_bytes", "The quota", &self.quota_bytes),
            ("history_bytes", "Bytes of history kept", &self.history_bytes),
            ("leases", "Leases", &self.leases),
            ("watchers", "Watchers, the server's own included", &self.watchers),
        ]
    }

    fn set(&self, status: &tidewatch_core::Status) {
        self.revision.set(status.revision.0);
        self.oldest_revision.set(status.oldest.0);
        self.dispatched_revision.set(status.dispatched.0);
        self.keys.set(status.keys);
        self.size_bytes.set(status.bytes);
        self.quota_bytes.set(status.quota);
        self.history_bytes.set(status.history_bytes);
        self.leases.set(status.leases);
        self.watchers.set(status.watchers);
    }
}

impl ReconcilerLevels {
    fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("reconciler");
        let levels = Self::default();
        for (name, help, family) in [
            (
                "reachable",
                "Whether the host's Docker answers: 1 or 0",
                &levels.reachable,
            ),
            (
                "ours",
                "Whether the host is ours to write about: 1 or 0",
                &levels.ours,
            ),
            (
                "containers",
                "Containers in the last full list",
                &levels.containers,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            (
                "sync_age_seconds",
                "Time since everything was last listed and written",
                &levels.sync_age_seconds,
            ),
            (
                "lag_seconds",
                "From the last event to the commit of what it led to",
                &levels.lag_seconds,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            ("resyncs", "Full resyncs", &levels.resyncs),
            ("events", "Events of Docker", &levels.events),
            ("changes", "Keys written or deleted", &levels.changes),
            (
                "drift",
                "Rows that a periodic resync had to repair",
                &levels.drift,
            ),
            (
                "failures",
                "Connections to Docker that failed or were lost",
                &levels.failures,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        levels
    }

    fn set(&self, host: &HostName, snapshot: &StatusSnapshot, now: SystemTime) {
        let labels = HostLabels {
            host: host.to_string(),
        };
        let level = |family: &Family<HostLabels, Level>, value: u64| {
            family.get_or_create(&labels).set(value);
        };
        level(&self.reachable, u64::from(snapshot.reachable == Some(true)));
        level(&self.ours, u64::from(snapshot.ours == Some(true)));
        level(&self.containers, snapshot.containers as u64);
        if let Some(last_sync) = snapshot.last_sync {
            let age = now.duration_since(last_sync).unwrap_or_default();
            self.sync_age_seconds
                .get_or_create(&labels)
                .set(age.as_secs_f64());
        }
        self.lag_seconds
            .get_or_create(&labels)
            .set(snapshot.lag.as_secs_f64());
        for (family, total) in [
            (&self.resyncs, snapshot.resyncs),
            (&self.events, snapshot.events),
            (&self.changes, snapshot.changes),
            (&self.drift, snapshot.drift),
            (&self.failures, snapshot.failures),
        ] {
            // The reconciler counts; here its count is only shown.
            family
                .get_or_create(&labels)
                .inner()
                .store(total, Ordering::Relaxed);
        }
    }
}

/// Holds a gauge up by one until it is dropped.
pub(crate) struct Up(Gauge);

impl Up {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EncodeLabelValue for Face {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
