//! Who watches what.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry as MapEntry};
use slab::Slab;
use tokio::sync::Notify;

use super::admission::Admission;
use super::archive::Archive;
use super::canceler::Canceler;
use super::handle::{WatcherHandle, WatcherOptions};
use super::handover::Handover;
use super::range_index::RangeIndex;
use super::reader::Reader;
use super::selection::Selection;
use super::topic::{Pace, Topic};
use super::waiting::Place;
use super::watcher::{Watcher, WatcherInfo, WatcherState};
use super::{EndReason, OnOverflow, Start, Watch, WatchId, WatchRequest};
use crate::clock::Clock;
use crate::error::Error;
use crate::history::{History, SnapshotReader, Unread};
use crate::key::{KeyRange, key, prefix, segments};
use crate::revision::{Position, Revision};
use crate::settings::WatchSettings;

/// The watchers of a keyspace. Registering one is independent of how many there are; finding those
/// of an event costs a lookup for its key, one for each depth at which prefixes are watched, and one
/// in an interval index if other ranges are watched.
///
/// The registry only knows who watches; a [`WatchDispatcher`](super::WatchDispatcher) must run to
/// hand events on. [`Keyspace`](crate::Keyspace) puts both together with a store; they are public
/// for those who have a store of their own, which appends to a [`History`].
///
/// # Locks
/// In this order: an entry of `topics`, a topic, an entry of a listing. The dispatcher holds at most
/// one of them at a time, and none while it wakes watchers.
pub struct WatchRegistry {
    history: Arc<History>,
    snapshots: Option<Arc<dyn SnapshotReader>>,
    archive: Option<Arc<dyn Archive>>,
    clock: Arc<dyn Clock>,
    settings: WatchSettings,
    /// Shared with the registries that this one came after.
    next_id: Arc<AtomicU64>,
    admission: Admission,
    prev_kv_watchers: AtomicUsize,
    lagging: AtomicUsize,
    catch_ups: AtomicU64,
    /// The watchers by their names, for operators.
    by_id: DashMap<WatchId, Arc<Watcher>>,
    topics: DashMap<Selection, Arc<Topic>>,
    /// Topics by the single keys and by the `/`-prefixes of their selections.
    exact: DashMap<Bytes, Listing>,
    prefix: DashMap<Bytes, Listing>,
    /// Topics by all other ranges.
    ranges: RwLock<RangeIndex<Listing>>,
    handover: Handover,
    closing: OnceLock<EndReason>,
    pub(super) closed: Notify,
}

/// The topics that a key, a prefix or a range is part of. Usually one.
type Listing = Slab<Arc<Topic>>;

impl WatchRegistry {
    /// A registry of watchers of `history`. Without `snapshots`, watches cannot begin with one.
    pub fn new(
        history: Arc<History>,
        snapshots: Option<Arc<dyn SnapshotReader>>,
        clock: Arc<dyn Clock>,
        settings: WatchSettings,
    ) -> Arc<Self> {
        Self::with_archive(history, snapshots, None, clock, settings)
    }

    /// The same, where watches that need what `history` does not hold find it in `archive`.
    pub fn with_archive(
        history: Arc<History>,
        snapshots: Option<Arc<dyn SnapshotReader>>,
        archive: Option<Arc<dyn Archive>>,
        clock: Arc<dyn Clock>,
        settings: WatchSettings,
    ) -> Arc<Self> {
        let first_id = Arc::new(AtomicU64::new(1));
        Self::build(history, snapshots, archive, clock, settings, first_id)
    }

    /// A registry in this one's place, of watchers of another history. No name is given twice.
    pub(crate) fn successor(
        &self,
        history: Arc<History>,
        snapshots: Option<Arc<dyn SnapshotReader>>,
    ) -> Arc<Self> {
        Self::build(
            history,
            snapshots,
            self.archive.clone(),
            self.clock.clone(),
            self.settings.clone(),
            self.next_id.clone(),
        )
    }

