//! A keyspace that can be made to hang or to be out of reach.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewatch_core::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::{EndReason, Watch, WatchRequest};
use tidewatch_core::{Backend, BoxFuture, Error, Keyspace, LeaseGrant, LeaseId, LeaseInfo, Revision, Status};

/// Passes everything on, except transactions while it is told not to.
pub(crate) struct Stalled {
    inner: Keyspace,
    pub(crate) hangs: AtomicBool,
    pub(crate) unreachable: AtomicBool,
    pub(crate) waiting: Mutex<usize>,
}

impl Stalled {
    pub(crate) fn over(inner: Keyspace) -> Arc<Self> {
        Arc::new(Self {
            inner,
            hangs: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            waiting: Mutex::new(0),
        })
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        self.inner.backend()
    }
}

impl Backend for Stalled {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        self.backend().range(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        if self.unreachable.load(Ordering::SeqCst) {
            let cause = io::Error::from(io::ErrorKind::ConnectionReset);
            return Box::pin(async { Err(Error::Unavailable(Arc::new(cause))) });
        }
        if self.hangs.load(Ordering::SeqCst) {
            *self.waiting.lock().unwrap() += 1;
            return Box::pin(std::future::pending());
        }
        self.backend().txn(txn)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        self.backend().compact(revision)
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        self.backend().lease_grant(id, ttl)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        self.backend().lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        self.backend().lease_keep_alive(id)
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        self.backend().lease_info(id)
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        self.backend().lease_list()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        self.backend().watch(request)
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        self.backend().status()
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn close(&self, reason: EndReason) {
        self.backend().close(reason);
    }
}
