//! The embedded backend.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::driver::{Driver, MAX_QUEUED_BYTES};
use super::shared::Shared;
use super::state::State;
use super::write::{self, Reply, Write};
use crate::backend::{Backend, BoxFuture, Status};
use crate::error::Error;
use crate::lease::{LeaseGrant, LeaseId, LeaseInfo, check_grant};
use crate::revision::Revision;
use crate::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use crate::watch::{EndReason, Watch, WatchRegistry, WatchRequest};

/// A keyspace in this process; see [`Keyspace::memory`](crate::Keyspace::memory) and
/// [`Keyspace::builder`](crate::Keyspace::builder).
///
/// Without a journal writes need no driver; the dispatch of events, the expiry of leases and the
/// bounds of the history do. With one, writes wait for the driver as well.
///
/// When the last handle on it is dropped, or its driver, the keyspace is closed.
pub struct Embedded {
    shared: Arc<Shared>,
    registry: Arc<WatchRegistry>,
    /// What it runs on.
    name: &'static str,
    /// To the driver, which owns the journal. None: there is no journal.
    writes: Option<mpsc::Sender<Write>>,
    /// The bytes that may wait for the driver. Never closed.
    room: Arc<Semaphore>,
    /// Until somebody runs it.
    driver: Mutex<Option<Driver>>,
}

impl Embedded {
    pub(super) fn new(
        shared: Arc<Shared>,
        registry: Arc<WatchRegistry>,
        name: &'static str,
        writes: Option<mpsc::Sender<Write>>,
        driver: Driver,
    ) -> Self {
        Self {
            shared,
            registry,
            name,
            writes,
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            driver: Mutex::new(Some(driver)),
        }
    }

    async fn write(&self, txn: Txn) -> Result<TxnResponse, Error> {
        txn.validate()?;
        if txn.is_read_only() {
            return self.shared.reads(&txn);
        }
        match &self.writes {
            None => self.inline(|state| write::txn(&self.shared, state, &txn)),
            Some(queue) => {
                let bytes = u32::try_from(write::weight(&txn)).unwrap_or(u32::MAX);
                let room = self.room.clone().acquire_many_owned(bytes).await;
                let room = room.map_err(|_| Error::Closed)?;
                self.submit(queue, |reply| Write::Txn(txn, room, reply)).await
            }
        }
    }

    /// Evaluates and publishes, for want of a journal, within one hold of the lock.
    fn inline<T>(&self, evaluate: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.shared.write();
        if state.closed {
            return Err(Error::Closed);
        }
        let answer = evaluate(&mut state)?;
        state.publish(&self.shared.history);
        if state.exceeds(&self.shared.settings.history) {
            self.shared.wake.notify_one();
        }
        Ok(answer)
    }

    /// Hands a change to the driver and waits for its answer. From the moment it is in the queue, the
    /// change happens whether or not anybody waits.
    async fn submit<T>(
        &self,
        queue: &mpsc::Sender<Write>,
        write: impl FnOnce(Reply<T>) -> Write,
    ) -> Result<T, Error> {
        if self.shared.read().closed {
            return Err(Error::Closed);
        }
        let (reply, answer) = oneshot::channel();
        queue.send(write(reply)).await.map_err(|_| Error::Closed)?;
        // The driver drops what it has not begun when it is dropped itself.
        answer.await.unwrap_or(Err(Error::Closed))
    }

    async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<(Header, LeaseGrant), Error> {
        let ttl = check_grant(id, ttl)?;
        let granted = match &self.writes {
            None => self.inline(|state| write::grant(&self.shared, state, id, ttl)),
            Some(queue) => self.submit(queue, |reply| Write::Grant(id, ttl, reply)).await,
        };
        // Its deadline may come before the one the driver waits for.
        self.shared.wake.notify_one();
        granted
    }

    async fn revoke(&self, id: LeaseId) -> Result<Header, Error> {
        match &self.writes {
            None => self.inline(|state| write::revoke(&self.shared, state, id)),
            Some(queue) => self.submit(queue, |reply| Write::Revoke(id, reply)).await,
        }
    }

    async fn forget(&self, revision: Revision) -> Result<Header, Error> {
        if let Some(queue) = &self.writes {
            return self.submit(queue, |reply| Write::Compact(revision, reply)).await;
        }
        let committed = {
            let state = self.shared.read();
            if state.closed {
                return Err(Error::Closed);
            }
            state.check_compaction(revision)?;
            state.committed()
        };
        self.shared.compact(revision).await;
        Ok(self.shared.header(committed))
    }

