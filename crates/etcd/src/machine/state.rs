//! Where the machine is.

use std::time::Instant;

use bytes::Bytes;
use tidewatch_core::Revision;

use super::assembly::Assembly;
use super::known::{Shown, Witnesses};
use super::timing::{ANSWER_TIMEOUT, ELECTION_TIMEOUT};
use crate::delivery::SnapshotReason;
use crate::failure::Failure;
use crate::header::Identity;

/// Where the machine is. Every state but the last can be left for `Paused` by a failure, and for `Stopped`.
#[derive(Debug)]
pub(super) enum State {
    /// Waits before it tries again. Goes on to `Dialing`.
    Paused { until: Instant },
    /// A connection is being made. Goes on to `Listing`, or to `Comparing` if there is something to resume from.
    Dialing { deadline: Instant },
    /// The member is asked whether its history continues what was delivered. Goes on to `Opening`, or to `Listing` if it does
    /// not, or not any more.
    Comparing { deadline: Instant },
    /// A snapshot is read, page by page. Goes on to `Opening`; begins anew where it is overtaken.
    Listing(Listing),
    /// A watch was asked for, and is not confirmed. Goes on to `Watching`, or to `Listing` if its history is gone.
    Opening { deadline: Instant },
    /// The watch runs. Goes on to `Listing` if its history is gone.
    Watching(Watching),
    /// The end.
    Stopped,
}

/// A list that is being read.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) reason: SnapshotReason,
    /// What it is read at: known from the start if history behind it is wanted, else from the first page on.
    pub(super) at: Option<Revision>,
    /// Set by the first page.
    pub(super) identity: Option<Identity>,
    /// The last key that was read.
    pub(super) after: Option<Bytes>,
    pub(super) witnesses: Witnesses,
    pub(super) deadline: Instant,
}

/// A running watch.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) since: Instant,
    /// The first revision it was asked for. Until etcd is there, it leaves questions for progress unanswered.
    pub(super) from: Revision,
    /// The highest revision that the stream has shown.
    pub(super) told: Revision,
    /// The revision that the member had when the watch began, until it is known that the watch has got there.
    pub(super) behind: Option<Revision>,
    pub(super) assembly: Assembly,
    pub(super) probe: Option<Probe>,
    pub(super) probe_at: Instant,
    pub(super) recheck_at: Instant,
    /// When the stream last said anything.
    pub(super) heard: Instant,
    /// When it last told of a change, or began.
    pub(super) changed: Instant,
}

/// What was asked to see whether all is well.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) sent: Instant,
    /// The stream has not said anything since.
    pub(super) awaits_stream: bool,
    pub(super) read: Read,
    /// Whether the read is of the whole range, which is what the right to read is for. Its first key is cheaper.
    pub(super) whole: bool,
    /// What had been shown when the read was asked for. Events may overtake its answer.
    pub(super) shown: Shown,
    /// When it is asked again, if what was asked for may need some time.
    pub(super) ask_at: Instant,
}

/// What became of the read of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// None was made, or it showed nothing new.
    Fine,
    /// It has not been answered.
    Awaited,
    /// It showed something that the watch has not delivered, which may be on its way. It is made again.
    Ahead,
    /// The member could not answer it, as during an election. It is made again.
    Failed(Failure),
}

impl Probe {
    /// When the missing answers are too late. A member that answers on the stream may be waiting for an election.
    pub(super) fn deadline(&self, is_behind: bool) -> Instant {
        let limit = if self.awaits_stream && !is_behind {
            ANSWER_TIMEOUT
        } else {
            ELECTION_TIMEOUT
        };
        self.sent + limit
    }
}

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Paused { until } => Some(*until),
            Self::Dialing { deadline } | Self::Comparing { deadline } | Self::Opening { deadline } => {
                Some(*deadline)
            }
            Self::Listing(listing) => Some(listing.deadline),
            Self::Watching(watching) => Some(watching.deadline()),
            Self::Stopped => None,
        }
    }
}

impl Watching {
    fn deadline(&self) -> Instant {
        match &self.probe {
            Some(probe) => {
                let is_behind = self.behind.is_some();
                // etcd drops the question of a watch that it has yet to catch up with.
                let asks_again = probe.awaits_stream || matches!(probe.read, Read::Ahead | Read::Failed(_));
                let deadline = probe.deadline(is_behind);
                if asks_again {
                    deadline.min(probe.ask_at)
                } else {
                    deadline
                }
            }
            None => self.probe_at.min(self.recheck_at),
        }
    }
}
