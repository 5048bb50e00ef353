//! A backend with something in between.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, BoxFuture, Status};
use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::lease::{LeaseGrant, LeaseId, LeaseInfo};
use crate::revision::Revision;
use crate::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use crate::watch::{EndReason, Watch, WatchRequest};

/// Which call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// [`Backend::range`].
    Range,
    /// [`Backend::txn`].
    Txn,
    /// [`Backend::compact`].
    Compact,
    /// [`Backend::lease_grant`].
    LeaseGrant,
    /// [`Backend::lease_revoke`].
    LeaseRevoke,
    /// [`Backend::lease_keep_alive`].
    LeaseKeepAlive,
    /// [`Backend::lease_info`].
    LeaseInfo,
    /// [`Backend::lease_list`].
    LeaseList,
    /// [`Backend::watch`].
    Watch,
    /// [`Backend::status`].
    Status,
}

/// What stands between those who call and a backend: it counts, delays or fails calls, or does something on the side.
pub trait Intercept: Send + Sync + 'static {
    /// Before a call is passed on. While this waits, so does the caller; an error is the answer.
    fn before(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
        let _ = call;
        Box::pin(ready(Ok(())))
    }

    /// After a call was answered, and before the caller hears of it; an error is heard of instead.
    fn after(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
        let _ = call;
        Box::pin(ready(Ok(())))
    }
}

/// The same keyspace with something in between, which its owner keeps a hand on. Its driver runs with the keyspace that it is
/// over.
///
/// ```
/// use tidewatch_core::conformance::{Call, Intercept, intercepted};
/// use tidewatch_core::{BoxFuture, Error, Keyspace};
///
/// struct NoWrites;
///
/// impl Intercept for NoWrites {
///     fn before(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
///         Box::pin(async move { if call == Call::Txn { Err(Error::Closed) } else { Ok(()) } })
///     }
/// }
///
/// # tidewatch_core::conformance::block_on(async {
/// let keyspace = intercepted(&Keyspace::memory(), std::sync::Arc::new(NoWrites));
/// assert!(matches!(keyspace.put("/a", "1").await, Err(Error::Closed)));
/// assert_eq!(keyspace.get("/a").await.unwrap(), None);
/// # });
/// ```
pub fn intercepted<I: Intercept>(keyspace: &Keyspace, by: Arc<I>) -> Keyspace {
    Keyspace::new(Arc::new(Intercepted {
        inner: keyspace.clone(),
        by,
    }))
}

struct Intercepted<I> {
    inner: Keyspace,
    by: Arc<I>,
}

impl<I: Intercept> Intercepted<I> {
    fn pass<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        make: impl FnOnce(&'a Arc<dyn Backend>) -> BoxFuture<'a, Result<T, Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            self.by.before(call).await?;
            let answer = make(self.inner.backend()).await?;
            self.by.after(call).await?;
            Ok(answer)
        })
    }
}

impl<I: Intercept> Backend for Intercepted<I> {
    fn tells_progress(&self) -> bool {
        self.inner.backend().tells_progress()
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        self.pass(Call::Range, |backend| backend.range(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        self.pass(Call::Txn, |backend| backend.txn(txn))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        self.pass(Call::Compact, move |backend| backend.compact(revision))
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        self.pass(Call::LeaseGrant, move |backend| backend.lease_grant(id, ttl))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        self.pass(Call::LeaseRevoke, move |backend| backend.lease_revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        self.pass(Call::LeaseKeepAlive, move |backend| backend.lease_keep_alive(id))
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        self.pass(Call::LeaseInfo, move |backend| backend.lease_info(id))
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        self.pass(Call::LeaseList, |backend| backend.lease_list())
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        self.pass(Call::Watch, |backend| backend.watch(request))
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        self.pass(Call::Status, |backend| backend.status())
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }

    fn close(&self, reason: EndReason) {
        self.inner.backend().close(reason);
    }
}

impl<I> fmt::Debug for Intercepted<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercepted").finish_non_exhaustive()
    }
}
