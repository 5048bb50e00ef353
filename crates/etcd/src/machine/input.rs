//! What the machine is told.

use bytes::Bytes;
use tidewatch_core::{Event, KeyRange, KeyValue, Revision};

use crate::failure::Failure;
use crate::header::Header;
use crate::version::Version;

/// Something that happened. What answers an [`Action`](super::Action) comes once for each of them, unless the connection or
/// the watch it was asked on has been given up meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The moment of [`Machine::deadline`](super::Machine::deadline) may have come.
    Time,
    /// Answers [`Action::Dial`](super::Action::Dial).
    Dialed(Result<Dialed, Failure>),
    /// Answers [`Action::List`](super::Action::List).
    Listed(Result<Page, Failure>),
    /// Answers [`Action::Check`](super::Action::Check).
    Checked(Result<Checked, Failure>),
    /// The watch says something.
    Message(Message),
    /// The stream of the watch could not be opened, or is over.
    Ended(Failure),
    /// The end is wanted.
    Stop,
}

/// A connection that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialed {
    /// The member's version; none if it does not tell.
    pub version: Option<Version>,
    /// Whether it is a Tidewatch, which may have another's revisions.
    pub is_tidewatch: bool,
    /// The head of its answer, which may be behind the cluster.
    pub header: Header,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The head of the answer, which is linearizable.
    pub header: Header,
    /// The entries, in the order of their keys.
    pub entries: Vec<KeyValue>,
    /// Whether there are entries behind them.
    pub more: bool,
}

/// What a small linearizable read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The head of the answer.
    pub header: Header,
    /// The first entry of what was asked for.
    pub found: Option<KeyValue>,
}

/// A message of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its head.
    pub header: Header,
    /// The watch was made, or refused.
    pub created: bool,
    /// The watch is over, though its stream may stay open.
    pub canceled: bool,
    /// What history begins at, if the watch asked for older.
    pub compact_revision: Revision,
    /// Why the watch is over, as far as etcd says.
    pub reason: String,
    /// The last revision in it may go on in the next message.
    pub fragment: bool,
    /// Changes, in order.
    pub events: Vec<Event>,
}

/// What is asked for with [`Action::List`](super::Action::List).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Only those behind this one.
    pub after: Option<Bytes>,
    /// As of when; none: now.
    pub revision: Option<Revision>,
    /// At most so many.
    pub limit: u32,
}

/// What is asked for with [`Action::Check`](super::Action::Check): the first entry of a range, linearizably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// Which keys.
    pub range: KeyRange,
    /// As of when; none: now.
    pub revision: Option<Revision>,
}

/// What is asked for with [`Action::Open`](super::Action::Open): a watch, in fragments where revisions are large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to deliver.
    pub from: Revision,
    /// Whether events tell what was there before.
    pub prev_kv: bool,
}