    fn build(
        history: Arc<History>,
        snapshots: Option<Arc<dyn SnapshotReader>>,
        archive: Option<Arc<dyn Archive>>,
        clock: Arc<dyn Clock>,
        settings: WatchSettings,
        next_id: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let (current, admission) = (history.current(), Admission::new(settings.max_watchers));
        Arc::new(Self {
            history,
            snapshots,
            archive,
            clock,
            settings,
            next_id,
            admission,
            prev_kv_watchers: AtomicUsize::new(0),
            lagging: AtomicUsize::new(0),
            catch_ups: AtomicU64::new(0),
            by_id: DashMap::new(),
            topics: DashMap::new(),
            exact: DashMap::new(),
            prefix: DashMap::new(),
            ranges: RwLock::new(RangeIndex::new()),
            handover: Handover::new(current),
            closing: OnceLock::new(),
            closed: Notify::new(),
        })
    }

    /// Watches one key.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], and those of [`watch`](Self::watch).
    pub fn register(
        self: &Arc<Self>,
        name: impl Into<Bytes>,
        options: WatcherOptions,
    ) -> Result<WatcherHandle, Error> {
        self.register_range(key(name)?, options)
    }

    /// Watches all keys below a prefix that starts and ends with `/`.
    ///
    /// # Errors
    /// [`Error::InvalidPrefix`], and those of [`watch`](Self::watch).
    pub fn register_prefix(
        self: &Arc<Self>,
        name: impl Into<Bytes>,
        options: WatcherOptions,
    ) -> Result<WatcherHandle, Error> {
        self.register_range(prefix(name)?, options)
    }

    fn register_range(
        self: &Arc<Self>,
        range: KeyRange,
        options: WatcherOptions,
    ) -> Result<WatcherHandle, Error> {
        let watch = self.watch(options.request(range.clone()))?;
        Ok(WatcherHandle::new(range, watch))
    }

    /// Starts a watch. When this returns, it is registered and its boundary is fixed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the request does not make sense; [`Error::LimitExceeded`] if
    /// there are [`max_watchers`](WatchSettings::max_watchers) already, exactly, however many
    /// register at once; [`Error::Unsupported`] for a snapshot where there is no reader for it.
    pub fn watch(self: &Arc<Self>, mut request: WatchRequest) -> Result<Watch, Error> {
        request.validate()?;
        if request.snapshot && self.snapshots.is_none() {
            return Err(Error::Unsupported {
                what: "a watch that begins with a snapshot".into(),
            });
        }
        let room = self.room(&request)?;
        // Who leaves by an overflow leaves the count, which it has not entered.
        debug_assert!(!request.internal || request.on_overflow == OnOverflow::CatchUp);
        let canceler = match request.on_overflow {
            OnOverflow::CatchUp => None,
            OnOverflow::Cancel => Some(Arc::new(Canceler::new(room))),
        };
        let is_counted = !request.internal;
        if is_counted {
            self.admission.enter()?;
        }
        if request.view.prev_kv {
            self.prev_kv_watchers.fetch_add(1, Ordering::Relaxed);
        }
        let topic = self.join(Selection::new(std::mem::take(&mut request.ranges)));
        // After joining: what happens from here on is published to the topic.
        let current = self.history.current();
        let after = match request.start {
            Start::Now => current,
            Start::At(revision) => revision.prev(),
            Start::After(position) => position.revision,
        };
        let id = WatchId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let since = self.clock.system_time();
        let label = request.label.take();
        let watcher = Arc::new(Watcher::new(id, topic, request.view, label, since, is_counted));
        let reader = Reader::new(
            Arc::clone(self),
            Arc::clone(&watcher),
            &request,
            after,
            current,
            canceler,
        );
        if is_counted {
            self.by_id.insert(id, watcher);
        }
        // A foreign position stays foreign: whoever keeps it must not come back with one that looks like ours.
        let created = match request.start {
            Start::After(position) => position,
            Start::Now | Start::At(_) => Position {
                keyspace: self.history.keyspace(),
                revision: after,
            },
        };
        let resumable = !request.snapshot && after <= current;
        Ok(Watch::new(id, created, resumable, Box::new(reader)))
    }

