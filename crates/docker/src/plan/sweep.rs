//! What becomes of rows whose container was not listed.

use std::time::Duration;

use tidewatch_fleet::{ContainerRow, FleetKey, State, WorkloadId};

use super::Change;
use super::bind::{Place, Planner};
use crate::lister::Scope;

/// What a row says when its container is gone.
const GONE: &str = "the container does not exist any more";
/// What a row says when nobody can ask its daemon any more.
const OTHER_DAEMON: &str = "another Docker daemon answers on this host";

impl Planner<'_> {
    /// Looks at every row that got no container.
    pub(super) fn sweep(&mut self) {
        let left: Vec<Place> = self
            .rows
            .keys()
            .filter(|place| !self.taken.contains_key(*place))
            .cloned()
            .collect();
        for place in left {
            let row = &self.rows[&place].value;
            if let Some(change) = self.leftover(&place, row) {
                self.written.insert(place, change);
            }
        }
    }

    fn leftover(&self, place: &Place, row: &ContainerRow) -> Option<Change> {
        let key = FleetKey::Container(place.0.clone(), self.host.name.clone(), place.1.clone());
        // The container has another row now, or is not to have one any more.
        if self.listed.contains_key(&*row.container_id) {
            return Some(Change::Remove(key));
        }
        if self.scope == Scope::All && self.is_orphan(&place.0) {
            return Some(Change::Remove(key));
        }
        // A placeholder; its container is still to come.
        if row.container_id.is_empty() {
            return None;
        }
        if !self.is_ours(row) {
            let whole = self.scope == Scope::All;
            return whole.then(|| self.gone(key, row, State::Unknown, OTHER_DAEMON))?;
        }
        let told = self.scope.contains(&row.container_id) && self.listing.undecodable == 0;
        told.then(|| self.gone(key, row, State::Missing, GONE))?
    }

    /// Whether a row's workload was removed, and not merely overwritten with nonsense.
    fn is_orphan(&self, workload: &WorkloadId) -> bool {
        !self.view.workloads.contains_key(workload)
            && !self.is_declared(workload)
            && !self.unreadable(workload)
    }

    /// The row of a container that is not there: told once, and removed when its time is over.
    fn gone(&self, key: FleetKey, row: &ContainerRow, state: State, reason: &str) -> Option<Change> {
        if row.state == state
            && let Some(since) = row.gone_since.as_deref()
        {
            let since = humantime::parse_rfc3339(since).unwrap_or(self.host.now);
            // The wall clock may have been set back; then nothing is old.
            let age = self.host.now.duration_since(since).unwrap_or(Duration::ZERO);
            return (age >= self.host.retention).then_some(Change::Remove(key));
        }
        let mut gone = row.clone();
        gone.state = state;
        gone.health = None;
        reason.clone_into(&mut gone.reason);
        // A row that was missing when its daemon went away has been gone since then.
        if gone.gone_since.is_none() {
            let now = humantime::format_rfc3339_seconds(self.host.now);
            gone.gone_since = Some(now.to_string());
        }
        Some(Change::Update(key, Box::new(gone)))
    }

    /// Lets the plugins retire workloads; only a look at everything can tell that.
    pub(super) fn retire(&mut self) {
        if self.scope != Scope::All {
            return;
        }
        let mut retired = Vec::new();
        for plugin in &self.host.plugins {
            let present = |id: &WorkloadId| self.taken.keys().any(|(workload, _)| workload == id);
            retired.extend(plugin.retired(self.view, &present));
        }
        retired.sort();
        retired.dedup();
        let retired = retired.into_iter().map(FleetKey::Workload).map(Change::Retire);
        self.retired.extend(retired);
    }
}
