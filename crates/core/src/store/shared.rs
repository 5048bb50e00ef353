//! What the calls on an embedded keyspace, its driver and its watch plane share.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::state::{Context, State};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::KeyValue;
use crate::history::{History, SnapshotReader};
use crate::key::KeyRange;
use crate::revision::Revision;
use crate::settings::Settings;
use crate::txn::Header;
use crate::watch::EndReason;

/// The state under its lock, and what it needs from outside.
///
/// Lock order: the state's before the history's. Neither is held across an await.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<State>,
    pub(super) history: Arc<History>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    /// Makes the driver look again: at the deadlines, at the history window, at whether to end.
    pub(super) wake: Notify,
    /// Why the keyspace is to end, once it is.
    closing: Mutex<Option<EndReason>>,
}

impl Shared {
    pub(super) fn new(
        state: State,
        history: Arc<History>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(state),
            history,
            clock,
            settings,
            wake: Notify::new(),
            closing: Mutex::new(None),
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an answer of this revision comes from.
    pub(super) fn header(&self, revision: Revision) -> Header {
        Header {
            keyspace: self.history.keyspace(),
            revision,
        }
    }

    /// What evaluation needs to know, as of now.
    pub(super) fn context<'a>(&self, now: &'a dyn Fn() -> Instant) -> Context<'a> {
        Context {
            time: self.clock.system_time(),
            now,
            quota: self.settings.quota_bytes,
        }
    }

    /// Refuses new changes from now on and makes the driver end. The first reason counts.
    pub(super) fn close(&self, reason: EndReason) {
        self.write().closed = true;
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Why the keyspace is to end, if it is.
    pub(super) fn closing(&self) -> Option<EndReason> {
        self.closing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets what happened before `target`, in steps between which others get the lock.
    pub(super) async fn compact(&self, target: Revision) {
        loop {
            // Dropped after the lock, which is why it has a name.
            let forgotten = self.write().compact(target, &self.history);
            if forgotten.is_empty() {
                return;
            }
            drop(forgotten);
            let_others_run().await;
        }
    }
}

impl SnapshotReader for Shared {
    fn page(
        &self,
        range: &KeyRange,
        revision: Revision,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Error> {
        let state = self.read();
        let revision = state.readable().choose(Some(revision))?;
        let entries = state.index.entries(range, after.map(AsRef::as_ref), revision);
        Ok(entries.take(limit).collect())
    }
}

/// Goes to the end of the executor's queue.
pub(super) async fn let_others_run() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
