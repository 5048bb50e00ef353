//! What can go wrong when something that follows etcd is set up.

use crate::failure::{Failure, FailureKind};
use crate::version::Version;

/// Why it could not be set up, or used.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It was given something that can never work.
    #[error("invalid {what}: {reason}")]
    Config {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it and how to put it right.
        reason: String,
    },
    /// etcd could not be read within the time that was allowed for the start.
    #[error("cannot read {key} from {endpoints}")]
    Unreachable {
        /// What was to be read.
        key: String,
        /// Where.
        endpoints: String,
        /// Why the last attempt failed.
        #[source]
        source: Failure,
    },
    /// The certificates of this side and of etcd do not fit together.
    #[error(
        "no secure connection to {endpoints}; check the CA, the client certificate and the name in etcd's certificate"
    )]
    Tls {
        /// Where.
        endpoints: String,
        /// What TLS said.
        #[source]
        source: Failure,
    },
    /// etcd does not let this user, or nobody as a user, read.
    #[error("{endpoints} refuses to let {user} read {key}")]
    Denied {
        /// What was to be read.
        key: String,
        /// Where.
        endpoints: String,
        /// Who: a name, or that there is none.
        user: String,
        /// What etcd said.
        #[source]
        source: Failure,
    },
    /// One of two namespaces of keyspaces lies inside the other.
    #[error(
        "the namespace {namespace:?} and {other:?}, which is in use, are one inside the other; choose one that neither begins with the other nor the other with it"
    )]
    Overlap {
        /// The one that was asked for.
        namespace: String,
        /// The one that is in use.
        other: String,
    },
    /// etcd is too old.
    #[error("{endpoints} is etcd {version}; Tidewatch needs {needed} or later")]
    Outdated {
        /// Where.
        endpoints: String,
        /// What it is.
        version: Version,
        /// What it must be at least.
        needed: Version,
    },
    /// What etcd said cannot be.
    #[error("what etcd says makes no sense")]
    Contradiction(#[source] tidewatch_core::error::Cause),
}

impl Error {
    /// Whether the same may work later without anybody changing settings.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind != FailureKind::Refused)
    }
}
