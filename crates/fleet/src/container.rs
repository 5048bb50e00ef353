//! What Docker shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{HostName, Role, RowName, WorkloadId};
use crate::port::{Network, Port};
use crate::state::{Health, State};
use crate::value::Extra;
use crate::workload::Kind;

/// A container row: what Docker shows of a container that belongs to a workload. Written by the
/// reconciler of its host only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// `<workload>:<row>`.
    pub id: String,
    /// The workload.
    pub workload_id: WorkloadId,
    /// The workload's kind, as it was declared.
    pub workload_kind: Kind,
    /// The role within the workload.
    pub role: Role,
    /// The host it is on.
    pub host: HostName,
    /// The daemon that showed it; empty if it has no id.
    #[serde(default)]
    pub daemon_id: String,
    /// Docker's id of the container; empty for a placeholder.
    #[serde(default)]
    pub container_id: String,
    /// Its name, without the leading slash.
    #[serde(default)]
    pub name: String,
    /// The image it was created from.
    #[serde(default)]
    pub image_ref: String,
    /// The id of that image.
    #[serde(default)]
    pub image_id: String,
    /// The state.
    pub state: State,
    /// What its health check says; none if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The first port, in a stable order; the last known one while it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// All ports, sorted; the last known ones while it does not run.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The networks it is connected to, sorted.
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
    /// When it was last started, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Why it is in this state, for people; empty if the state says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Since when the container is gone, or another daemon answers in place of its own: RFC 3339. What
    /// the retention time is counted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<String>,
    /// Fields of others.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ContainerRow {
    /// A row about which nothing is known but where it belongs.
    pub fn new(workload: WorkloadId, kind: Kind, host: HostName, row: &RowName, role: Role) -> Self {
        Self {
            id: Self::id_of(&workload, row),
            workload_id: workload,
            workload_kind: kind,
            role,
            host,
            daemon_id: String::new(),
            container_id: String::new(),
            name: String::new(),
            image_ref: String::new(),
            image_id: String::new(),
            state: State::Unknown,
            health: None,
            port: None,
            ports: Vec::new(),
            networks: Vec::new(),
            labels: BTreeMap::new(),
            exit_code: None,
            oom_killed: false,
            restart_count: 0,
            started_at: None,
            reason: String::new(),
            gone_since: None,
            extra: Extra::new(),
        }
    }

    /// The id of a row: `<workload>:<row>`.
    pub fn id_of(workload: &WorkloadId, row: &RowName) -> String {
        format!("{workload}:{row}")
    }
}
