//! What a keyspace runs on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::lease::{LeaseGrant, LeaseId, LeaseInfo};
use crate::revision::{KeyspaceId, Revision};
use crate::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use crate::watch::{EndReason, Watch, WatchRegistry, WatchRequest};

/// A boxed future, for traits that are chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store that keeps the promises of a keyspace: in memory, with a journal, on etcd, or a server
/// somewhere else. [`Keyspace`](crate::Keyspace) is the comfortable handle on one.
///
/// Every implementation passes [the conformance suite](crate::conformance).
///
/// # Cancel safety
/// A read may be dropped at any time. Dropping the future of a write does not take the write back:
/// once polled it may happen.
pub trait Backend: Send + Sync + 'static {
    /// Reads a range at one revision, linearizably unless the request says otherwise.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>>;

    /// Carries out a transaction. The answer's header has the revision it made, or the current one
    /// if it changed nothing.
    ///
    /// # Errors
    /// Those of [`Txn::validate`], [`Error::NoSpace`], [`Error::LeaseNotFound`], [`Error::KeyNotFound`]
    /// for the value or lease of a key that is not there; [`Error::Compacted`] and
    /// [`Error::FutureRevision`] for a read in it; [`Error::Journal`], [`Error::OutcomeUnknown`],
    /// [`Error::Closed`].
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>>;

    /// Forgets what happened before `revision`. Reads and watches from it on keep working.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that has already happened, [`Error::FutureRevision`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>>;

    /// Grants a lease. Without an `id` the keyspace chooses one.
    ///
    /// # Errors
    /// [`Error::LeaseExists`]; [`Error::LimitExceeded`]; [`Error::InvalidArgument`] for a time to live below a second or above
    /// [`MAX_LEASE_TTL_SECS`](crate::limits::MAX_LEASE_TTL_SECS), or an id that is not positive.
    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>>;

    /// Ends a lease; the keys attached to it are deleted at one revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>>;

    /// Gives a lease its full time to live again and returns that.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>>;

    /// Tells what is left of a lease, and which keys are attached to it.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>>;

    /// The names of all leases, in order.
    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>>;

    /// Starts a watch. When this returns, the watch is registered and its boundary is fixed.
    ///
    /// A start that is compacted, or a position of another keyspace, is no error here: it is how the
    /// watch ends.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::InvalidArgument`], [`Error::Unavailable`].
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>>;

    /// Whether watches come to every revision that a linearizable read shows, by an event or a report of progress. Where they do not
    /// (somebody else's changes make revisions too, and nobody tells truly that these are none of the keyspace's), what a read has shown
    /// may not be reached before the next change in the keyspace. Who wraps a backend passes on what it says.
    fn tells_progress(&self) -> bool {
        true
    }

    /// Tells how the keyspace is.
    fn status(&self) -> BoxFuture<'_, Result<Status, Error>>;

    /// The watchers that this process serves, for operators. None where watches are somebody else's: a
    /// client has no part in who else watches its server. Another one where the keyspace has been replaced.
    fn watch_registry(&self) -> Option<Arc<WatchRegistry>> {
        None
    }

    /// What must run for the keyspace to do its work: commits to a journal, the dispatch of events,
    /// the expiry of leases, compaction. The embedder spawns it, once; it ends after
    /// [`close`](Self::close). Further calls return a future that is ready at once.
    fn driver(&self) -> BoxFuture<'static, ()>;

    /// Ends the work: writes that were accepted finish, new ones fail with [`Error::Closed`], and
    /// every watch ends with `reason` after what was committed. Only when
    /// [draining](EndReason::Draining) a watch that lags ends where it is, with a place to resume from:
    /// who goes away does not wait for slow readers.
    fn close(&self, reason: EndReason);
}

/// How a keyspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which keyspace it is.
    pub keyspace: KeyspaceId,
    /// The current revision.
    pub revision: Revision,
    /// The oldest revision that can be read or watched from.
    pub oldest: Revision,
    /// What it runs on: `memory`, `sqlite`, `etcd`, `remote`.
    pub backend: &'static str,
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of keys and values, as the quota counts them.
    pub bytes: u64,
    /// The quota, in bytes.
    pub quota: u64,
    /// Bytes of history kept.
    pub history_bytes: u64,
    /// How many leases there are.
    pub leases: u64,
    /// How many watchers there are.
    pub watchers: u64,
    /// Up to which revision events have been handed to watchers.
    pub dispatched: Revision,
}
