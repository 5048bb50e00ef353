//! A keyspace by way of several servers in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidewatch_core::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{
    Backend, BoxFuture, EndReason, Error, Keyspace, LeaseGrant, LeaseId, LeaseInfo, Revision, Status, Watch,
};

/// Makes each call at another server than the one before: who leaves a watch and resumes it does so elsewhere.
pub(super) struct Moving {
    servers: Vec<Keyspace>,
    calls: AtomicUsize,
}

impl Moving {
    pub(super) fn among(servers: impl IntoIterator<Item = Keyspace>) -> Keyspace {
        Keyspace::new(Arc::new(Self {
            servers: servers.into_iter().collect(),
            calls: AtomicUsize::new(0),
        }))
    }

    fn next(&self) -> &Arc<dyn Backend> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.servers[call % self.servers.len()].backend()
    }
}

impl Backend for Moving {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        self.next().range(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        self.next().txn(txn)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        self.next().compact(revision)
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        self.next().lease_grant(id, ttl)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        self.next().lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        self.next().lease_keep_alive(id)
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        self.next().lease_info(id)
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        self.next().lease_list()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        self.next().watch(request)
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        self.next().status()
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn close(&self, reason: EndReason) {
        for server in &self.servers {
            server.backend().close(reason.clone());
        }
    }
}
