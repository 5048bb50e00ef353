//! The metrics of one server, in a registry of its own: several servers run in one process in tests.
//!
//! Every metric is documented in `docs/metrics.md`; a test compares the names.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tidewatch_core::watch::WatchRegistry;
use tidewatch_core::{Clock, Keyspace, Revision};
use tidewatch_directives::Handle;

use crate::directives::DirectiveLevels;
use crate::expectation::Missing;
use crate::reconciler::{KnownHost, Reconcilers};
use crate::upstream::UpstreamMetrics;

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
    observed: OnceLock<(Keyspace, Arc<Reconcilers>, Handle)>,
    server: ServerMetrics,
    /// What the watch streams count.
    pub(crate) watch: WatchMetrics,
    watchers: WatcherLevels,
    levels: KeyspaceLevels,
    reconciler: ReconcilerLevels,
    missing: Missing,
    /// How the etcd is that the keyspace is in.
    pub(crate) upstream: UpstreamMetrics,
    directives: DirectiveLevels,
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

/// How the watchers are, asked for at each scrape. What costs most is one look at each of them.
#[derive(Default)]
struct WatcherLevels {
    watchers: Family<StateLabels, Level>,
    lag_revisions: Level,
    lag_seconds: Gauge<f64, AtomicU64>,
    catch_ups: Counter,
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
    /// The hosts that were told of last.
    shown: Mutex<BTreeSet<HostLabels>>,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub(crate) reason: &'static str,
}

/// What watchers do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
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
        let missing = Missing::default();
        registry.register_collector(Box::new(missing.clone()));
        let upstream = UpstreamMetrics::default();
        registry.register_collector(Box::new(upstream.clone()));
        Self {
            missing,
            upstream,
            server: ServerMetrics::register(&mut registry),
            watch: WatchMetrics::register(&mut registry),
            watchers: WatcherLevels::register(&mut registry),
            levels: KeyspaceLevels::register(&mut registry),
            reconciler: ReconcilerLevels::register(&mut registry),
            directives: DirectiveLevels::register(&mut registry),
            registry,
            clock,
            observed: OnceLock::new(),
        }
    }

    /// Names what is asked for its state at each scrape. Only the first call counts.
    pub(crate) fn observe(&self, keyspace: Keyspace, reconcilers: Arc<Reconcilers>, directives: Handle) {
        let _ = self.observed.set((keyspace, reconcilers, directives));
    }

    /// All metrics in the text form of `OpenMetrics`.
    pub(crate) async fn encode(&self) -> Result<String, fmt::Error> {
        if let Some((keyspace, reconcilers, directives)) = self.observed.get() {
            self.directives.set(directives);
            let now = self.clock.system_time();
            if let Ok(status) = keyspace.status().await {
                self.levels.set(&status);
                if let Some(registry) = keyspace.backend().watch_registry() {
                    self.watchers.set(&registry, status.revision, now);
                }
            }
            self.missing.refresh(keyspace).await;
            if let Ok(hosts) = reconcilers.hosts(keyspace).await {
                self.reconciler.show(&hosts, now);
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
            "Requests turned away because of their Host or Origin header",
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

impl WatcherLevels {
    fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("watch");
        let levels = Self::default();
        registry.register(
            "watchers",
            "Watchers, by whether they read the history or get events as they come",
            levels.watchers.clone(),
        );
        registry.register(
            "lag_revisions",
            "How many revisions the slowest watcher is behind",
            levels.lag_revisions.clone(),
        );
        registry.register(
            "lag_seconds",
            "Age of the first change that the slowest watcher has not been given",
            levels.lag_seconds.clone(),
        );
        registry.register(
            "catch_ups",
            "How often a watcher that read the history was synced again",
            levels.catch_ups.clone(),
        );
        levels
    }

    fn set(&self, registry: &WatchRegistry, current: Revision, now: SystemTime) {
        let lagging = registry.lagging_count();
        let others = registry.watcher_count().saturating_sub(lagging);
        for (state, watchers) in [("lagging", lagging), ("synced", others)] {
            self.watchers
                .get_or_create(&StateLabels { state })
                .set(watchers as u64);
        }
        let slowest = registry.slowest();
        let behind = slowest.map_or(0, |slowest| current.0.saturating_sub(slowest.0));
        self.lag_revisions.set(behind);
        let since = slowest.and_then(|slowest| registry.unread(slowest).since);
        let age = since.map(|since| now.duration_since(since).unwrap_or_default());
        self.lag_seconds.set(age.unwrap_or_default().as_secs_f64());
        // The registry counts; here its count is only shown.
        self.catch_ups
            .inner()
            .store(registry.catch_ups(), Ordering::Relaxed);
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
                "Whether the host's Docker answers and somebody reconciles it: 1 or 0",
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
                "From the oldest event of the last burst to the commit of what it led to",
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

    /// Tells of these hosts and of no others.
    fn show(&self, hosts: &[KnownHost], now: SystemTime) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |known: &KnownHost| HostLabels {
            host: known.host.to_string(),
        };
        let now_shown: BTreeSet<_> = hosts.iter().map(labels).collect();
        for gone in shown.difference(&now_shown) {
            self.reachable.remove(gone);
            self.remove(gone);
        }
        *shown = now_shown;
        for known in hosts {
            self.set(&labels(known), known, now);
        }
    }

    fn set(&self, labels: &HostLabels, known: &KnownHost, now: SystemTime) {
        let level = |family: &Family<HostLabels, Level>, value: u64| {
            family.get_or_create(labels).set(value);
        };
        let Some(report) = &known.report else {
            level(&self.reachable, u64::from(known.reachable));
            return self.remove(labels);
        };
        level(&self.reachable, u64::from(report.reachable == Some(true)));
        level(&self.ours, u64::from(known.ours));
        level(&self.containers, report.containers);
        if let Some(last_sync) = report.last_sync {
            let age = now.duration_since(last_sync).unwrap_or_default();
            self.sync_age_seconds.get_or_create(labels).set(age.as_secs_f64());
        }
        self.lag_seconds
            .get_or_create(labels)
            .set(report.lag.as_secs_f64());
        for (family, total) in [
            (&self.resyncs, report.resyncs),
            (&self.events, report.events),
            (&self.changes, report.changes),
            (&self.drift, report.drift),
            (&self.failures, report.failures),
        ] {
            // The reconciler counts; here its count is only shown.
            family
                .get_or_create(labels)
                .inner()
                .store(total, Ordering::Relaxed);
        }
    }

    /// Forgets what only a reconciler can tell.
    fn remove(&self, labels: &HostLabels) {
        for family in [&self.ours, &self.containers] {
            family.remove(labels);
        }
        for family in [&self.sync_age_seconds, &self.lag_seconds] {
            family.remove(labels);
        }
        let counters = [
            &self.resyncs,
            &self.events,
            &self.changes,
            &self.drift,
            &self.failures,
        ];
        for family in counters {
            family.remove(labels);
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
