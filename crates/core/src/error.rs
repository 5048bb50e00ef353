//! What can go wrong.

use std::sync::Arc;

use bytes::Bytes;

use crate::lease::LeaseId;
use crate::revision::{KeyspaceId, Revision};

/// The cause of an error that came from outside this crate: a disk, a network, a server.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a call on a keyspace failed. Unless a variant says otherwise, nothing was written.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A key is empty or too long.
    #[error("invalid key {:?}: {reason}", .key.escape_ascii().to_string())]
    InvalidKey {
        /// The key, shortened if it is long.
        key: Bytes,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A prefix does not start and end with `/`.
    #[error("invalid prefix {:?}: it must start and end with '/' and be at most 4096 bytes long", .prefix.escape_ascii().to_string())]
    InvalidPrefix {
        /// The prefix.
        prefix: Bytes,
    },
    /// A range could not contain a key.
    #[error("invalid range: its end {:?} is not after its start {:?}", .end.escape_ascii().to_string(), .start.escape_ascii().to_string())]
    InvalidRange {
        /// The start of the range.
        start: Bytes,
        /// Its end.
        end: Bytes,
    },
    /// A value is too large.
    #[error("the value of {:?} has {len} bytes, at most {max} are allowed", .key.escape_ascii().to_string())]
    ValueTooLarge {
        /// The key it was meant for.
        key: Bytes,
        /// Its size in bytes.
        len: usize,
        /// The largest allowed size.
        max: usize,
    },
    /// A transaction is too large.
    #[error("the transaction has {len} bytes, at most {max} are allowed")]
    TxnTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The largest allowed size.
        max: usize,
    },
    /// A transaction has too many operations.
    #[error("the transaction has {ops} operations, at most {max} are allowed")]
    TooManyOps {
        /// How many it has, as far as they were counted.
        ops: usize,
        /// The most allowed.
        max: usize,
    },
    /// A transaction would write one key twice.
    #[error("the transaction writes {:?} twice", .key.escape_ascii().to_string())]
    DuplicateKey {
        /// The key.
        key: Bytes,
    },
    /// Another argument is out of its range.
    #[error("invalid {what}: {reason}")]
    InvalidArgument {
        /// Which one.
        what: &'static str,
        /// What is wrong with it and how to put it right.
        reason: String,
    },
    /// The key to keep a value or lease of does not exist.
    #[error("key {:?} not found", .key.escape_ascii().to_string())]
    KeyNotFound {
        /// The key.
        key: Bytes,
    },
    /// There is no such lease, or it has expired.
    #[error("lease {id} not found")]
    LeaseNotFound {
        /// Its name.
        id: LeaseId,
    },
    /// A lease of this name exists already.
    #[error("lease {id} exists already")]
    LeaseExists {
        /// Its name.
        id: LeaseId,
    },
    /// The revision asked for is no longer in the history.
    #[error("revision {requested} has been compacted, the oldest one available is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest one that can be asked for.
        oldest: Revision,
    },
    /// The revision asked for is not in the history yet.
    #[error("revision {requested} is in the future, the current one is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The keyspace's revision.
        current: Revision,
    },
    /// A position belongs to another keyspace, or to a history this one has not had.
    #[error("the position belongs to another history, keyspace {actual} is at revision {current}")]
    KeyspaceChanged {
        /// The keyspace that was asked.
        actual: KeyspaceId,
        /// Its revision.
        current: Revision,
    },
    /// The keyspace is full. Reads and deletes go on.
    #[error("the keyspace is full: {used} of {quota} bytes are in use; delete keys or raise the quota")]
    NoSpace {
        /// Bytes in use.
        used: u64,
        /// The quota in bytes.
        quota: u64,
    },
    /// Too many watchers, or too many of something else that is bounded.
    #[error("limit of {limit} {what} exceeded")]
    LimitExceeded {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The journal could not make a change durable. The change was not made.
    #[error("failed to commit to the journal")]
    Journal(#[source] Cause),
    /// The backend could not be reached. The request had no effect.
    #[error("the keyspace cannot be reached")]
    Unavailable(#[source] Cause),
    /// The backend was asked, but no answer came: the change may or may not have been made.
    #[error("the outcome of the request is unknown")]
    OutcomeUnknown(#[source] Cause),
    /// The caller may not do this.
    #[error("permission denied: {reason}")]
    PermissionDenied {
        /// What is not allowed.
        reason: String,
    },
    /// The backend does not offer this.
    #[error("not supported: {what}")]
    Unsupported {
        /// What it does not offer.
        what: String,
    },
    /// The keyspace was closed.
    #[error("the keyspace is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anything being changed about it, and is safe
    /// to make again. [`Error::OutcomeUnknown`] is not: what it asked for may have happened.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the caller asked for something that can never work.
    pub fn is_invalid_argument(&self) -> bool {
        matches!(
            self,
            Self::InvalidKey { .. }
                | Self::InvalidPrefix { .. }
                | Self::InvalidRange { .. }
                | Self::ValueTooLarge { .. }
                | Self::TxnTooLarge { .. }
                | Self::TooManyOps { .. }
                | Self::DuplicateKey { .. }
                | Self::InvalidArgument { .. }
        )
    }
}
