//! The handle on a keyspace.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Backend, BoxFuture, Status};
use crate::error::Error;
use crate::event::KeyValue;
use crate::key::{KeyRange, key};
use crate::lease::{LeaseGrant, LeaseId, LeaseInfo};
use crate::revision::Revision;
use crate::txn::{
    DeleteRequest, Header, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, Txn, TxnResponse,
};
use crate::watch::{EndReason, WatchBuilder};

/// A handle on a keyspace, whatever it runs on. Clones share it.
///
/// ```
/// use tidewatch_core::{Keyspace, prefix};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ks = Keyspace::memory();
/// tokio::spawn(ks.driver());
/// let mut watch = ks.watch(prefix("/containers/")?).with_snapshot().start().await?;
/// # ks.put("/containers/shop/h1/web", "{}").await?;
/// # ks.close();
/// while let Ok(batch) = watch.next().await {
///     for event in &batch {
///         println!("{} {event}", batch.revision());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Keyspace {
    backend: Arc<dyn Backend>,
    /// Reads are answered from what is here.
    may_be_stale: bool,
}

impl Keyspace {
    /// A handle on a backend of any kind.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            may_be_stale: false,
        }
    }

    /// The same keyspace, whose reads show what is here, which may be old where the backend is a copy of something elsewhere
    /// ([`RangeRequest::serializable`]): for those who want an answer also while that is away. A transaction that only reads
    /// is a read; others, and watches, are as ever.
    pub fn with_stale_reads(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            may_be_stale: true,
        }
    }

    /// What the keyspace runs on.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// What must run for the keyspace to do its work; see [`Backend::driver`].
    pub fn driver(&self) -> BoxFuture<'static, ()> {
        self.backend.driver()
    }

    /// Ends the work; see [`Backend::close`].
    pub fn close(&self) {
        self.backend.close(EndReason::Closed);
    }

    /// Describes a watch; [`start`](WatchBuilder::start) begins it.
    pub fn watch(&self, range: KeyRange) -> WatchBuilder {
        WatchBuilder::new(self.backend.clone(), range)
    }

    /// Reads one key.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], and those of [`Backend::range`].
    pub async fn get(&self, name: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        let (_, mut response) = self.range(RangeRequest::new(key(name)?)).await?;
        Ok(response.kvs.pop())
    }

    /// Reads a range; see [`Backend::range`].
    pub async fn range(&self, request: RangeRequest) -> Result<(Header, RangeResponse), Error> {
        self.backend.range(self.reading(request)).await
    }

    /// Writes one key, and returns the revision of that.
    ///
    /// # Errors
    /// Those of [`Backend::txn`].
    pub async fn put(&self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Revision, Error> {
        let response = self.txn(PutRequest::new(name, value).into()).await?;
        Ok(response.header.revision)
    }

    /// Deletes all keys in a range, and returns the revision and how many they were.
    ///
    /// # Errors
    /// Those of [`Backend::txn`].
    pub async fn delete(&self, range: KeyRange) -> Result<(Revision, u64), Error> {
        let response = self.txn(DeleteRequest::new(range).into()).await?;
        let deleted = response.responses.iter().map(|response| match response {
            OpResponse::Delete { deleted, .. } => *deleted,
            _ => 0,
        });
        Ok((response.header.revision, deleted.sum()))
    }

    /// Carries out a transaction; see [`Backend::txn`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.backend.txn(self.reading_in(txn)).await
    }

    fn reading(&self, request: RangeRequest) -> RangeRequest {
        RangeRequest {
            serializable: request.serializable || self.may_be_stale,
            ..request
        }
    }

    fn reading_in(&self, txn: Txn) -> Txn {
        if !self.may_be_stale {
            return txn;
        }
        let reading = |op| match op {
            Op::Range(request) => Op::Range(self.reading(request)),
            op => op,
        };
        Txn {
            then: txn.then.into_iter().map(reading).collect(),
            otherwise: txn.otherwise.into_iter().map(reading).collect(),
            ..txn
        }
    }

    /// Carries out one operation, and returns its answer with the header.
    ///
    /// # Errors
    /// Those of [`Backend::txn`].
    pub async fn apply(&self, op: Op) -> Result<(Header, Option<OpResponse>), Error> {
        let mut response = self
            .txn(Txn {
                then: vec![op],
                ..Txn::default()
            })
            .await?;
        Ok((response.header, response.responses.pop()))
    }

    /// Forgets old history; see [`Backend::compact`].
    pub async fn compact(&self, revision: Revision) -> Result<Header, Error> {
        self.backend.compact(revision).await
    }

    /// Grants a lease; see [`Backend::lease_grant`].
    pub async fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> Result<(Header, LeaseGrant), Error> {
        self.backend.lease_grant(id, ttl).await
    }

    /// Ends a lease; see [`Backend::lease_revoke`].
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Header, Error> {
        self.backend.lease_revoke(id).await
    }

    /// Keeps a lease alive; see [`Backend::lease_keep_alive`].
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<(Header, Duration), Error> {
        self.backend.lease_keep_alive(id).await
    }

    /// Tells about a lease; see [`Backend::lease_info`].
    pub async fn lease_info(&self, id: LeaseId) -> Result<(Header, LeaseInfo), Error> {
        self.backend.lease_info(id).await
    }

    /// Lists leases; see [`Backend::lease_list`].
    pub async fn lease_list(&self) -> Result<(Header, Vec<LeaseId>), Error> {
        self.backend.lease_list().await
    }

    /// Tells how the keyspace is.
    pub async fn status(&self) -> Result<Status, Error> {
        self.backend.status().await
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").finish_non_exhaustive()
    }
}
