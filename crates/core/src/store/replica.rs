//! The copy of a keyspace that others write.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::shared::Shared;
use super::state::State;
use crate::clock::Clock;
use crate::error::{Cause, Error};
use crate::event::{KeyValue, Record};
use crate::history::History;
use crate::key::KeyRange;
use crate::revision::{KeyspaceId, Position, Revision};
use crate::settings::Settings;
use crate::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use crate::watch::{
    Archive, Delivery, EndReason, Ended, Watch, WatchDispatcher, WatchRegistry, WatchRequest, WatchSource,
};

/// Everything there is in a keyspace at one revision.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Which keyspace.
    pub keyspace: KeyspaceId,
    /// As of when.
    pub revision: Revision,
    /// All entries, in any order.
    pub entries: Vec<KeyValue>,
}

/// A store that follows a keyspace elsewhere: index, history and watches are those of an embedded one, but
/// what happens is told to it, whole revision by whole revision, by whoever follows the original. Revisions
/// may have gaps.
///
/// Where the original turns out to be [another keyspace](Self::install), the replica becomes one of that:
/// watches that began with a snapshot get another one, all others end.
pub struct Replica {
    now: RwLock<Arc<Generation>>,
    waiting: Mutex<Waiting>,
}

/// The replica of one keyspace.
struct Generation {
    shared: Arc<Shared>,
    registry: Arc<WatchRegistry>,
}

/// Those who wait for a revision of the generation there is now, by it and by a number of their own.
#[derive(Default)]
struct Waiting {
    next: u64,
    by_revision: BTreeMap<(Revision, u64), oneshot::Sender<()>>,
}

/// How much there is in a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The oldest revision that can be read here.
    pub oldest: Revision,
    /// The oldest revision that can be watched from without an archive.
    pub watchable: Revision,
    /// The last revision.
    pub current: Revision,
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes of history.
    pub history_bytes: u64,
}

