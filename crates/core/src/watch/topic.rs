//! The events of one selection of keys, once for all who watch it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use slab::Slab;

use super::selection::{Entry, Selection};
use crate::revision::Revision;

/// Most bytes of records that a topic's ring keeps alive (1 MiB). The history holds the same records
/// for as long as its window; beyond it, this bounds what readers who do not read can cost. A record
/// larger than this stands alone.
const MAX_RING_BYTES: usize = 1 << 20;

/// What the watchers of one selection share: a short ring of the latest entries, and the wakers of
/// those who have read them all.
///
/// A watcher is a cursor into the ring. Publishing costs one push and the wake-ups of those who
/// wait; a watcher that falls behind by more than the ring reads on from the history and costs
/// nothing here. This is why a writer never pays for a slow reader.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) selection: Selection,
    /// Where the topic stands in the registry's listings, one place for each range of the selection.
    slots: OnceLock<Box<[usize]>>,
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Sized>,
    ring_bytes: usize,
    /// The number of entries published before the first in the ring.
    passed: u64,
    /// The ring holds every entry after this revision.
    complete_after: Revision,
    watchers: usize,
    /// Counts the wake-ups, so that a parked watcher knows whether its place is still its own.
    generation: u64,
    parked: Slab<Waker>,
    cancelers: Slab<Armed>,
    /// No armed watcher began after a later revision.
    armed_through: Revision,
    /// No canceler's room is full before this entry.
    next_check: u64,
    /// Nothing will be published any more.
    finished: bool,
}

#[derive(Debug)]
struct Sized {
    entry: Entry,
    bytes: usize,
}

/// A watcher that is to end when it falls behind by more than its room.
#[derive(Debug)]
pub(super) struct Canceler {
    room: u64,
    /// The number of the first entry that was not delivered; written by the reader.
    undelivered: AtomicU64,
    /// The revision that found no room; zero while all is well. Everything before it is delivered.
    overflowed_at: AtomicU64,
    /// Whether the registry still counts the watcher.
    counted: AtomicBool,
}

impl Canceler {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: room as u64,
            undelivered: AtomicU64::new(0),
            overflowed_at: AtomicU64::new(0),
            counted: AtomicBool::new(true),
        }
    }

    pub(super) fn delivered_one(&self) {
        self.undelivered.fetch_add(1, Ordering::Release);
    }

    pub(super) fn overflowed_at(&self) -> Option<Revision> {
        match self.overflowed_at.load(Ordering::Acquire) {
            0 => None,
            revision => Some(Revision(revision)),
        }
    }

    /// Whether this call is the one that takes the watcher out of the count.
    pub(super) fn uncount(&self) -> bool {
        self.counted.swap(false, Ordering::AcqRel)
    }
}

/// A canceler that is held to its room.
#[derive(Debug)]
struct Armed {
    canceler: Arc<Canceler>,
    /// Entries up to here are not for its reader, whenever they are published.
    after: Revision,
}

/// A place among the parked watchers of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    generation: u64,
    key: usize,
}

/// What a synced reader finds.
pub(super) enum Read {
    /// Entries were added to the reader's buffer.
    Entries,
    /// It has everything; its waker is at this place.
    Parked(Place),
    /// It has everything, and there will be no more.
    Finished,
    /// It fell behind what the ring holds.
    Behind,
}

impl Topic {
    /// A topic that nobody publishes to yet; [`begin`](Self::begin) it.
    pub(super) fn new(selection: Selection, room: usize) -> Self {
        let state = State {
            ring: VecDeque::new(),
            ring_bytes: 0,
            passed: 0,
            complete_after: Revision::default(),
            watchers: 0,
            generation: 0,
            parked: Slab::new(),
            cancelers: Slab::new(),
            armed_through: Revision::default(),
            next_check: u64::MAX,
            finished: false,
        };
        Self {
            selection,
            slots: OnceLock::new(),
            room,
            state: Mutex::new(state),
        }
    }

