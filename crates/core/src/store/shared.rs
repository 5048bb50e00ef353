//! What the calls on an embedded keyspace, its driver and its watch plane share.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::apply;
use super::read::Collector;
use super::state::{Context, State};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::KeyValue;
use crate::history::{History, SnapshotReader};
use crate::key::KeyRange;
use crate::revision::Revision;
use crate::settings::Settings;
use crate::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use crate::watch::EndReason;

/// How many keys a read looks at before it lets writers have the lock.
const READ_PAGE: usize = 1024;

/// How often a read of the current revision starts over because compaction overtook it, before it
/// keeps the lock to its end.
const MAX_READ_RESTARTS: u32 = 3;

/// Most revisions that the window makes the history forget at a time, while changes wait.
const MAX_COMPACTED_AT_ONCE: u64 = 4096;

/// How often the age of the history is looked at: a sixteenth of the greatest age, within these.
const MIN_AGE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_AGE_INTERVAL: Duration = Duration::from_secs(60);

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

    /// Reads a range, page by page.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub(super) async fn range(&self, request: RangeRequest) -> Result<(Header, RangeResponse), Error> {
        let mut collector = Collector::new(&request);
        let mut restarts = 0;
        // The current revision when the read began, and the one it reads at.
        let mut begun: Option<(Revision, Revision)> = None;
        let mut after = None;
        loop {
            let (current, revision) = {
                let state = self.read();
                let readable = state.readable();
                let (current, revision) = match begun {
                    Some((_, revision)) if request.revision.is_none() && revision < readable.oldest => {
                        // What was current has been compacted meanwhile; what is current now has not.
                        restarts += 1;
                        after = None;
                        collector.reset();
                        (readable.current, readable.current)
                    }
                    Some((current, revision)) => (current, readable.choose(Some(revision))?),
                    None => (readable.current, readable.choose(request.revision)?),
                };
                let max = if restarts > MAX_READ_RESTARTS {
                    usize::MAX
                } else {
                    READ_PAGE
                };
                after = collector.page(&state.index, revision, after.as_deref(), max);
                (current, revision)
            };
            if after.is_none() {
                return Ok((self.header(current), collector.finish()));
            }
            begun = Some((current, revision));
            let_others_run().await;
        }
    }

    /// Carries out a transaction that only reads.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub(super) fn reads(&self, txn: &Txn) -> Result<TxnResponse, Error> {
        let state = self.read();
        let (succeeded, responses) = apply::evaluate_reads(&state.index, txn, state.readable())?;
        Ok(TxnResponse {
            header: self.header(state.committed()),
            succeeded,
            responses,
        })
    }

    /// Up to where the history is to be forgotten at once because it has outgrown its window, if it has. Its
    /// age is looked at from `next_age_check` on, which moves on when there is no more to forget.
    pub(super) fn outgrown(&self, next_age_check: &mut Instant) -> Option<Revision> {
        let now = self.clock.now();
        let window = &self.settings.history;
        let (most, target) = {
            let state = self.read();
            if now < *next_age_check && !state.exceeds(window) {
                return None;
            }
            let time = self.clock.system_time();
            let most = Revision(state.readable().oldest.0.saturating_add(MAX_COMPACTED_AT_ONCE));
            let target = state.compaction_target(window, time, &self.history, most);
            (most, target)
        };
        if target.is_none_or(|target| target <= most) {
            let interval = (window.max_age / 16).clamp(MIN_AGE_INTERVAL, MAX_AGE_INTERVAL);
            *next_age_check = now + interval;
        }
        target.map(|target| target.min(most))
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
