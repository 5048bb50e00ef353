//! How a watch ends.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::revision::{KeyspaceId, Position, Revision};

/// The end of a watch: the last thing it says, exactly once delivered, however full its room was.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the watch ended: {reason}")]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// The last revision that was delivered whole, if any was.
    pub last_delivered: Option<Revision>,
    /// Where to resume without missing anything. None if that cannot be: the history it needs is
    /// gone, its snapshot was not complete, or its start in the future was not reached.
    pub resume: Option<Position>,
}

/// Why a watch ended.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum EndReason {
    /// Its reader, or an operator, ended it.
    Canceled,
    /// Its reader fell behind by more than its room, and it was to be cancelled then.
    Overflow,
    /// What it has to deliver next is no longer in the history. Begin anew with a snapshot, or from
    /// `oldest`, knowing that something was missed.
    Compacted {
        /// The revision it needs.
        requested: Revision,
        /// The oldest one there is.
        oldest: Revision,
    },
    /// The history is not the one its position belongs to. Begin anew with a snapshot.
    KeyspaceChanged {
        /// The keyspace that is there now.
        actual: KeyspaceId,
        /// Its revision.
        current: Revision,
    },
    /// The server is going away. Resume, here or elsewhere, not before this time has passed.
    Draining {
        /// How long to wait before resuming; differs from watch to watch.
        retry_after: Duration,
    },
    /// The keyspace was closed.
    Closed,
    /// Something failed.
    Failed(Error),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canceled => f.write_str("it was canceled"),
            Self::Overflow => f.write_str("its reader fell behind by more than its room"),
            Self::Compacted { requested, oldest } => {
                write!(
                    f,
                    "revision {requested} has been compacted, the oldest one available is {oldest}"
                )
            }
            Self::KeyspaceChanged { actual, current } => {
                write!(
                    f,
                    "its position belongs to another history; this is keyspace {actual} at revision {current}"
                )
            }
            Self::Draining { .. } => f.write_str("the server is shutting down"),
            Self::Closed => f.write_str("the keyspace was closed"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl EndReason {
    /// A short name for metrics and wire forms, for instance `compacted`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Overflow => "overflow",
            Self::Compacted { .. } => "compacted",
            Self::KeyspaceChanged { .. } => "keyspace_changed",
            Self::Draining { .. } => "draining",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}
