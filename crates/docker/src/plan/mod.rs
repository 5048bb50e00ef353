//! What has to be written so that the rows of a host say what its Docker shows.
//!
//! [`plan`] is pure: it compares, decides, and touches nothing. The same input gives the same plan,
//! whatever order Docker listed things in.

mod bind;
mod report;
mod row;
mod sweep;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidewatch_fleet::{ContainerRow, FleetKey, HostName, View, Workload};

use crate::inspect::Facts;
use crate::label::LabelNames;
use crate::lister::{Listing, Scope};
use crate::plugin::{self, WorkloadReconciler};

pub use report::{BoundBy, Outcome, Reason, Verdict};

/// How long a row whose container is gone is kept: a day, so that what vanished overnight can still be
/// seen in the morning.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The host that is planned for, and by which rules.
#[derive(Clone, Debug)]
pub struct PlanHost {
    /// Its name. Rows of other hosts are none of a plan's business.
    pub name: HostName,
    /// The daemon that answered; empty if it has no id.
    pub daemon_id: String,
    /// The wall clock, for the retention of rows whose containers are gone.
    pub now: SystemTime,
    /// How long such rows are kept.
    pub retention: Duration,
    /// The names of the labels.
    pub labels: LabelNames,
    /// What is particular to some kinds. May be empty.
    pub plugins: Vec<Arc<dyn WorkloadReconciler>>,
}

impl PlanHost {
    /// A host with the default rules and all plugins.
    pub fn new(name: HostName, now: SystemTime) -> Self {
        Self {
            name,
            daemon_id: String::new(),
            now,
            retention: RETENTION,
            labels: LabelNames::default(),
            plugins: plugin::all(),
        }
    }
}

/// What is to be written, and what is to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What is to be written, in this order. Empty if nothing is different.
    pub changes: Vec<Change>,
    /// What became of each container of the listing, by id.
    pub verdicts: BTreeMap<String, Verdict>,
    /// The containers about which a list does not tell enough: those that are new or whose state is
    /// another one, unless their facts were given. By id, sorted.
    pub inspect: Vec<String>,
    /// Nothing was concluded from the absence of containers, because so many elements of the listing
    /// could not be told apart.
    pub unswept: usize,
}

/// Something to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A workload is declared, because a plugin adopted its containers.
    Declare(Box<Workload>),
    /// A row is new. Its workload must exist, or be declared by the same plan.
    Insert(FleetKey, Box<ContainerRow>),
    /// A row is different. Its workload must exist.
    Update(FleetKey, Box<ContainerRow>),
    /// A row goes.
    Remove(FleetKey),
    /// A workload is retired, if it has no rows on any host.
    Retire(FleetKey),
}

impl Change {
    /// The key that is written.
    pub fn key(&self) -> FleetKey {
        match self {
            Self::Declare(workload) => FleetKey::Workload(workload.id.clone()),
            Self::Insert(key, _) | Self::Update(key, _) | Self::Remove(key) | Self::Retire(key) => {
                key.clone()
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declare(workload) => write!(f, "declare {}", workload.id),
            Self::Insert(key, row) => write!(f, "insert {key} {}", row.state),
            Self::Update(key, row) => write!(f, "update {key} {}", row.state),
            Self::Remove(key) => write!(f, "remove {key}"),
            Self::Retire(key) => write!(f, "retire {key}"),
        }
    }
}

/// Compares what Docker shows with what is written.
///
/// `view` holds the rows, deploy rows and workloads as they were read at one revision; `listing` is
/// the answer to a list of `scope` that succeeded: a failed one is no reason to plan. `facts` are
/// what an inspection told about some containers; they may be empty.
pub fn plan(
    view: &View,
    listing: &Listing,
    scope: Scope<'_>,
    facts: &BTreeMap<String, Facts>,
    host: &PlanHost,
) -> Plan {
    let mut planner = Planner::new(view, listing, scope, facts, host);
    planner.bind();
    planner.sweep();
    planner.retire();
    planner.finish()
}

pub(crate) use bind::Planner;

#[cfg(test)]
mod tests;
