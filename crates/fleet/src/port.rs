//! Where a container can be reached.

use serde::{Deserialize, Serialize};

/// A port that a container exposes. Ordered so that the first one of a sorted list is the same
/// whatever order Docker chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port inside the container.
    pub private: u16,
    /// The port on the host, if it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<u16>,
    /// The address on the host it is published at; empty if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// One this code does not know.
    #[serde(other)]
    Unknown,
}

impl Protocol {
    /// What Docker's word means.
    pub fn from_docker(word: &str) -> Self {
        match word {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            _ => Self::Unknown,
        }
    }
}

/// A network that a container is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The container's address in it; empty while it does not run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
}
