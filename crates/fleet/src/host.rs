//! The hosts of the fleet, and who looks after them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::value::Extra;

/// What is known of a host. Written by its reconciler, when something about it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The id of its daemon; empty if it has none.
    #[serde(default)]
    pub daemon_id: String,
    /// Versions by component.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Where others reach the host; empty if nobody said.
    #[serde(default)]
    pub address: String,
    /// Whether its Docker answers.
    #[serde(default)]
    pub reachable: bool,
    /// Since when that is so, RFC 3339.
    #[serde(default)]
    pub since: String,
    /// Why it does not answer; empty if it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Fields of others.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who reconciles a host. The key lives as long as its lease, and its absence means that nobody
/// does: that host's rows read as unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The id of the reconciler: kept in a server's data directory, new at each start of an agent.
    pub instance: String,
    /// What that is and where it runs, for people, as in `agent on web1`; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// The instance, with what it is if that is known.
impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.instance)?;
        if self.by.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.by)
    }
}
