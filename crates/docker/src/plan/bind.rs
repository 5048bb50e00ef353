//! Which row a container gets.
//!
//! Evidence is taken in the order of its strength: what a deployer wrote, what the row says already,
//! then what the container says of itself. Within one kind of evidence the oldest container is first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tidewatch_fleet::{
    ContainerRow, DeployRow, Entry, FleetKey, HostName, Kind, Role, RowName, State, View, Workload,
    WorkloadId,
};

use super::report::{BoundBy, Outcome, Reason, Verdict};
use super::{Change, Plan, PlanHost, row};
use crate::container::Container;
use crate::inspect::Facts;
use crate::label;
use crate::lister::{Listing, Scope};
use crate::plugin::{Claim, WorkloadReconciler};

/// A row on this host.
pub(super) type Place = (WorkloadId, RowName);

/// One run of [`plan`](super::plan).
pub(crate) struct Planner<'a> {
    pub(super) view: &'a View,
    pub(super) listing: &'a Listing,
    pub(super) scope: Scope<'a>,
    facts: &'a BTreeMap<String, Facts>,
    pub(super) host: &'a PlanHost,
    /// The listed containers in scope, oldest first, each once.
    containers: Vec<&'a Container>,
    /// The listed containers by id.
    pub(super) listed: HashMap<&'a str, &'a Container>,
    /// The rows of this host.
    pub(super) rows: BTreeMap<Place, &'a Entry<ContainerRow>>,
    row_of: HashMap<&'a str, Place>,
    deploy_of: HashMap<&'a str, Place>,
    /// The rows that have been given away in this run, and to whom.
    pub(super) taken: HashMap<Place, &'a str>,
    /// No row of this role below this number is free.
    numbered: HashMap<(WorkloadId, Role), usize>,
    declared: BTreeMap<WorkloadId, Workload>,
    pub(super) written: BTreeMap<Place, Change>,
    pub(super) retired: Vec<Change>,
    inspect: BTreeSet<String>,
    verdicts: BTreeMap<String, Verdict>,
}