    /// Makes the topic known, by `list`, to whoever publishes. `list` returns the revision after which
    /// everything is published here, and whether that is already over. Until then publishing waits,
    /// so that no entry falls between the two.
    pub(super) fn begin(&self, list: impl FnOnce() -> (Revision, bool)) {
        let mut state = self.lock();
        (state.complete_after, state.finished) = list();
    }

    pub(super) fn set_slots(&self, slots: Box<[usize]>) {
        self.slots.get_or_init(|| slots);
    }

    pub(super) fn slots(&self) -> &[usize] {
        self.slots.get().map_or(&[], |slots| slots)
    }

    pub(super) fn join(&self) {
        self.lock().watchers += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().watchers == 0
    }

    /// Returns whether nobody is left.
    pub(super) fn leave(&self, place: Option<Place>, canceler: Option<usize>) -> bool {
        let mut state = self.lock();
        state.unpark(place);
        if let Some(key) = canceler {
            state.cancelers.try_remove(key);
        }
        state.watchers -= 1;
        state.watchers == 0
    }

    /// Adds an entry, and moves the wakers of those who wait for one to `woken`. Calls `overflowed`
    /// for each watcher that ends because of it.
    pub(super) fn publish(
        &self,
        entry: Entry,
        bytes: usize,
        woken: &mut Vec<Waker>,
        overflowed: impl FnMut(&Canceler),
    ) {
        let mut state = self.lock();
        let revision = entry.record.revision;
        if state.parked.len() == state.watchers {
            // All wait, so all have read everything: nobody needs what is in the ring, and an idle
            // topic holds on to one entry at most.
            state.drop_all();
        }
        state.ring.push_back(Sized { entry, bytes });
        state.ring_bytes += bytes;
        while state.ring.len() > self.room || (state.ring_bytes > MAX_RING_BYTES && state.ring.len() > 1) {
            state.drop_front(1);
        }
        state.pass_over(revision);
        state.check_cancelers(revision, overflowed);
        state.wake_all(woken);
    }

    /// Notes that entries up to `complete_after` were lost on the way here: everybody goes on from
    /// the history, and those who were to be held to their room end there, since nobody knows any
    /// more how much of it they have used.
    pub(super) fn gap(
        &self,
        complete_after: Revision,
        woken: &mut Vec<Waker>,
        overflowed: impl FnMut(&Canceler),
    ) {
        let mut state = self.lock();
        state.drop_all();
        state.complete_after = complete_after;
        state.end_cancelers(complete_after.next(), |_| None, overflowed);
        state.wake_all(woken);
    }

    /// Notes that nothing more will come.
    pub(super) fn finish(&self, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        state.finished = true;
        state.wake_all(woken);
    }

    /// Whether a reader that has everything up to `after` can read on from the ring.
    pub(super) fn covers(&self, after: Revision) -> bool {
        after >= self.lock().complete_after
    }

    /// Moves up to `max` entries after `after` into `buffer`; if there are none, parks the reader.
    /// `place` is where it was parked before.
    pub(super) fn read(
        &self,
        after: Revision,
        max: usize,
        buffer: &mut VecDeque<Entry>,
        waker: &Waker,
        place: Option<Place>,
    ) -> Read {
        let mut state = self.lock();
        if after < state.complete_after {
            state.unpark(place);
            return Read::Behind;
        }
        let from = state
            .ring
            .partition_point(|sized| sized.entry.record.revision <= after);
        if from < state.ring.len() {
            state.unpark(place);
            buffer.extend(
                state
                    .ring
                    .range(from..)
                    .take(max)
                    .map(|sized| sized.entry.clone()),
            );
            return Read::Entries;
        }
        if state.finished {
            return Read::Finished;
        }
        Read::Parked(state.park(waker, place))
    }

