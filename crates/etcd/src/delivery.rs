//! What a watched range of etcd is made of, in the order in which it is delivered.

use tidewatch_core::{KeyValue, Record, Revision};

use crate::header::Identity;

/// A piece of what was read.
///
/// Between a `SnapshotBegin` and its `SnapshotEnd` come only `Snapshot`s. Another `SnapshotBegin` voids what came before it; what
/// was complete before the first one stays in force until the `SnapshotEnd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All entries follow, as they were at `revision`.
    SnapshotBegin {
        /// Which history it is a state of.
        identity: Identity,
        /// The revision all of it is from.
        revision: Revision,
        /// Why it is made.
        reason: SnapshotReason,
    },
    /// Some entries, in the order of their keys.
    Snapshot(Vec<KeyValue>),
    /// The snapshot is complete.
    SnapshotEnd {
        /// The revision it is from. Records begin after it.
        revision: Revision,
    },
    /// One whole revision, as far as it concerns the range; each is later than all before.
    Record(Record),
    /// Every revision up to here has been delivered.
    Progress(Revision),
}

/// Why a snapshot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotReason {
    /// Nothing had been read before.
    First,
    /// The history after what was delivered last has been compacted.
    Compacted,
    /// The history is not the one that was read before: the cluster was wiped, restored, or is another one.
    Replaced,
    /// A message of the watch was larger than what is accepted.
    TooLarge,
    /// The watch did not catch up with what reads show.
    Behind,
}