    /// How many watchers there are.
    pub fn watcher_count(&self) -> usize {
        self.admission.count()
    }

    /// How many of them asked for previous entries.
    pub fn prev_kv_watcher_count(&self) -> usize {
        self.prev_kv_watchers.load(Ordering::Relaxed)
    }

    /// How many of them read the history, because they have fallen behind or begun in the past.
    pub fn lagging_count(&self) -> usize {
        self.lagging.load(Ordering::Relaxed)
    }

    /// How often a watcher that read the history was synced again.
    pub fn catch_ups(&self) -> u64 {
        self.catch_ups.load(Ordering::Relaxed)
    }

    /// The watchers and how far they are, in the order of their names.
    pub fn watchers(&self) -> Vec<WatcherInfo> {
        self.watchers_after(WatchId(0), usize::MAX)
    }

    /// At most `limit` of the watchers whose names come after one. Looks for them among all, but holds up
    /// nobody while it does.
    pub fn watchers_after(&self, after: WatchId, limit: usize) -> Vec<WatcherInfo> {
        let ids = self.by_id.iter().map(|entry| *entry.key());
        let mut ids: Vec<_> = ids.filter(|id| *id > after).collect();
        ids.sort_unstable();
        let watchers = ids
            .iter()
            .filter_map(|id| self.by_id.get(id).map(|entry| Arc::clone(entry.value())));
        watchers.take(limit).map(|watcher| self.info(&watcher)).collect()
    }

    /// How far the watcher is that has read least, among those that have something left to read: who
    /// lags, and who would notice that it does if somebody read it. Looks at every watcher, but holds
    /// up nobody while it does.
    pub fn slowest(&self) -> Option<Revision> {
        let watchers: Vec<_> = self.by_id.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut slowest = None;
        for watcher in watchers {
            let position = watcher.position();
            let is_behind = || match watcher.state() {
                WatcherState::Snapshot => false,
                WatcherState::Lagging => true,
                WatcherState::Starting => watcher.topic.has_after(position),
                WatcherState::Synced => watcher.topic.had_after(position),
            };
            if slowest.is_none_or(|slowest| position < slowest) && is_behind() {
                slowest = Some(position);
            }
        }
        slowest
    }

    /// What a watcher that is at this revision has not read.
    pub fn unread(&self, position: Revision) -> Unread {
        self.history.unread(position)
    }

    /// Ends a watch with [`EndReason::Canceled`], as soon as its reader looks. Returns whether there is
    /// such a watch.
    pub fn cancel(&self, id: WatchId) -> bool {
        let Some(watcher) = self.by_id.get(&id).map(|entry| Arc::clone(entry.value())) else {
            return false;
        };
        watcher.cancel();
        if let Some(waker) = watcher.topic.waker_of(id) {
            waker.wake();
        }
        true
    }

    fn info(&self, watcher: &Watcher) -> WatcherInfo {
        let state = watcher.state();
        // Read before the position is: what was dispatched by now and is not pending was delivered.
        let dispatched = self.dispatched();
        let mut position = watcher.position();
        if state == WatcherState::Synced && !watcher.topic.had_after(position) {
            position = position.max(dispatched);
        }
        let unread = self.history.unread(position);
        WatcherInfo {
            id: watcher.id,
            ranges: watcher.topic.selection.ranges().to_vec(),
            view: watcher.view,
            label: watcher.label.clone(),
            since: watcher.since,
            state,
            canceled: watcher.is_canceled(),
            position,
            lag_revisions: self.history.current().0.saturating_sub(position.0),
            pending_bytes: unread.bytes,
            pending_since: unread.since,
        }
    }