    /// Begins to hold a watcher that has everything up to `after` to its room. Returns its key for
    /// [`leave`](Self::leave); none if the ring no longer has what follows, so that nothing can be
    /// counted from there.
    pub(super) fn arm(&self, canceler: &Arc<Canceler>, after: Revision) -> Option<usize> {
        let mut state = self.lock();
        if after < state.complete_after {
            return None;
        }
        let read = state
            .ring
            .partition_point(|sized| sized.entry.record.revision <= after) as u64;
        let undelivered = state.passed + read;
        canceler.undelivered.store(undelivered, Ordering::Release);
        state.next_check = state.next_check.min(undelivered + canceler.room);
        state.armed_through = state.armed_through.max(after);
        let canceler = Arc::clone(canceler);
        Some(state.cancelers.insert(Armed { canceler, after }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_all(&mut self) {
        self.drop_front(self.ring.len());
    }

    fn drop_front(&mut self, count: usize) {
        for sized in self.ring.drain(..count) {
            self.ring_bytes -= sized.bytes;
            self.passed += 1;
            self.complete_after = self.complete_after.max(sized.entry.record.revision);
        }
    }

    /// Counts the newest entry, of `revision`, as delivered for those who began after it: they start in
    /// the future, or registered before the dispatcher had come to their boundary.
    fn pass_over(&mut self, revision: Revision) {
        if revision > self.armed_through {
            return;
        }
        self.armed_through = Revision::default();
        for (_, armed) in &self.cancelers {
            self.armed_through = self.armed_through.max(armed.after);
            if revision <= armed.after {
                armed.canceler.delivered_one();
            }
        }
    }

    /// Ends the cancelers for whom the newest entry, of `revision`, is one too many.
    fn check_cancelers(&mut self, revision: Revision, overflowed: impl FnMut(&Canceler)) {
        let newest = self.passed + self.ring.len() as u64 - 1;
        if newest >= self.next_check {
            let full_at = |canceler: &Canceler| {
                let full_at = canceler.undelivered.load(Ordering::Acquire) + canceler.room;
                (newest < full_at).then_some(full_at)
            };
            self.end_cancelers(revision, full_at, overflowed);
        }
    }

    /// Ends the cancelers for whom `full_at` knows no later entry at which their room is full.
    fn end_cancelers(
        &mut self,
        revision: Revision,
        full_at: impl Fn(&Canceler) -> Option<u64>,
        mut overflowed: impl FnMut(&Canceler),
    ) {
        let mut next_check = u64::MAX;
        self.cancelers.retain(|_, Armed { canceler, .. }| {
            if let Some(full_at) = full_at(canceler) {
                next_check = next_check.min(full_at);
                return true;
            }
            canceler.overflowed_at.store(revision.0, Ordering::Release);
            overflowed(canceler);
            false
        });
        self.next_check = next_check;
    }

    fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        if !self.parked.is_empty() {
            self.generation += 1;
            woken.extend(self.parked.drain());
        }
    }

    fn park(&mut self, waker: &Waker, place: Option<Place>) -> Place {
        if let Some(place) = place.filter(|place| place.generation == self.generation)
            && let Some(parked) = self.parked.get_mut(place.key)
        {
            parked.clone_from(waker);
            return place;
        }
        Place {
            generation: self.generation,
            key: self.parked.insert(waker.clone()),
        }
    }

    fn unpark(&mut self, place: Option<Place>) {
        if let Some(place) = place.filter(|place| place.generation == self.generation) {
            self.parked.try_remove(place.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::key;

    #[test]
    fn room_is_not_counted_from_where_the_ring_has_moved_on() {
        let topic = Topic::new(Selection::new(vec![key("/a").unwrap()]), 4);
        topic.begin(|| (Revision(5), false));
        let canceler = Arc::new(Canceler::new(1));
        assert_eq!(topic.arm(&canceler, Revision(4)), None);
        assert!(topic.arm(&canceler, Revision(5)).is_some());
    }
}
