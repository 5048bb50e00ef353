//! The two halves of a container put together: what its deployer knows and what Docker shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewatch_core::{EventKind, KeyValue, Revision};

use crate::container::ContainerRow;
use crate::deploy::DeployRow;
use crate::key::FleetKey;
use crate::name::{HostName, Role, RowName, WorkloadId};
use crate::port::{Network, Port};
use crate::state::{Health, State};
use crate::value::Extra;
use crate::view::{Entry, View};
use crate::workload::Kind;

/// A container as people want to see it: one line of `tidewatch ps`.
///
/// A container row and a deploy row of the same workload and name belong together, if the deploy row
/// does not name another host. Where both have a field, Docker's is shown. Nothing of this is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinedRow {
    /// The key of the container row; for a placeholder, that of the deploy row.
    pub key: String,
    /// When one of the two was last written.
    pub mod_revision: u64,
    /// `<workload>:<row>`.
    pub id: String,
    /// The workload.
    pub workload_id: WorkloadId,
    /// Its kind.
    pub workload_kind: Kind,
    /// The name of the row.
    pub row: RowName,
    /// The role.
    pub role: Role,
    /// The host; empty if a deployer does not know it yet.
    pub host: String,
    /// The daemon.
    #[serde(default)]
    pub daemon_id: String,
    /// Docker's id of the container; empty for a placeholder.
    #[serde(default)]
    pub container_id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its image.
    #[serde(default)]
    pub image_ref: String,
    /// The id of its image.
    #[serde(default)]
    pub image_id: String,
    /// The state: as it was written, or `starting` for a placeholder, or `unknown` when nobody
    /// observes the host.
    pub state: State,
    /// What the health check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// All ports.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// All networks.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Compose's labels and ours.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Whether it was ended for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// How often its restart policy has started it again.
    #[serde(default)]
    pub restart_count: u64,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The deployer's word for how far it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deploy_state: String,
    /// The stage it was deployed to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage_id: String,
    /// The tag it was deployed with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_tag: String,
    /// Where people reach it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subdomain: String,
    /// The id of its route in a proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy_route_id: String,
    /// The id of its host in Nginx Proxy Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm_proxy_id: Option<i64>,
    /// Fields of others, from both halves.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The fields of a [`JoinedRow`] that have a place of their own.
const FIELDS: [&str; 31] = [
    "key",
    "mod_revision",
    "id",
    "workload_id",
    "workload_kind",
    "row",
    "role",
    "host",
    "daemon_id",
    "container_id",
    "name",
    "image_ref",
    "image_id",
    "state",
    "health",
    "port",
    "ports",
    "networks",
    "labels",
    "exit_code",
    "oom_killed",
    "restart_count",
    "started_at",
    "reason",
    "deploy_state",
    "stage_id",
    "image_tag",
    "subdomain",
    "proxy_route_id",
    "npm_proxy_id",
    "gone_since",
];

/// A change of the joined rows.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinedChange {
    /// A row is new or different.
    Put(Box<JoinedRow>),
    /// The row with this key is gone.
    Removed(String),
}

impl View {
    /// All containers, in the order of workload, row and host.
    pub fn joined(&self) -> Vec<JoinedRow> {
        let placeholders = self
            .deploy
            .iter()
            .filter_map(|(at, entry)| self.placeholder(at, entry));
        let observed = self.containers.iter().map(|(at, entry)| self.observed(at, entry));
        let mut rows: Vec<_> = observed.chain(placeholders).collect();
        rows.sort_by(|a, b| {
            (&a.workload_id, &a.row, &a.host, &a.key).cmp(&(&b.workload_id, &b.row, &b.host, &b.key))
        });
        rows
    }

    /// Takes over a change of one key, and tells which joined rows it changes.
    pub fn apply(&mut self, kind: EventKind, kv: &KeyValue) -> Vec<JoinedChange> {
        let Some(Ok(name)) = FleetKey::parse(&kv.key) else {
            match kind {
                EventKind::Put => self.put(kv),
                EventKind::Delete => self.delete(&kv.key),
            }
            return Vec::new();
        };
        let mut before = self.joined_near(&name);
        match kind {
            EventKind::Put => self.put(kv),
            EventKind::Delete => self.delete(&kv.key),
        }
        let mut changes = Vec::new();
        for (key, row) in self.joined_near(&name) {
            if before.remove(&key).as_ref() != Some(&row) {
                changes.push(JoinedChange::Put(Box::new(row)));
            }
        }
        changes.extend(before.into_keys().map(JoinedChange::Removed));
        changes
    }