    /// Notes that a watcher does something else now.
    pub(super) fn turned(&self, before: WatcherState, now: WatcherState) {
        match (before, now) {
            (before, now) if before == now => {}
            (_, WatcherState::Lagging) => {
                self.lagging.fetch_add(1, Ordering::Relaxed);
            }
            (WatcherState::Lagging, _) => {
                self.lagging.fetch_sub(1, Ordering::Relaxed);
                if now == WatcherState::Synced {
                    self.catch_ups.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    /// How many different selections are watched.
    pub fn selection_count(&self) -> usize {
        self.topics.len()
    }

    /// Up to which revision events have been handed to watchers.
    pub fn dispatched(&self) -> Revision {
        self.handover.dispatched()
    }

    /// Ends every watch with `reason`, after what was committed before. The first call counts.
    pub fn close(&self, reason: EndReason) {
        if self.closing.set(reason).is_ok() {
            self.closed.notify_one();
        }
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn snapshots(&self) -> Option<&dyn SnapshotReader> {
        self.snapshots.as_deref()
    }

    pub(super) fn archive(&self) -> Option<&dyn Archive> {
        self.archive.as_deref()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// How coalescing watchers are paced.
    pub(super) fn pace(&self) -> Pace<'_> {
        Pace {
            max_delay: self.settings.max_batch_delay,
            clock: &*self.clock,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Why everything ended, once the dispatcher has handed on all there was.
    pub(super) fn finished(&self) -> Option<&EndReason> {
        self.handover.has_finished().then(|| self.closing.get()).flatten()
    }

    /// The end of one watch among many: those who drain are told different times to come back.
    pub(super) fn end_reason(&self) -> EndReason {
        match self.closing.get() {
            Some(EndReason::Draining { retry_after }) => {
                let share = 0.5 + fastrand::f64() / 2.0;
                EndReason::Draining {
                    retry_after: Duration::mul_f64(*retry_after, share),
                }
            }
            Some(reason) => reason.clone(),
            None => EndReason::Closed,
        }
    }

    fn room(&self, request: &WatchRequest) -> Result<usize, Error> {
        let most = self.settings.room;
        match request.room {
            Some(room) if room > most => Err(Error::InvalidArgument {
                what: "watch",
                reason: format!("its room of {room} batches is more than the {most} of this keyspace"),
            }),
            Some(room) => Ok(room),
            None => Ok(most),
        }
    }

    /// The topic of a selection, with one more watcher.
    fn join(&self, selection: Selection) -> Arc<Topic> {
        match self.topics.entry(selection) {
            MapEntry::Occupied(entry) => {
                entry.get().join();
                Arc::clone(entry.get())
            }
            MapEntry::Vacant(entry) => {
                let topic = Arc::new(Topic::new(entry.key().clone(), self.settings.room));
                topic.join();
                topic.begin(|| {
                    let slots = topic
                        .selection
                        .ranges()
                        .iter()
                        .map(|range| self.list(range, &topic));
                    topic.set_slots(slots.collect());
                    self.handover.missed()
                });
                entry.insert(Arc::clone(&topic));
                topic
            }
        }
    }

    /// Takes a watcher out: its place, its canceler's place, and the topic if it was the last.
    pub(super) fn leave(&self, watcher: &Watcher, leaving: &Leaving<'_>) {
        self.by_id.remove(&watcher.id);
        if watcher.state() == WatcherState::Lagging {
            self.lagging.fetch_sub(1, Ordering::Relaxed);
        }
        let topic = &watcher.topic;
        if watcher.is_counted && leaving.canceler.is_none_or(Canceler::uncount) {
            self.admission.leave();
        }
        if watcher.view.prev_kv {
            self.prev_kv_watchers.fetch_sub(1, Ordering::Relaxed);
        }
        if topic.leave(leaving.patient, leaving.place, leaving.armed) {
            self.topics.remove_if(&topic.selection, |_, current| {
                // Somebody may have joined, or left and joined anew, in between.
                let unused = Arc::ptr_eq(current, topic) && topic.is_empty();
                if unused {
                    self.unlist(topic);
                }
                unused
            });
        }
    }

    fn list(&self, range: &KeyRange, topic: &Arc<Topic>) -> usize {
        let topic = Arc::clone(topic);
        if let Some(key) = range.as_single() {
            return self.exact.entry(key.clone()).or_default().insert(topic);
        }
        if let Some(prefix) = range.as_slash_prefix() {
            self.handover.watch_depth(segments(prefix).count());
            return self.prefix.entry(prefix.clone()).or_default().insert(topic);
        }
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = ranges.get_mut(range) {
            return listing.insert(topic);
        }
        let mut listing = Listing::new();
        let slot = listing.insert(topic);
        ranges.insert(range, listing);
        slot
    }

    fn unlist(&self, topic: &Topic) {
        for (range, &slot) in topic.selection.ranges().iter().zip(topic.slots()) {
            let remove = |listing: &mut Listing| {
                listing.try_remove(slot);
                listing.is_empty()
            };
            if let Some(key) = range.as_single() {
                self.exact.remove_if_mut(key, |_, listing| remove(listing));
            } else if let Some(prefix) = range.as_slash_prefix() {
                self.prefix.remove_if_mut(prefix, |_, listing| remove(listing));
                self.handover.unwatch_depth(segments(prefix).count());
            } else {
                let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
                if ranges.get_mut(range).is_some_and(remove) {
                    ranges.remove(range);
                }
            }
        }
    }

    /// Notes that the watchers of this revision are being looked up.
    pub(super) fn start(&self, revision: Revision) {
        self.handover.start(revision);
    }

    /// Notes that every event up to this revision is where its watchers find it.
    pub(super) fn dispatched_through(&self, revision: Revision) {
        self.start(revision);
        self.handover.dispatched_through(revision);
    }

    /// Calls `found` for each topic that holds `key`; more than once if several of its ranges do.
    pub(super) fn for_each_topic(&self, key: &Bytes, mut found: impl FnMut(&Arc<Topic>)) {
        let mut visit = |listing: &Listing| listing.iter().for_each(|(_, topic)| found(topic));
        if let Some(listing) = self.exact.get(key) {
            visit(&listing);
        }
        for (at, prefix) in segments(key).enumerate() {
            if self.handover.is_watched(at + 1)
                && let Some(listing) = self.prefix.get(prefix)
            {
                visit(&listing);
            }
        }
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        if !ranges.is_empty() {
            ranges.for_each_around(key, visit);
        }
    }

    /// Takes a watcher that has overflowed out of the count; its reader does the rest.
    pub(super) fn overflowed(&self, canceler: &Canceler) {
        if canceler.uncount() {
            self.admission.leave();
        }
    }

    /// Sends everybody to the history: events up to `through` did not reach the rings.
    pub(super) fn gap(&self, through: Revision, woken: &mut Vec<Waker>) {
        self.start(through);
        for topic in self.topics() {
            topic.gap(through, woken, |canceler| self.overflowed(canceler));
        }
    }

    /// Ends everybody, after what is in the rings.
    pub(super) fn finish(&self, woken: &mut Vec<Waker>) {
        self.handover.finish();
        for topic in self.topics() {
            topic.finish(woken);
        }
    }

    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }
}

/// What a watcher that goes leaves behind.
pub(super) struct Leaving<'a> {
    pub(super) patient: bool,
    pub(super) place: Option<Place>,
    pub(super) canceler: Option<&'a Canceler>,
    pub(super) armed: Option<usize>,
}

impl fmt::Debug for WatchRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchRegistry")
            .field("watchers", &self.watcher_count())
            .field("selections", &self.selection_count())
            .field("dispatched", &self.dispatched())
            .finish_non_exhaustive()
    }
}
