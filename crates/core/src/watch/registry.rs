//! Who watches what.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry as MapEntry};
use slab::Slab;
use tokio::sync::Notify;

use super::handle::{WatcherHandle, WatcherOptions};
use super::range_index::RangeIndex;
use super::reader::Reader;
use super::selection::Selection;
use super::topic::{Canceler, Place, Topic};
use super::{EndReason, OnOverflow, Start, Watch, WatchId, WatchRequest};
use crate::clock::Clock;
use crate::error::Error;
use crate::history::{History, SnapshotReader};
use crate::key::{KeyRange, key, prefix, segments};
use crate::revision::{Position, Revision};
use crate::settings::WatchSettings;

/// Prefixes that are deeper than this are looked up together, as if they were one depth.
const DEPTHS: usize = 32;

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
    clock: Arc<dyn Clock>,
    settings: WatchSettings,
    next_id: AtomicU64,
    watchers: AtomicUsize,
    prev_kv_watchers: AtomicUsize,
    topics: DashMap<Selection, Arc<Topic>>,
    /// Topics by the single keys and by the `/`-prefixes of their selections.
    exact: DashMap<Bytes, Listing>,
    prefix: DashMap<Bytes, Listing>,
    /// Topics by all other ranges.
    ranges: RwLock<RangeIndex<Listing>>,
    /// How many prefixes are watched at each depth.
    depths: [AtomicUsize; DEPTHS],
    /// The revision whose watchers were last looked up: a topic that is listed before it is read is
    /// found by every later look-up.
    started: AtomicU64,
    /// Every event up to here is in the rings.
    dispatched: AtomicU64,
    closing: OnceLock<EndReason>,
    pub(super) closed: Notify,
    finished: AtomicBool,
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
        let current = history.current();
        Arc::new(Self {
            history,
            snapshots,
            clock,
            settings,
            next_id: AtomicU64::new(1),
            watchers: AtomicUsize::new(0),
            prev_kv_watchers: AtomicUsize::new(0),
            topics: DashMap::new(),
            exact: DashMap::new(),
            prefix: DashMap::new(),
            ranges: RwLock::new(RangeIndex::new()),
            depths: [const { AtomicUsize::new(0) }; DEPTHS],
            started: AtomicU64::new(current.0),
            dispatched: AtomicU64::new(current.0),
            closing: OnceLock::new(),
            closed: Notify::new(),
            finished: AtomicBool::new(false),
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
        let canceler = match request.on_overflow {
            OnOverflow::CatchUp => None,
            OnOverflow::Cancel => Some(Arc::new(Canceler::new(self.room(&request)?))),
        };
        self.count()?;
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
        let reader = Reader::new(Arc::clone(self), topic, &request, after, current, canceler);
        let id = WatchId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let created = Position {
            keyspace: self.history.keyspace(),
            revision: after,
        };
        let resumable = !request.snapshot && after <= current;
        Ok(Watch::new(id, created, resumable, Box::new(reader)))
    }

    /// How many watchers there are.
    pub fn watcher_count(&self) -> usize {
        self.watchers.load(Ordering::Acquire)
    }

    /// How many of them asked for previous entries.
    pub fn prev_kv_watcher_count(&self) -> usize {
        self.prev_kv_watchers.load(Ordering::Relaxed)
    }

    /// How many different selections are watched.
    pub fn selection_count(&self) -> usize {
        self.topics.len()
    }

    /// Up to which revision events have been handed to watchers.
    pub fn dispatched(&self) -> Revision {
        Revision(self.dispatched.load(Ordering::Acquire))
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

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Why everything ended, once the dispatcher has handed on all there was.
    pub(super) fn finished(&self) -> Option<&EndReason> {
        self.finished
            .load(Ordering::Acquire)
            .then(|| self.closing.get())
            .flatten()
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

    fn count(&self) -> Result<(), Error> {
        let limit = self.settings.max_watchers;
        let reserve = |count: usize| (count < limit).then_some(count + 1);
        match self
            .watchers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::LimitExceeded {
                what: "watchers",
                limit,
            }),
        }
    }

    fn uncount(&self) {
        self.watchers.fetch_sub(1, Ordering::AcqRel);
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
                    let started = Revision(self.started.load(Ordering::SeqCst));
                    (started, self.finished.load(Ordering::SeqCst))
                });
                entry.insert(Arc::clone(&topic));
                topic
            }
        }
    }

    /// Takes a watcher out: its place, its canceler's place, and the topic if it was the last.
    pub(super) fn leave(&self, topic: &Arc<Topic>, leaving: &Leaving<'_>) {
        if leaving.canceler.is_none_or(Canceler::uncount) {
            self.uncount();
        }
        if leaving.prev_kv {
            self.prev_kv_watchers.fetch_sub(1, Ordering::Relaxed);
        }
        if topic.leave(leaving.place, leaving.armed) {
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
            self.depths[depth(segments(prefix).count())].fetch_add(1, Ordering::SeqCst);
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
                self.depths[depth(segments(prefix).count())].fetch_sub(1, Ordering::SeqCst);
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
        self.started.store(revision.0, Ordering::SeqCst);
    }

    /// Notes that every event up to this revision is where its watchers find it.
    pub(super) fn dispatched_through(&self, revision: Revision) {
        self.start(revision);
        self.dispatched.store(revision.0, Ordering::Release);
    }

    /// Calls `found` for each topic that holds `key`; more than once if several of its ranges do.
    pub(super) fn for_each_topic(&self, key: &Bytes, mut found: impl FnMut(&Arc<Topic>)) {
        let mut visit = |listing: &Listing| listing.iter().for_each(|(_, topic)| found(topic));
        if let Some(listing) = self.exact.get(key) {
            visit(&listing);
        }
        for (at, prefix) in segments(key).enumerate() {
            if self.depths[depth(at + 1)].load(Ordering::SeqCst) > 0
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
            self.uncount();
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
        self.finished.store(true, Ordering::SeqCst);
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
    pub(super) prev_kv: bool,
    pub(super) place: Option<Place>,
    pub(super) canceler: Option<&'a Canceler>,
    pub(super) armed: Option<usize>,
}

fn depth(slashes: usize) -> usize {
    slashes.min(DEPTHS - 1)
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
