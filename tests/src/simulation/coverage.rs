//! What happened in a run, counted: a simulation in which something never happens does not test it.

use std::fmt;

macro_rules! kinds {
    ($($name:ident => $text:literal,)*) => {
        /// Something that a simulation is there to bring about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $(#[doc = $text] $name,)* }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$name,)*];

            fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    GroupCommitted => "groups committed",
    GroupFailed => "groups that failed",
    GroupSlow => "groups that took time",
    GroupLarge => "groups of more records than a reader looks at at a time",
    KilledWriting => "processes killed before a group was durable",
    KilledUnanswered => "processes killed between durability and answer",
    KilledIdle => "processes killed while no group was written",
    DriverDropped => "drivers dropped",
    Closed => "keyspaces closed",
    Drained => "keyspaces drained",
    RecoveryFailed => "recoveries that failed",
    Recovered => "recoveries",
    CompactionAsked => "compactions carried out on request",
    CompactionRefused => "compactions refused",
    CompactionFailed => "compactions that failed",
    CompactionByWindow => "compactions because the window was full",
    RelayCompacted => "compactions of the relay",
    RelayReplaced => "relays replaced",
    TxnChanged => "transactions that changed something",
    TxnUnchanged => "transactions that changed nothing",
    TxnOtherwise => "transactions whose compares did not hold",
    TxnLarge => "transactions of a hundred operations",
    ValueLarge => "values of which few fit a ring",
    NoSpace => "writes refused for want of space",
    NoLease => "writes refused for want of their lease",
    NotBegun => "writes refused by a keyspace that ends",
    GivenUp => "writes whose caller went away",
    UnknownHappened => "writes of unknown outcome that happened",
    UnknownDidNotHappen => "writes of unknown outcome that did not happen",
    LeaseRevoked => "leases revoked, with keys",
    LeaseExpired => "leases expired, with keys",
    LeaseKeptAlive => "leases kept alive",
    ReadNow => "reads of the current revision",
    ReadPast => "reads of an older revision",
    ReadCompacted => "reads of a compacted revision",
    FromNow => "watches from now on",
    FromPast => "watches from an older revision",
    FromFuture => "watches from a future revision",
    FutureReached => "watches that reached their future revision",
    FromSnapshot => "watches that begin with a snapshot",
    SnapshotWhole => "snapshots delivered to their end",
    SnapshotVoid => "snapshots begun anew",
    SnapshotLarge => "snapshots of several pages",
    Resumed => "watches resumed",
    ResumedLater => "watches resumed in a later life of the keyspace",
    ResumedEarlier => "watches resumed from before what they had seen",
    ForeignPosition => "foreign positions refused",
    FuturePosition => "positions ahead of the keyspace refused",
    FromRelay => "watches of the relay",
    OneKey => "watches of one key",
    Prefix => "watches of a prefix",
    OtherRange => "watches of another range",
    ManyRanges => "watches of several ranges",
    PrevEntry => "entries before an event",
    PrevAbsent => "events without an entry before them",
    KeysOnly => "events without values",
    FilteredOut => "watches with a filter",
    Together => "deliveries of several batches",
    Progress => "reports of progress",
    Behind => "events read by a watcher that had fallen behind its room",
    CaughtUp => "lagging watchers of the relay that were synced again",
    Gap => "compactions that the relay's dispatcher had not come to",
    Stalled => "watchers that stalled",
    Died => "watchers that died",
    TooMany => "watches refused because there were too many",
    EndOverflow => "ends by overflow",
    EndCompacted => "ends by compaction",
    EndCanceled => "ends by an operator",
    EndClosed => "ends by closing",
    EndDraining => "ends by draining",
}

/// How often each kind of thing happened.
#[derive(Clone, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: vec![0; Kind::ALL.len()],
        }
    }
}

impl Coverage {
    pub(crate) fn count(&mut self, kind: Kind) {
        self.counts[kind as usize] += 1;
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// What did not happen at all.
    pub fn missing(&self) -> Vec<&'static str> {
        let absent = Kind::ALL.iter().filter(|&&kind| self.counts[kind as usize] == 0);
        absent.map(|kind| kind.text()).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &kind in Kind::ALL {
            writeln!(f, "{:>10}  {}", self.counts[kind as usize], kind.text())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
