//! What is declared.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::name::{Role, WorkloadId};
use crate::value::Extra;

/// Ids that begin like this belong to the compose plugin, which declares a workload per Compose
/// project.
pub const COMPOSE_PREFIX: &str = "compose-";

/// A workload: something that consists of containers, on one host or many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Its id, the last part of its key.
    pub id: WorkloadId,
    /// What sort of thing it is.
    pub kind: Kind,
    /// A name for people; empty: the id will do.
    #[serde(default)]
    pub name: String,
    /// What the declaring system calls it.
    #[serde(default)]
    pub ref_id: String,
    /// Labels. `container` tells the plugin of [`Kind::Static`] which container it is.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What has to run for it to be healthy, by role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<Role, Expect>,
    /// Fields of others.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Workload {
    /// A workload with nothing but an id and a kind.
    pub fn new(id: WorkloadId, kind: Kind) -> Self {
        Self {
            id,
            kind,
            name: String::new(),
            ref_id: String::new(),
            labels: BTreeMap::new(),
            expect: BTreeMap::new(),
            extra: Extra::new(),
        }
    }

    /// Whether the id is one of those that only the compose plugin may declare.
    pub fn is_adopted(id: &WorkloadId) -> bool {
        id.as_str().starts_with(COMPOSE_PREFIX)
    }
}

/// How many containers of a role are expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// At least so many must be running and not unhealthy.
    pub min: u32,
}

/// What sort of thing a workload is, which decides who looks after its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Containers that carry our labels.
    Stack,
    /// Containers of a deployer, which announces each by a deploy row; none is invented.
    Project,
    /// One image, kept running by a deployer.
    Image,
    /// A Compose project.
    Compose,
    /// A container bound by its name, that must run though nobody deploys it.
    Static,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Stack,
        Self::Project,
        Self::Image,
        Self::Compose,
        Self::Static,
    ];

    /// The word that rows, labels and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Project => "project",
            Self::Image => "image",
            Self::Compose => "compose",
            Self::Static => "static",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| Error::UnknownKind {
            kind: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_with_the_ones_there_are() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let error = "pod".parse::<Kind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown kind \"pod\"; it must be one of stack, project, image, compose, static"
        );
    }
}
