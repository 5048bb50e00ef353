//! What is asked of etcd beside what is watched: reads, transactions, leases.
//!
//! In the words of `tidewatch-core`, but of etcd's own keys. Every call is made once, at one member; whether it is made again is
//! for the caller to decide, who learns whether it may have been carried out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidewatch_core::txn::{OpResponse, RangeRequest, RangeResponse, Txn};
use tidewatch_core::{BoxFuture, LeaseId, Revision};

use crate::failure::Failure;
use crate::header::Header;
use crate::machine::Dialed;
use crate::transport::Answer;

/// The answer to a call.
pub type Called<T> = BoxFuture<'static, Result<(Header, T), CallFailure>>;

/// Makes connections for calls.
pub trait Callers: Send + Sync + 'static {
    /// Connects to the endpoint with this number.
    fn connect(&self, endpoint: usize) -> Answer<(Dialed, Arc<dyn Calls>)>;
}

/// A connection to one member. Dropping the future of a call gives up its answer, and nothing else.
pub trait Calls: Send + Sync + 'static {
    /// Whether the other side is a Tidewatch, whose cluster is its keyspace.
    fn is_tidewatch(&self) -> bool;

    /// Reads a range.
    fn range(&self, request: RangeRequest) -> Called<RangeResponse>;

    /// Carries out a transaction, and says whether its compares held.
    fn txn(&self, txn: Txn) -> Called<(bool, Vec<OpResponse>)>;

    /// Forgets what happened before a revision.
    fn compact(&self, revision: Revision) -> Called<()>;

    /// Grants a lease of so many seconds, under this name if one is given, and tells its name and how many seconds it got.
    fn lease_grant(&self, id: Option<LeaseId>, secs: i64) -> Called<(LeaseId, i64)>;

    /// Ends a lease.
    fn lease_revoke(&self, id: LeaseId) -> Called<()>;

    /// Gives a lease its seconds again, and tells how many.
    fn lease_keep_alive(&self, id: LeaseId) -> Called<i64>;

    /// Tells about a lease.
    fn lease_info(&self, id: LeaseId) -> Called<LeaseDetails>;

    /// The names of all leases.
    fn leases(&self) -> Called<Vec<LeaseId>>;
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseDetails {
    /// The seconds it was granted.
    pub granted: i64,
    /// Whole ones that are left; negative if there is no such lease.
    pub remaining: i64,
    /// Its keys.
    pub keys: Vec<Bytes>,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// It was not carried out, and may be somewhere else or later.
    NotDone(Failure),
    /// It may or may not have been carried out.
    Lost(Failure),
    /// It was refused, and would be again.
    Refused(Refusal, String),
}

/// What etcd refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision is ahead of the store.
    Future,
    /// The store is full.
    NoSpace,
    /// There is no such lease.
    LeaseNotFound,
    /// There is such a lease already.
    LeaseExists,
    /// There is no key whose value or lease could be kept.
    KeyNotFound,
    /// The request is larger than this etcd accepts.
    TooLarge,
    /// The transaction has more operations than this etcd accepts.
    TooManyOps,
    /// The user may not do this, or is not known.
    Denied,
    /// The answer is larger than what is accepted.
    AnswerTooLarge,
    /// Anything else.
    Other,
}

impl CallFailure {
    /// What was said, for people.
    pub fn text(&self) -> &str {
        match self {
            Self::NotDone(failure) | Self::Lost(failure) => &failure.text,
            Self::Refused(_, text) => text,
        }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for CallFailure {}
