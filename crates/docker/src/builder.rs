//! Putting a reconciler together.

use std::fmt;
use std::sync::Arc;

use tidewatch_core::{Clock, Keyspace, SystemClock};
use tidewatch_fleet::HostName;

use crate::event::{DockerEvents, NoEvents};
use crate::herald::Herald;
use crate::inspect::{DockerInspect, NoInspect};
use crate::label::LabelNames;
use crate::lister::DockerLister;
use crate::plugin::{self, WorkloadReconciler};
use crate::reconciler::Reconciler;
use crate::settings::ReconcilerSettings;

/// A reconciler that is being described. It needs a host, a lister and a
/// [`keyspace`](Self::keyspace); everything else has a default.
#[must_use = "a description does nothing; `build` makes the reconciler"]
pub struct ReconcilerBuilder<L, E = NoEvents, I = NoInspect, K = ()> {
    pub(crate) host: HostName,
    pub(crate) lister: L,
    pub(crate) events: E,
    pub(crate) inspect: I,
    pub(crate) keyspace: K,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instance: String,
    pub(crate) description: String,
    pub(crate) herald: Option<Arc<dyn Herald>>,
    pub(crate) address: String,
    pub(crate) labels: LabelNames,
    pub(crate) plugins: Vec<Arc<dyn WorkloadReconciler>>,
    pub(crate) settings: ReconcilerSettings,
    pub(crate) seed: u64,
}

impl<L, E, I, K> fmt::Debug for ReconcilerBuilder<L, E, I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconcilerBuilder")
            .field("host", &self.host)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl<L: DockerLister> ReconcilerBuilder<L> {
    pub(crate) fn new(host: HostName, lister: L) -> Self {
        Self {
            host,
            lister,
            events: NoEvents,
            inspect: NoInspect,
            keyspace: (),
            clock: SystemClock::shared(),
            instance: format!("{:016x}", fastrand::u64(..)),
            description: String::new(),
            herald: None,
            address: String::new(),
            labels: LabelNames::default(),
            plugins: plugin::all(),
            settings: ReconcilerSettings::default(),
            seed: fastrand::u64(..),
        }
    }
}

impl<L, E, I, K> ReconcilerBuilder<L, E, I, K> {
    /// Where the rows are written.
    pub fn keyspace(self, keyspace: Keyspace) -> ReconcilerBuilder<L, E, I, Keyspace> {
        ReconcilerBuilder {
            host: self.host,
            lister: self.lister,
            events: self.events,
            inspect: self.inspect,
            keyspace,
            clock: self.clock,
            instance: self.instance,
            description: self.description,
            herald: self.herald,
            address: self.address,
            labels: self.labels,
            plugins: self.plugins,
            settings: self.settings,
            seed: self.seed,
        }
    }

    /// Where it hears that something changed. Without it, changes are seen at the periodic resync.
    pub fn events<F: DockerEvents>(self, events: F) -> ReconcilerBuilder<L, F, I, K> {
        ReconcilerBuilder {
            host: self.host,
            lister: self.lister,
            events,
            inspect: self.inspect,
            keyspace: self.keyspace,
            clock: self.clock,
            instance: self.instance,
            description: self.description,
            herald: self.herald,
            address: self.address,
            labels: self.labels,
            plugins: self.plugins,
            settings: self.settings,
            seed: self.seed,
        }
    }

    /// Where it learns what a list does not tell. Without it, those fields stay empty.
    pub fn inspect<J: DockerInspect>(self, inspect: J) -> ReconcilerBuilder<L, E, J, K> {
        ReconcilerBuilder {
            host: self.host,
            lister: self.lister,
            events: self.events,
            inspect,
            keyspace: self.keyspace,
            clock: self.clock,
            instance: self.instance,
            description: self.description,
            herald: self.herald,
            address: self.address,
            labels: self.labels,
            plugins: self.plugins,
            settings: self.settings,
            seed: self.seed,
        }
    }

    /// Where time comes from; the machine's clock if nothing is said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who it is, in `/alive/<host>`. An instance that comes back under the same name takes its host
    /// over at once; another one waits until the lease has expired. A random one if nothing is said.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// What it is and where it runs, as in `agent on web1`, for people who wonder who has a host. Nothing
    /// if nothing is said.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// How the lease of the host is kept alive, and who is told about it then. By the keyspace's own call
    /// if nothing is said.
    pub fn herald(mut self, herald: Arc<dyn Herald>) -> Self {
        self.herald = Some(herald);
        self
    }

    /// Where others reach the host, for `/hosts/<host>`.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// The names of the labels it reads.
    pub fn labels(mut self, labels: LabelNames) -> Self {
        self.labels = labels;
        self
    }

    /// What is particular to some kinds: [`plugin::all`] if nothing is said.
    pub fn plugins(mut self, plugins: Vec<Arc<dyn WorkloadReconciler>>) -> Self {
        self.plugins = plugins;
        self
    }

    /// How often it looks, and how long it waits.
    pub fn settings(mut self, settings: ReconcilerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The seed of its jitter: equal seeds give equal waits.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

impl<L: DockerLister, E: DockerEvents, I: DockerInspect> ReconcilerBuilder<L, E, I, Keyspace> {
    /// Makes the reconciler. It does nothing yet.
    pub fn build(self) -> Reconciler<L, E, I> {
        Reconciler::from_parts(self)
    }
}
