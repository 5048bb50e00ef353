//! What makes an embedded keyspace durable.

use std::sync::Arc;

use crate::backend::BoxFuture;
use crate::error::Cause;
use crate::event::{KeyValue, Record};
use crate::lease::{LeaseGrant, LeaseId};
use crate::revision::{KeyspaceId, Revision};

/// A log that remembers committed records, and can be asked for them after a restart.
///
/// The keyspace is its only caller and makes one call at a time. Implementations pass the suite
/// that [`journal_conformance!`](crate::journal_conformance) expands to:
///
#[cfg_attr(feature = "conformance", doc = "```")]
#[cfg_attr(not(feature = "conformance"), doc = "```ignore")]
/// # use std::sync::Arc;
/// # use tidewatch_core::{BoxFuture, Journal, KeyspaceId, Recovered, Revision, error::Cause, journal::Entry};
/// # #[derive(Clone)]
/// # struct MyLog(tidewatch_core::conformance::MemoryJournal);
/// impl Journal for MyLog {
///     /* recover, commit(group), compact */
/// #   fn name(&self) -> &'static str { "mine" }
/// #   fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, Cause>> { self.0.recover() }
/// #   fn commit(&mut self, group: Vec<Entry>) -> BoxFuture<'_, Result<(), Cause>> { self.0.commit(group) }
/// #   fn compact(&mut self, oldest: Revision) -> BoxFuture<'_, Result<(), Cause>> { self.0.compact(oldest) }
/// }
/// # impl MyLog {
/// #   fn in_temp_dir() -> impl FnMut() -> MyLog {
/// #       let log = MyLog(tidewatch_core::conformance::MemoryJournal::new());
/// #       move || log.clone()
/// #   }
/// # }
/// tidewatch_core::journal_conformance!(MyLog::in_temp_dir);
/// ```
pub trait Journal: Send + 'static {
    /// What the log is called in a keyspace's status, for instance `sqlite`.
    fn name(&self) -> &'static str;

    /// Reads back all that was committed. Called once, before anything else. A log that is new
    /// answers with a fresh identity, and remembers it.
    fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, Cause>>;

    /// Makes all entries of a group durable, in order, or none of them. When this returns `Ok`, they
    /// survive the end of the process and of the machine; when it returns an error, they must not
    /// come back.
    ///
    /// The future is always polled to its end.
    fn commit(&mut self, group: Vec<Entry>) -> BoxFuture<'_, Result<(), Cause>>;

    /// Forgets records before `oldest`, except what the state just before `oldest` needs: of every
    /// key the last write before it, unless that was a deletion.
    fn compact(&mut self, oldest: Revision) -> BoxFuture<'_, Result<(), Cause>>;
}

/// One thing to remember.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A revision. The entries before the events ([`Event::prev`](crate::Event::prev)) need not be
    /// kept: the keyspace finds them again. Its time need not be kept more exactly than to the
    /// millisecond.
    Record(Arc<Record>),
    /// A lease was granted.
    LeaseGranted(LeaseGrant),
    /// A lease ended; its keys are deleted by a record of the same group.
    LeaseEnded(LeaseId),
}

/// What a journal remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which keyspace this is.
    pub keyspace: KeyspaceId,
    /// The revision of the last record, or [`Revision::INITIAL`].
    pub revision: Revision,
    /// The argument of the last [`Journal::compact`], or [`Revision::INITIAL`].
    pub oldest: Revision,
    /// The entries as they were just before `oldest`, in any order.
    pub base: Vec<KeyValue>,
    /// The records from `oldest` on, in order. Their events' `prev` is ignored.
    pub records: Vec<Record>,
    /// The leases that have not ended.
    pub leases: Vec<LeaseGrant>,
}

impl Recovered {
    /// What a new, empty journal remembers.
    pub fn empty(keyspace: KeyspaceId) -> Self {
        Self {
            keyspace,
            revision: Revision::INITIAL,
            oldest: Revision::INITIAL,
            base: Vec::new(),
            records: Vec::new(),
            leases: Vec::new(),
        }
    }
}
