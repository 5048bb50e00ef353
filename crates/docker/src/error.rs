//! What can go wrong.

use crate::lister::ListError;

/// Why a host could not be reconciled. No row was changed, unless the plan was larger than one
/// transaction: then some of it may have been applied, and the rest follows with the next attempt.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Docker gave no answer that could be used.
    #[error("failed to ask docker")]
    Docker(#[from] ListError),
    /// The keyspace did not do what it was asked for.
    #[error("failed to use the keyspace")]
    Keyspace(#[from] tidewatch_core::Error),
    /// The keyspace did not answer in time. What was asked for may have happened.
    #[error("the keyspace did not answer within {} ms", .after.as_millis())]
    KeyspaceTimeout {
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// Somebody else reconciles this host.
    #[error(
        "host {host} is reconciled by instance {instance}; give one of the two another --host-name, or stop it"
    )]
    NotOurs {
        /// The host.
        host: tidewatch_fleet::HostName,
        /// The instance that does.
        instance: String,
    },
    /// The claim under which the host was looked at no longer stands: its lease has expired, or somebody
    /// has touched the key. What was seen may be older than what another instance has written since, so
    /// everything has to be listed again.
    #[error("the claim on host {host} was lost while it was looked at")]
    ClaimLost {
        /// The host.
        host: tidewatch_fleet::HostName,
    },
    /// Workloads kept appearing and vanishing under the plan.
    #[error("gave up after {attempts} attempts, because workloads changed each time")]
    Conflict {
        /// How often it was tried.
        attempts: usize,
    },
}

impl From<tidewatch_fleet::Error> for Error {
    fn from(error: tidewatch_fleet::Error) -> Self {
        match error {
            tidewatch_fleet::Error::Keyspace(error) => Self::Keyspace(error),
            other => Self::Keyspace(tidewatch_core::Error::InvalidArgument {
                what: "fleet",
                reason: other.to_string(),
            }),
        }
    }
}