    fn keep_alive(&self, id: LeaseId) -> Result<(Header, Duration), Error> {
        let now = self.shared.clock.now();
        let mut state = self.shared.write();
        if state.closed {
            return Err(Error::Closed);
        }
        let ttl = state.keep_alive(id, now)?;
        Ok((self.shared.header(state.committed()), ttl))
    }

    fn lease(&self, id: LeaseId) -> Result<(Header, LeaseInfo), Error> {
        let now = self.shared.clock.now();
        let state = self.shared.read();
        let info = state.lease_info(id, now)?;
        Ok((self.shared.header(state.committed()), info))
    }

    fn leases(&self) -> (Header, Vec<LeaseId>) {
        let state = self.shared.read();
        (self.shared.header(state.committed()), state.lease_ids())
    }

    fn describe(&self) -> Status {
        let (history, state) = (&self.shared.history, self.shared.read());
        let (readable, totals) = (state.readable(), state.totals());
        Status {
            keyspace: history.keyspace(),
            revision: readable.current,
            oldest: readable.oldest,
            backend: self.name,
            keys: totals.keys,
            bytes: totals.bytes,
            quota: self.shared.settings.quota_bytes,
            history_bytes: history.bytes(),
            leases: state.lease_count(),
            watchers: self.registry.watcher_count() as u64,
            dispatched: self.registry.dispatched(),
        }
    }
}

impl Backend for Embedded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        Box::pin(self.shared.range(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(self.write(txn))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        Box::pin(self.forget(revision))
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        Box::pin(self.grant(id, ttl))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        Box::pin(self.revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        Box::pin(async move { self.keep_alive(id) })
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        Box::pin(async move { self.lease(id) })
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        Box::pin(async move { Ok(self.leases()) })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move { self.registry.watch(request) })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        Box::pin(async move { Ok(self.describe()) })
    }

    fn watch_registry(&self) -> Option<Arc<WatchRegistry>> {
        Some(self.registry.clone())
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        match driver {
            Some(driver) => Box::pin(driver.run()),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn close(&self, reason: EndReason) {
        self.shared.close(reason);
        // A driver that nobody runs cannot finish anything: what waits for it ends with it.
        drop(self.driver.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close(EndReason::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::key::{key, prefix};
    use crate::keyspace::Keyspace;
    use crate::txn::{Compare, DeleteRequest, Op, OpResponse, PutRequest};

    #[tokio::test]
    async fn writes_in_memory_need_no_driver() {
        let ks = Keyspace::memory();
        assert_eq!(ks.put("/a", "1").await.unwrap(), Revision(2));
        assert_eq!(ks.put("/a", "2").await.unwrap(), Revision(3));
        let kv = ks.get("/a").await.unwrap().unwrap();
        assert_eq!((kv.value, kv.version), ("2".into(), 2));
        assert_eq!(ks.delete(prefix("/").unwrap()).await.unwrap(), (Revision(4), 1));
        assert_eq!(ks.delete(prefix("/").unwrap()).await.unwrap(), (Revision(4), 0));
        assert_eq!(ks.get("/a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_transaction_reads_its_own_writes_and_decides_by_what_was_before() {
        let ks = Keyspace::memory();
        let b = || key("/b").unwrap();
        let inner = Txn::new()
            .when(Compare::absent(b()))
            .and_then(Op::Range(RangeRequest::new(b())))
            .or_else(Op::Delete(DeleteRequest::new(key("/c").unwrap())));
        let txn = Txn::new()
            .put(PutRequest::new("/b", "1"))
            .and_then(Op::Txn(inner));
        let response = ks.txn(txn).await.unwrap();
        let OpResponse::Txn { succeeded, responses } = &response.responses[1] else {
            panic!("{response:?}");
        };
        assert!(succeeded, "compares see the keyspace before the first operation");
        let [OpResponse::Range(range)] = &responses[..] else {
            panic!("{responses:?}");
        };
        assert_eq!(range.kvs[0].mod_revision, response.header.revision);
    }

    #[tokio::test]
    async fn a_failing_operation_takes_back_those_before_it() {
        let ks = Keyspace::memory();
        let txn = Txn::new()
            .put(PutRequest::new("/a", "1"))
            .put(PutRequest::new("/b", "1").lease(LeaseId(7)));
        let error = ks.txn(txn).await.unwrap_err();
        assert!(matches!(error, Error::LeaseNotFound { id: LeaseId(7) }));
        assert_eq!(ks.get("/a").await.unwrap(), None);
        assert_eq!(ks.status().await.unwrap().revision, Revision::INITIAL);
    }
}