impl Generation {
    fn first(
        listing: Listing,
        archive: Option<Arc<dyn Archive>>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Arc<Self>, Cause> {
        let shared = Self::listed(listing, clock.clone(), settings)?;
        let (history, snapshots) = (shared.history.clone(), Some(shared.clone() as Arc<_>));
        let watch = shared.settings.watch.clone();
        let registry = WatchRegistry::with_archive(history, snapshots, archive, clock, watch);
        Ok(Arc::new(Self { shared, registry }))
    }

    /// That of another keyspace, in this one's place.
    fn next(&self, listing: Listing) -> Result<Arc<Self>, Cause> {
        let before = &self.shared;
        let shared = Self::listed(listing, before.clock.clone(), before.settings.clone())?;
        let snapshots = Some(shared.clone() as Arc<_>);
        let registry = self.registry.successor(shared.history.clone(), snapshots);
        Ok(Arc::new(Self { shared, registry }))
    }

    fn listed(listing: Listing, clock: Arc<dyn Clock>, settings: Settings) -> Result<Arc<Shared>, Cause> {
        let Listing {
            keyspace,
            revision,
            entries,
        } = listing;
        let state = State::listed(revision, entries)?;
        // What happened at the revision of the listing is in it, but not known as events.
        let history = History::new(keyspace, revision.next(), revision);
        Ok(Shared::new(state, history, clock, settings))
    }

    /// Forgets what outgrows the window, for ever.
    async fn bound_history(&self) {
        let shared = &self.shared;
        let mut next_age_check = shared.clock.now();
        loop {
            while let Some(target) = shared.outgrown(&mut next_age_check) {
                shared.compact(target).await;
            }
            let mut sleep = shared.clock.sleep_until(next_age_check);
            let mut woken = pin!(shared.wake.notified());
            poll_fn(|cx| {
                let look = woken.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready();
                if look { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }
}

impl Replica {
    /// The replica of what is listed. What it does not hold is read in `archive`. Of the settings the quota
    /// means nothing here.
    ///
    /// # Errors
    /// No keyspace can have been like this.
    pub fn new(
        listing: Listing,
        archive: Option<Arc<dyn Archive>>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Arc<Self>, Cause> {
        let first = Generation::first(listing, archive, clock, settings)?;
        Ok(Arc::new(Self {
            now: RwLock::new(first),
            waiting: Mutex::new(Waiting::default()),
        }))
    }

    /// Goes on from a listing, because what happened in between is not known.
    ///
    /// Of the same keyspace: what is here already is kept if the listing shows nothing newer. Else what
    /// happened before it can no longer be read, or watched without an archive. Of another keyspace: watches
    /// that began with a snapshot go on with a snapshot of it, all others end with
    /// [`EndReason::KeyspaceChanged`].
    ///
    /// # Errors
    /// No keyspace can have been like this; nothing has changed.
    pub fn install(&self, listing: Listing) -> Result<(), Cause> {
        let generation = self.generation();
        let (keyspace, revision) = (listing.keyspace, listing.revision);
        if keyspace != generation.shared.history.keyspace() {
            self.replace(&generation, listing)?;
        } else if revision > generation.shared.history.current() || generation.shared.read().is_broken() {
            let mut fresh = State::listed(revision, listing.entries)?;
            let mut state = generation.shared.write();
            fresh.closed = state.closed;
            generation.shared.history.restart(revision);
            // Dropped after the lock, which is why it has a name.
            let _old = std::mem::replace(&mut *state, fresh);
            drop(state);
        }
        self.tell_waiting();
        Ok(())
    }

    fn replace(&self, old: &Generation, listing: Listing) -> Result<(), Cause> {
        let (actual, current) = (listing.keyspace, listing.revision);
        let fresh = old.next(listing)?;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if old.shared.closing().is_some() {
            return Ok(());
        }
        *now = fresh;
        drop(now);
        self.give_up_waiting();
        let reason = EndReason::KeyspaceChanged { actual, current };
        old.shared.close(reason.clone());
        old.registry.close(reason);
        Ok(())
    }

    /// Adds what happened next; what is here already is left out.
    ///
    /// # Errors
    /// It cannot follow what is here, so something is missing. Until the next [listing](Self::install) the
    /// replica stays as it was.
    pub fn append(&self, record: Record) -> Result<(), Cause> {
        let generation = self.generation();
        let shared = &generation.shared;
        let now = shared.clock.system_time();
        let mut state = shared.write();
        if record.revision <= state.committed() {
            return Ok(());
        }
        state.follow(record, now, &shared.history)?;
        if state.exceeds(&shared.settings.history) {
            shared.wake.notify_one();
        }
        drop(state);
        self.tell_waiting();
        Ok(())
    }

    /// Notes that nothing of what happened up to `revision` is missing.
    pub fn advance(&self, revision: Revision) {
        let generation = self.generation();
        let mut state = generation.shared.write();
        state.advance(revision, &generation.shared.history);
        drop(state);
        self.tell_waiting();
    }

    /// Forgets what happened before `revision`, as the original has.
    pub async fn compact(&self, revision: Revision) {
        self.generation().shared.compact(revision).await;
    }

    /// How far it is.
    pub fn position(&self) -> Position {
        let generation = self.generation();
        let history = &generation.shared.history;
        Position {
            keyspace: history.keyspace(),
            revision: history.current(),
        }
    }

    /// How much there is.
    pub fn extent(&self) -> Extent {
        let generation = self.generation();
        let history = &generation.shared.history;
        let state = generation.shared.read();
        let (readable, totals) = (state.readable(), state.totals());
        Extent {
            oldest: readable.oldest,
            watchable: history.oldest(),
            current: readable.current,
            keys: totals.keys,
            bytes: totals.bytes,
            history_bytes: history.bytes(),
        }
    }

    /// Waits until it is that far.
    ///
    /// # Errors
    /// [`Error::KeyspaceChanged`] if it is, or becomes, the replica of another keyspace; [`Error::Closed`] if it
    /// is closed, or becomes so, before it is that far.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn reached(&self, position: Position) -> Result<(), Error> {
        let (reached, place) = {
            // Whoever makes it go on looks at who waits afterwards.
            let mut waiting = self.lock_waiting();
            let now = self.position();
            if now.keyspace != position.keyspace {
                return Err(changed(now));
            }
            if now.revision >= position.revision {
                return Ok(());
            }
            if self.is_closed() {
                return Err(Error::Closed);
            }
            let (sender, reached) = oneshot::channel();
            waiting.next += 1;
            let place = (position.revision, waiting.next);
            waiting.by_revision.insert(place, sender);
            (reached, Waits { replica: self, place })
        };
        let outcome = reached.await;
        drop(place);
        outcome.map_err(|_| {
            let now = self.position();
            if now.keyspace == position.keyspace {
                Error::Closed
            } else {
                changed(now)
            }
        })
    }

    /// Whether anything was written in these ranges after a position; none if that is not known here.
    pub fn touched(&self, ranges: &[KeyRange], after: Position) -> Option<bool> {
        let generation = self.generation();
        let history = &generation.shared.history;
        if history.keyspace() != after.keyspace {
            return None;
        }
        let chunk = history.read_after(after.revision, usize::MAX).ok()?;
        let mut events = chunk.records.iter().flat_map(|record| &record.events);
        Some(events.any(|event| ranges.iter().any(|range| range.contains(&event.kv.key))))
    }

    /// Reads a range of what is here.
    ///
    /// # Errors
    /// [`Error::Compacted`] also for what only the original has; [`Error::FutureRevision`].
    pub async fn range(&self, request: RangeRequest) -> Result<(Header, RangeResponse), Error> {
        self.generation().shared.range(request).await
    }

    /// Carries out a transaction that [only reads](Txn::is_read_only) on what is here.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    ///
    /// # Panics
    /// If the transaction writes.
    pub fn reads(&self, txn: &Txn) -> Result<TxnResponse, Error> {
        self.generation().shared.reads(txn)
    }

    /// Starts a watch; see [`WatchRegistry::watch`]. Its boundary is as far as the replica is.
    ///
    /// # Errors
    /// Those of [`WatchRegistry::watch`].
    pub fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<Watch, Error> {
        if !request.snapshot {
            return self.registry().watch(request);
        }
        let source = Successive {
            watch: self.registry().watch(request.clone())?,
            replica: self.clone(),
            request,
        };
        let (id, created) = (source.watch.id(), source.watch.created());
        Ok(Watch::new(id, created, false, Box::new(source)))
    }

    /// Who watches the keyspace that it is a replica of now.
    pub fn registry(&self) -> Arc<WatchRegistry> {
        self.generation().registry.clone()
    }

    /// Hands on events and bounds the history until it is closed.
    pub async fn run(&self) {
        loop {
            let generation = self.generation();
            let mut bound = pin!(generation.bound_history());
            let mut dispatch = pin!(WatchDispatcher::new(generation.registry.clone()).run());
            poll_fn(|cx| {
                let _endless = bound.as_mut().poll(cx);
                dispatch.as_mut().poll(cx)
            })
            .await;
            if Arc::ptr_eq(&generation, &self.generation()) {
                return;
            }
        }
    }

    /// Ends every watch with `reason`, after what is here, and what waits for more.
    pub fn close(&self, reason: EndReason) {
        let now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.shared.close(reason.clone());
        now.registry.close(reason);
        // Whoever waits holds the other lock when it takes this one.
        drop(now);
        self.give_up_waiting();
    }

    fn is_closed(&self) -> bool {
        self.generation().shared.closing().is_some()
    }

    fn generation(&self) -> Arc<Generation> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell_waiting(&self) {
        let mut waiting = self.lock_waiting();
        let current = self.position().revision;
        while let Some(first) = waiting
            .by_revision
            .first_entry()
            .filter(|first| first.key().0 <= current)
        {
            // Whoever waited may have gone.
            let _ = first.remove().send(());
        }
    }

    /// Those who wait find out why they do so in vain.
    fn give_up_waiting(&self) {
        let waiting = std::mem::take(&mut self.lock_waiting().by_revision);
        drop(waiting);
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed(now: Position) -> Error {
    Error::KeyspaceChanged {
        actual: now.keyspace,
        current: now.revision,
    }
}

/// A place among those who wait.
struct Waits<'a> {
    replica: &'a Replica,
    place: (Revision, u64),
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.replica.lock_waiting().by_revision.remove(&self.place);
    }
}

/// A watch with a snapshot, in one keyspace after the other.
struct Successive {
    watch: Watch,
    replica: Arc<Replica>,
    request: WatchRequest,
}

impl WatchSource for Successive {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        loop {
            let ended = match ready!(self.watch.poll_next_delivery(cx)) {
                Ok(delivery) => return Poll::Ready(Ok(delivery)),
                Err(ended) => ended,
            };
            let is_replaced = matches!(ended.reason, EndReason::KeyspaceChanged { .. })
                && self.replica.position().keyspace != self.watch.keyspace();
            if !is_replaced {
                return Poll::Ready(Err(ended));
            }
            match self.replica.registry().watch(self.request.clone()) {
                Ok(watch) => self.watch = watch,
                Err(error) => {
                    let reason = EndReason::Failed(error);
                    return Poll::Ready(Err(Ended { reason, ..ended }));
                }
            }
        }
    }

    fn keyspace(&self) -> Option<KeyspaceId> {
        Some(self.watch.keyspace())
    }

    fn request_progress(&mut self) {
        self.watch.request_progress();
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