    /// The joined rows that a change of `name` can touch.
    fn joined_near(&self, name: &FleetKey) -> BTreeMap<String, JoinedRow> {
        let near = |workload: &WorkloadId, row: &RowName, host: Option<&HostName>| match name {
            FleetKey::Workload(id) => workload == id,
            FleetKey::Deploy(id, of) | FleetKey::Container(id, _, of) => workload == id && row == of,
            FleetKey::Alive(of) => host == Some(of),
            FleetKey::Host(_) => false,
        };
        let observed = self
            .containers
            .iter()
            .filter(|((workload, row, host), _)| near(workload, row, Some(host)))
            .map(|(at, entry)| self.observed(at, entry));
        let placeholders = self
            .deploy
            .iter()
            .filter(|((workload, row), _)| near(workload, row, None))
            .filter_map(|(at, entry)| self.placeholder(at, entry));
        observed
            .chain(placeholders)
            .map(|row| (row.key.clone(), row))
            .collect()
    }

    /// A container row, with the deploy row of its name.
    fn observed(
        &self,
        (workload, row, host): &(WorkloadId, RowName, HostName),
        entry: &Entry<ContainerRow>,
    ) -> JoinedRow {
        let key = FleetKey::Container(workload.clone(), host.clone(), row.clone());
        let deploy = self.deploy.get(&(workload.clone(), row.clone()));
        let deploy = deploy.filter(|deploy| deploy.value.host.as_ref().is_none_or(|of| of == host));
        let revision = deploy.map_or(entry.mod_revision, |deploy| {
            deploy.mod_revision.max(entry.mod_revision)
        });
        let empty = DeployRow::default();
        let mut joined = JoinedRow::new(
            &key,
            revision,
            row,
            entry.value.clone(),
            deploy.map_or(&empty, |deploy| &deploy.value),
        );
        if !self.alive.contains_key(host) {
            joined.state = State::Unknown;
            joined.health = None;
            joined.reason = match self.absent_since.get(host) {
                Some(since) => {
                    let since = humantime::format_rfc3339_seconds(*since);
                    format!("nobody has reconciled host {host} since {since}")
                }
                None => format!("nobody reconciles host {host}"),
            };
        }
        joined
    }

    /// A deploy row without a container row; none if it has one.
    fn placeholder(
        &self,
        (workload, row): &(WorkloadId, RowName),
        entry: &Entry<DeployRow>,
    ) -> Option<JoinedRow> {
        let deploy = &entry.value;
        let first = (workload.clone(), row.clone(), HostName::first());
        let observed = self
            .containers
            .range(first..)
            .take_while(|((of, name, _), _)| (of, name) == (workload, row))
            .any(|((.., host), _)| deploy.host.as_ref().is_none_or(|of| of == host));
        if observed {
            return None;
        }
        let kind = self
            .workloads
            .get(workload)
            .map_or(Kind::Project, |workload| workload.value.kind);
        let role = deploy.role.clone().unwrap_or_else(|| Role::from(row.clone()));
        // The host is overwritten below: a container row always has one, a placeholder need not.
        let mut container = ContainerRow::new(workload.clone(), kind, HostName::first(), row, role);
        if deploy.is_placeholder() {
            container.state = State::Starting;
        } else {
            container.container_id.clone_from(&deploy.container_id);
            "no host has shown this container".clone_into(&mut container.reason);
        }
        let key = FleetKey::Deploy(workload.clone(), row.clone());
        let mut joined = JoinedRow::new(&key, entry.mod_revision, row, container, deploy);
        joined.host = deploy.host.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(joined)
    }
}

