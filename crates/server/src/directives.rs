//! The server as a user of directives: it follows them, stamps those that were put raw, and tells which
//! it has in force.

use std::sync::Arc;

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidewatch_core::{Clock, Keyspace};
use tidewatch_directives::{DirectiveStore as _, Handle, KeyspaceDirectiveStore, node};

use crate::config::Config;
use crate::part::Parts;
use crate::reconciler::node_name;

/// Starts to follow the directives of the keyspace. They are followed until the store is dropped.
pub(crate) fn start(
    config: &Config,
    keyspace: &Keyspace,
    clock: &Arc<dyn Clock>,
    parts: &mut Parts,
) -> KeyspaceDirectiveStore {
    let store = KeyspaceDirectiveStore::builder(keyspace.clone())
        .clock(clock.clone())
        .stamping()
        .start();
    config.log_directives.attach(store.handle().clone());
    let report = node::report(
        keyspace.clone(),
        node_name(config),
        store.handle().clone(),
        clock.clone(),
    );
    parts.spawn("report of directives", report);
    store
}

/// What a scrape tells about the directives in force.
#[derive(Default)]
pub(crate) struct DirectiveLevels {
    revision: Gauge<u64, AtomicU64>,
    live: Gauge<u64, AtomicU64>,
    rejected: Gauge<u64, AtomicU64>,
    connected: Gauge<u64, AtomicU64>,
    age_seconds: Gauge<f64, AtomicU64>,
}

impl DirectiveLevels {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("directives");
        let levels = Self::default();
        registry.register(
            "revision",
            "When the set in force was written",
            levels.revision.clone(),
        );
        registry.register("live", "Directives that live", levels.live.clone());
        registry.register(
            "rejected",
            "1 while the set that was published last is rejected",
            levels.rejected.clone(),
        );
        registry.register(
            "connected",
            "1 while the server hears of what is published",
            levels.connected.clone(),
        );
        registry.register(
            "age_seconds",
            "How long ago the set in force was known to be the published one",
            levels.age_seconds.clone(),
        );
        levels
    }

    pub(crate) fn set(&self, store: &Handle) {
        let (snapshot, status) = (store.load(), store.status());
        let is_live = status.connection == tidewatch_directives::Connection::Live;
        self.revision
            .set(snapshot.origin().map_or(0, |origin| origin.revision.0));
        self.live.set(snapshot.live().count() as u64);
        self.rejected.set(status.rejected.is_some().into());
        self.connected.set(is_live.into());
        self.age_seconds.set(status.age.unwrap_or_default().as_secs_f64());
    }
}
