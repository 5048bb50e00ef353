//! What can go wrong.

use tidewatch_core::Revision;

use crate::reason::Rejection;

/// Why directives could not be published. Nothing was written.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The set, or the set with the change, is not right.
    #[error("the directives are rejected: {0}")]
    Rejected(Rejection),
    /// What is stored is malformed, so that one directive of it cannot be changed.
    #[error("the stored set is malformed ({0}); replace it with `publish`, or `clear` it")]
    Stored(Rejection),
    /// There is no such directive.
    #[error("there is no directive {id:?}; `tidewatch directives show` lists those there are")]
    NotFound {
        /// Its id.
        id: String,
    },
    /// The set is not at the revision at which it was to be changed.
    #[error(
        "the set is at revision {actual}, not at {expected}; look at it again, and repeat the change if it is still right"
    )]
    Changed {
        /// Where it was to be.
        expected: Revision,
        /// Where it is; 0 if there is none.
        actual: Revision,
    },
    /// Others kept changing the set.
    #[error("gave up after {attempts} attempts, because the set changed each time; try again")]
    Conflict {
        /// How often it was tried.
        attempts: usize,
    },
    /// The keyspace did not do it.
    #[error(transparent)]
    Keyspace(#[from] tidewatch_core::Error),
}