impl JoinedRow {
    fn new(
        key: &FleetKey,
        revision: Revision,
        row: &RowName,
        container: ContainerRow,
        deploy: &DeployRow,
    ) -> Self {
        let mut extra = deploy.extra.clone();
        extra.extend(container.extra);
        // What has a place of its own here may be somebody's own field in the other half; it must not
        // appear twice.
        for field in FIELDS {
            extra.remove(field);
        }
        Self {
            key: key.to_string(),
            mod_revision: revision.0,
            id: container.id,
            workload_id: container.workload_id,
            workload_kind: container.workload_kind,
            row: row.clone(),
            role: container.role,
            host: container.host.to_string(),
            daemon_id: container.daemon_id,
            container_id: container.container_id,
            name: container.name,
            image_ref: container.image_ref,
            image_id: container.image_id,
            state: container.state,
            health: container.health,
            port: container.port,
            ports: container.ports,
            networks: container.networks,
            labels: container.labels,
            exit_code: container.exit_code,
            oom_killed: container.oom_killed,
            restart_count: container.restart_count,
            started_at: container.started_at,
            reason: container.reason,
            deploy_state: deploy.state.clone(),
            stage_id: deploy.stage_id.clone(),
            image_tag: deploy.image_tag.clone(),
            subdomain: deploy.subdomain.clone(),
            proxy_route_id: deploy.proxy_route_id.clone(),
            npm_proxy_id: deploy.npm_proxy_id,
            extra,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::kv;

    const WEB: &str = r#"{"id":"shop:web","workload_id":"shop","workload_kind":"project","role":"web","host":"h1","container_id":"c1","state":"running","port":8080}"#;

    fn view(entries: &[(&str, &str)]) -> View {
        let mut view = View::default();
        for (revision, (key, value)) in entries.iter().enumerate() {
            view.put(&kv(key, value, revision as u64 + 2));
        }
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view
    }

    #[test]
    fn the_two_halves_of_a_container_are_one_row() {
        let view = view(&[
            ("/alive/h1", r#"{"instance":"i"}"#),
            ("/containers/shop/h1/web", WEB),
            (
                "/deploy/shop/web",
                r#"{"role":"other","host":"h1","container_id":"c1","subdomain":"shop","npm_proxy_id":7,"name":"mine","team":"x"}"#,
            ),
        ]);
        let rows = view.joined();
        assert_eq!(rows.len(), 1);
        let json = serde_json::to_value(&rows[0]).unwrap();
        for (field, content) in [
            ("key", serde_json::Value::from("/containers/shop/h1/web")),
            ("mod_revision", 4.into()),
            ("role", "web".into()),
            ("state", "running".into()),
            ("port", 8080.into()),
            ("subdomain", "shop".into()),
            ("npm_proxy_id", 7.into()),
            ("team", "x".into()),
            ("name", "".into()),
        ] {
            assert_eq!(json[field], content, "{field}");
        }
        assert_eq!(serde_json::from_value::<JoinedRow>(json).unwrap(), rows[0]);
    }

    #[test]
    fn a_placeholder_is_starting_and_a_named_container_nobody_has_shown_is_unknown() {
        let view = view(&[
            ("/deploy/shop/a", r#"{"role":"web","host":"h1"}"#),
            ("/deploy/shop/b", r#"{"container_id":"c9"}"#),
        ]);
        let rows = view.joined();
        assert_eq!(rows[0].state, State::Starting);
        assert_eq!((&*rows[0].key, &*rows[0].host), ("/deploy/shop/a", "h1"));
        assert_eq!(rows[1].state, State::Unknown);
        assert_eq!((rows[1].role.as_str(), &*rows[1].host), ("b", ""));
    }

    #[test]
    fn the_rows_of_a_host_nobody_reconciles_read_as_unknown() {
        let mut view = view(&[
            ("/alive/h1", r#"{"instance":"i"}"#),
            ("/containers/shop/h1/web", WEB),
        ]);
        assert_eq!(view.joined()[0].state, State::Running);
        let changes = view.apply(EventKind::Delete, &kv("/alive/h1", "", 9));
        let [JoinedChange::Put(row)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(
            (row.state, &*row.reason),
            (State::Unknown, "nobody reconciles host h1")
        );
        view.absent_since
            .insert("h1".parse().unwrap(), std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(
            view.joined()[0].reason,
            "nobody has reconciled host h1 since 1970-01-01T00:00:00Z"
        );
        assert_eq!(
            view.containers.values().next().unwrap().value.state,
            State::Running
        );
    }

    #[test]
    fn a_change_of_either_half_tells_the_rows_it_changes_and_no_others() {
        let mut view = view(&[("/alive/h1", r#"{"instance":"i"}"#)]);
        let changes = view.apply(
            EventKind::Put,
            &kv("/deploy/shop/web", r#"{"host":"h1","subdomain":"a"}"#, 5),
        );
        assert!(matches!(&changes[..], [JoinedChange::Put(row)] if row.state == State::Starting));
        let changes = view.apply(EventKind::Put, &kv("/containers/shop/h1/web", WEB, 6));
        let [JoinedChange::Put(row), JoinedChange::Removed(gone)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!((&*row.subdomain, &**gone), ("a", "/deploy/shop/web"));
        assert!(view.apply(EventKind::Put, &kv("/hosts/h1", "{}", 7)).is_empty());
        let changes = view.apply(EventKind::Delete, &kv("/containers/shop/h1/web", "", 8));
        assert_eq!(
            changes.len(),
            2,
            "the row goes, the placeholder is back: {changes:?}"
        );
    }

    #[test]
    fn every_field_with_a_place_of_its_own_is_in_the_list_of_them() {
        let mut row = view(&[("/containers/shop/h1/web", WEB)]).joined().remove(0);
        row.health = Some(Health::Healthy);
        row.exit_code = Some(1);
        row.started_at = Some("x".into());
        row.npm_proxy_id = Some(1);
        for text in [
            &mut row.reason,
            &mut row.deploy_state,
            &mut row.stage_id,
            &mut row.image_tag,
            &mut row.subdomain,
            &mut row.proxy_route_id,
        ] {
            *text = "x".into();
        }
        let json = serde_json::to_value(&row).unwrap();
        let fields: std::collections::BTreeSet<_> =
            json.as_object().unwrap().keys().map(String::as_str).collect();
        let listed: std::collections::BTreeSet<_> = FIELDS
            .into_iter()
            .filter(|field| *field != "gone_since")
            .collect();
        assert_eq!(fields, listed);
    }
}
