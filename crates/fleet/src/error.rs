//! What can go wrong.

use crate::name::{NameError, WorkloadId};

/// Why a call on the fleet failed. Nothing was written.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such kind of workload.
    #[error("unknown kind {kind:?}; it must be one of stack, project, image, compose, static")]
    UnknownKind {
        /// What was given.
        kind: String,
    },
    /// The id belongs to the compose plugin.
    #[error(
        "workload id \"{id}\" is reserved: \"compose-\" and a project's name is what a Compose project is \
         adopted as; choose another id"
    )]
    Reserved {
        /// The id.
        id: WorkloadId,
    },
    /// The kind belongs to the compose plugin.
    #[error(
        "kind \"compose\" is reserved: a workload of this kind is declared for each Compose project that is found; \
         choose another kind for \"{id}\""
    )]
    ReservedKind {
        /// The id of the workload.
        id: WorkloadId,
    },
    /// There is no such workload.
    #[error("workload \"{id}\" does not exist; `tidewatch workload ls` shows those that do")]
    WorkloadNotFound {
        /// The id.
        id: WorkloadId,
    },
    /// A deployer still has rows of the workload.
    #[error(
        "workload \"{id}\" still has deploy rows ({first} and {} more); remove them first, or force it",
        .count.saturating_sub(1)
    )]
    DeployRowsExist {
        /// The id.
        id: WorkloadId,
        /// The key of the first one.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// A value is not what its key needs.
    #[error("invalid value of {key}: {reason}")]
    InvalidValue {
        /// The key.
        key: String,
        /// What is wrong, and where in the value.
        reason: String,
    },
    /// Others kept changing the same keys.
    #[error("gave up after {attempts} attempts, because {key} changed each time; try again")]
    Conflict {
        /// The key.
        key: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// The keyspace did not do it.
    #[error(transparent)]
    Keyspace(#[from] tidewatch_core::Error),
}

impl Error {
    /// Whether what was to be read is no longer in the history: reading again from the beginning helps.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Keyspace(tidewatch_core::Error::Compacted { .. }))
    }
}