/// What a container says of itself, or a plugin about it.
struct Wish {
    workload: WorkloadId,
    kind: Kind,
    row: Option<RowName>,
    by: BoundBy,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        view: &'a View,
        listing: &'a Listing,
        scope: Scope<'a>,
        facts: &'a BTreeMap<String, Facts>,
        host: &'a PlanHost,
    ) -> Self {
        let wanted: Option<BTreeSet<&str>> = match scope {
            Scope::All => None,
            Scope::Ids(ids) => Some(ids.iter().map(String::as_str).collect()),
        };
        let mut listed = HashMap::with_capacity(listing.containers.len());
        let mut containers = Vec::with_capacity(listing.containers.len());
        for container in &listing.containers {
            let in_scope = wanted.as_ref().is_none_or(|ids| ids.contains(&*container.id));
            if in_scope && listed.insert(&*container.id, container).is_none() {
                containers.push(container);
            }
        }
        containers.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));

        let own = view.containers.iter().filter(|((.., on), _)| *on == host.name);
        let rows: BTreeMap<Place, _> = own
            .map(|((workload, row, _), entry)| ((workload.clone(), row.clone()), entry))
            .collect();
        let mut row_of = HashMap::with_capacity(rows.len());
        for (place, entry) in &rows {
            if !entry.value.container_id.is_empty() {
                row_of
                    .entry(&*entry.value.container_id)
                    .or_insert_with(|| place.clone());
            }
        }
        let mut deploy_of = HashMap::new();
        for (place, entry) in &view.deploy {
            if !entry.value.is_placeholder() && may_be_on(&entry.value, &host.name) {
                deploy_of
                    .entry(&*entry.value.container_id)
                    .or_insert_with(|| place.clone());
            }
        }
        Self {
            view,
            listing,
            scope,
            facts,
            host,
            containers,
            listed,
            rows,
            row_of,
            deploy_of,
            taken: HashMap::new(),
            numbered: HashMap::new(),
            declared: BTreeMap::new(),
            written: BTreeMap::new(),
            retired: Vec::new(),
            inspect: BTreeSet::new(),
            verdicts: BTreeMap::new(),
        }
    }

    /// Gives every listed container its row, or the reason why it has none.
    pub(super) fn bind(&mut self) {
        let mut rest = std::mem::take(&mut self.containers);
        rest.retain(|container| !self.bind_by_deploy_row(container));
        rest.retain(|container| !self.bind_by_row(container));
        let mut wishes = Vec::new();
        for container in rest {
            match self.wish(container) {
                Ok(wish) => wishes.push((container, wish)),
                Err(reason) => self.refuse(container, reason),
            }
        }
        // Who asks for a certain row is served before those that take any.
        wishes.sort_by_key(|(_, wish)| wish.row.is_none());
        for (container, wish) in wishes {
            match self.place(container, &wish) {
                Ok((row, by)) => self.give(container, (wish.workload, row), by),
                Err(reason) => self.refuse(container, reason),
            }
        }
    }

    fn bind_by_deploy_row(&mut self, container: &'a Container) -> bool {
        let Some(place) = self.deploy_of.get(&*container.id).cloned() else {
            return false;
        };
        if !self.view.workloads.contains_key(&place.0) {
            return false;
        }
        self.give(container, place, BoundBy::DeployRow);
        true
    }

    fn bind_by_row(&mut self, container: &'a Container) -> bool {
        let Some(place) = self.row_of.get(&*container.id).cloned() else {
            return false;
        };
        let workload = &place.0;
        // What was adopted is given up when adoption is switched off.
        let disowned = Workload::is_adopted(workload) && !self.adopts();
        let kept = self.view.workloads.contains_key(workload) || self.unreadable(workload);
        if disowned || !kept || self.taken.contains_key(&place) {
            return false;
        }
        let by = self.evidence(container, &place.0);
        self.give(container, place, by);
        true
    }

    /// Why a container has the row it had before, as far as it still says so itself: that is what
    /// people ask for.
    fn evidence(&self, container: &Container, workload: &WorkloadId) -> BoundBy {
        let names = &self.host.labels;
        let says = |label: &str| label::value(&container.labels, label);
        let labelled =
            says(names.managed()) == Some("true") && says(names.workload_id()) == Some(workload.as_str());
        if labelled {
            return BoundBy::Labels;
        }
        let claims = |plugin: &Arc<dyn WorkloadReconciler>| match plugin.claim(container, self.view) {
            Claim::Bound(id) => id == *workload,
            Claim::Adopted(adopted) => adopted.id == *workload,
            Claim::None | Claim::Refused(_) => false,
        };
        if self.host.plugins.iter().any(claims) {
            BoundBy::Plugin
        } else {
            BoundBy::Row
        }
    }

    fn adopts(&self) -> bool {
        self.host
            .plugins
            .iter()
            .any(|plugin| plugin.kind() == Kind::Compose)
    }

    /// What a container without a row says of itself, or a plugin about it.
    fn wish(&mut self, container: &Container) -> Result<Wish, Reason> {
        let names = &self.host.labels;
        if let Some(replaces) = self.replaces(container) {
            return Err(Reason::Waiting { replaces });
        }
        let managed = label::value(&container.labels, names.managed());
        let workload = label::value(&container.labels, names.workload_id());
        if managed == Some("false") {
            return Err(Reason::OptedOut {
                label: names.managed().to_owned(),
            });
        }
        if managed == Some("true")
            && let Some(id) = workload
        {
            let workload = parse(names.workload_id(), id)?;
            let row = label::value(&container.labels, names.row());
            let row = row.map(|row| parse(names.row(), row)).transpose()?;
            return self.wish_for(workload, row, BoundBy::Labels);
        }
        for plugin in &self.host.plugins {
            match plugin.claim(container, self.view) {
                Claim::None => {}
                Claim::Refused(reason) => return Err(reason),
                Claim::Bound(id) => return self.wish_for(id, None, BoundBy::Plugin),
                Claim::Adopted(workload) => {
                    let id = workload.id.clone();
                    if self.unreadable(&id) {
                        return Err(Reason::UnreadableWorkload { workload: id });
                    }
                    let kind = workload.kind;
                    self.declared.entry(id.clone()).or_insert(*workload);
                    return Ok(Wish {
                        workload: id,
                        kind,
                        row: None,
                        by: BoundBy::Plugin,
                    });
                }
            }
        }
        let label = names.managed().to_owned();
        Err(match workload {
            Some(_) => Reason::NotManaged { label },
            None => Reason::NotLabelled { label },
        })
    }

    /// The container that this one was made to replace, if that is still there: a row of its own would
    /// be one too many as soon as it is not.
    fn replaces(&self, container: &Container) -> Option<String> {
        if container.state != State::Created {
            return None;
        }
        let replaces = label::value(&container.labels, label::COMPOSE_REPLACE)?;
        let there = self.rows.values().any(|entry| {
            let row = &entry.value;
            let named = row.container_id == replaces || row.name == replaces;
            named && row.container_id != container.id && !self.is_gone(row)
        });
        there.then(|| replaces.to_owned())
    }

    fn wish_for(&self, workload: WorkloadId, row: Option<RowName>, by: BoundBy) -> Result<Wish, Reason> {
        match self.view.workloads.get(&workload) {
            // The kind that was declared counts, whatever a label says.
            Some(entry) => Ok(Wish {
                workload,
                kind: entry.value.kind,
                row,
                by,
            }),
            None if self.unreadable(&workload) => Err(Reason::UnreadableWorkload { workload }),
            None => Err(Reason::UnknownWorkload { workload }),
        }
    }

    pub(super) fn unreadable(&self, workload: &WorkloadId) -> bool {
        self.view.is_skipped(&FleetKey::Workload(workload.clone()))
    }

    /// The row that a container's wish leads to.
    fn place(&mut self, container: &'a Container, wish: &Wish) -> Result<(RowName, BoundBy), Reason> {
        if let Some(row) = &wish.row {
            return self.place_at(container, wish, row);
        }
        let role = row::role(container, None, None, &self.host.labels)?;
        if let Some(row) = self.placeholder(&wish.workload, &role) {
            return Ok((row, BoundBy::Placeholder));
        }
        if wish.kind == Kind::Project {
            return Err(Reason::NoDeployRow {
                workload: wish.workload.clone(),
            });
        }
        Ok((self.next_of_role(&wish.workload, &role), wish.by))
    }

    /// A container asks for a certain row.
    fn place_at(
        &self,
        container: &Container,
        wish: &Wish,
        row: &RowName,
    ) -> Result<(RowName, BoundBy), Reason> {
        let place = (wish.workload.clone(), row.clone());
        let deploy = self.view.deploy.get(&place).map(|entry| &entry.value);
        let deploy = deploy.filter(|deploy| may_be_on(deploy, &self.host.name));
        let holder = self
            .holder(&place)
            .or_else(|| self.named_by_deployer(deploy?, container));
        if let Some(holder) = holder {
            return Err(Reason::RowTaken {
                workload: place.0,
                row: place.1,
                holder: holder.to_owned(),
            });
        }
        match deploy {
            Some(_) => Ok((place.1, BoundBy::Placeholder)),
            None if wish.kind == Kind::Project => Err(Reason::NoDeployRow { workload: place.0 }),
            None => Ok((place.1, wish.by)),
        }
    }

    /// The container that a deploy row names, if it is another one than this and may well exist.
    fn named_by_deployer(&self, deploy: &'a DeployRow, container: &Container) -> Option<&'a str> {
        let named = &*deploy.container_id;
        let other = !named.is_empty() && named != container.id;
        let gone = match self.scope {
            Scope::All => self.listing.undecodable == 0 && !self.listed.contains_key(named),
            Scope::Ids(_) => self.scope.contains(named) && !self.listed.contains_key(named),
        };
        (other && !gone).then_some(named)
    }

    /// The container that has a row now: in this run, or as it is written, unless that one is known to
    /// be gone.
    fn holder(&self, place: &Place) -> Option<&'a str> {
        if let Some(holder) = self.taken.get(place) {
            return Some(holder);
        }
        let entry = *self.rows.get(place)?;
        let row = &entry.value;
        let free = row.container_id.is_empty() || self.is_gone(row);
        (!free).then_some(&*row.container_id)
    }

    /// Whether the container of a row is known not to exist any more.
    pub(super) fn is_gone(&self, row: &ContainerRow) -> bool {
        if self.listed.contains_key(&*row.container_id) || !self.is_ours(row) {
            return false;
        }
        let told = self.listing.undecodable == 0 && self.scope.contains(&row.container_id);
        told || row.state == State::Missing
    }

    /// Whether a row was written for the daemon that answered, as far as can be told.
    pub(super) fn is_ours(&self, row: &ContainerRow) -> bool {
        row.daemon_id.is_empty() || self.host.daemon_id.is_empty() || row.daemon_id == self.host.daemon_id
    }

    /// The one placeholder on this host that waits for a container of this role.
    fn placeholder(&self, workload: &WorkloadId, role: &Role) -> Option<RowName> {
        let mut waiting = self.view.deploy_rows_of(workload).filter(|(row, entry)| {
            let deploy = &entry.value;
            let wanted = deploy.role.as_ref().map_or(row.as_str(), Role::as_str);
            deploy.is_placeholder()
                && deploy.host.as_ref() == Some(&self.host.name)
                && wanted == role.as_str()
                && self.holder(&(workload.clone(), (*row).clone())).is_none()
        });
        let (row, _) = waiting.next()?;
        waiting.next().is_none().then(|| row.clone())
    }

    /// The first row of a role that nobody has, and that no deployer has reserved.
    fn next_of_role(&mut self, workload: &WorkloadId, role: &Role) -> RowName {
        let mut n = self
            .numbered
            .get(&(workload.clone(), role.clone()))
            .map_or(1, |n| n + 1);
        let row = loop {
            let place = (workload.clone(), RowName::of_role(role, n));
            let deploy = self.view.deploy.get(&place);
            let reserved = deploy.is_some_and(|entry| may_be_on(&entry.value, &self.host.name));
            if !reserved && self.holder(&place).is_none() {
                break place.1;
            }
            n += 1;
        };
        self.numbered.insert((workload.clone(), role.clone()), n);
        row
    }

    fn refuse(&mut self, container: &Container, reason: Reason) {
        let verdict = Verdict::new(container, Outcome::Untracked(reason));
        self.verdicts.insert(container.id.clone(), verdict);
    }

    /// Gives a container a row, and writes the row if it is different.
    fn give(&mut self, container: &'a Container, place: Place, by: BoundBy) {
        self.taken.insert(place.clone(), &container.id);
        let key = FleetKey::Container(place.0.clone(), self.host.name.clone(), place.1.clone());
        let outcome = Outcome::Tracked { row: key.clone(), by };
        self.verdicts
            .insert(container.id.clone(), Verdict::new(container, outcome));

        let stored = self.rows.get(&place).map(|entry| &entry.value);
        // What another row knew about the container moves with it.
        let moved = || {
            let place = self.row_of.get(&*container.id)?;
            Some(&self.rows.get(place)?.value)
        };
        let known = stored
            .filter(|row| row.container_id == container.id)
            .or_else(moved);
        let kind = match self.view.workloads.get(&place.0) {
            Some(entry) => entry.value.kind,
            None => self
                .declared
                .get(&place.0)
                .map(|workload| workload.kind)
                .or_else(|| stored.map(|row| row.workload_kind))
                .unwrap_or(Kind::Stack),
        };
        let deploy = self.view.deploy.get(&place).map(|entry| &entry.value);
        let facts = self.facts.get(&container.id);
        let desired = row::desired(&row::Seen {
            container,
            place: &place,
            kind,
            known,
            stored,
            deploy,
            facts,
            host: self.host,
        });
        if facts.is_none() && row::is_transition(known, container) {
            self.inspect.insert(container.id.clone());
        }
        let change = match stored {
            None => Change::Insert(key, Box::new(desired)),
            Some(stored) if *stored != desired => Change::Update(key, Box::new(desired)),
            Some(_) => return,
        };
        self.written.insert(place, change);
    }

    pub(super) fn is_declared(&self, workload: &WorkloadId) -> bool {
        self.declared.contains_key(workload)
    }

    pub(super) fn finish(self) -> Plan {
        let adopted: BTreeSet<&WorkloadId> = self.taken.keys().map(|(workload, _)| workload).collect();
        let declared = self
            .declared
            .iter()
            .filter(|(id, _)| adopted.contains(id))
            .map(|(_, workload)| Change::Declare(Box::new(workload.clone())));
        Plan {
            changes: declared
                .chain(self.written.into_values())
                .chain(self.retired)
                .collect(),
            verdicts: self.verdicts,
            inspect: self.inspect.into_iter().collect(),
            unswept: self.listing.undecodable,
        }
    }
}

/// Whether a deploy row may be about this host.
fn may_be_on(deploy: &DeployRow, host: &HostName) -> bool {
    deploy.host.as_ref().is_none_or(|of| of == host)
}

fn parse<T>(label: &str, text: &str) -> Result<T, Reason>
where
    T: std::str::FromStr<Err = tidewatch_fleet::NameError>,
{
    text.parse().map_err(|error| Reason::InvalidLabel {
        label: label.to_owned(),
        error,
    })
}
