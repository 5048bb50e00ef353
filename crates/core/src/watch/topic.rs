//! The events of one selection of keys, once for all who watch it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::WatchId;
use super::canceler::{Canceler, Cancelers};
use super::ring::Ring;
use super::run::{Entry, Hold};
use super::selection::Selection;
use super::waiting::{Place, Waiting};
use crate::clock::Clock;
use crate::revision::Revision;

/// How long events are held back from patient watchers for each of them: about what it costs to wake
/// one and to send what it reads. So waking them takes one core at most, and few of them wait for nothing.
const PAUSE_PER_WATCHER: Duration = Duration::from_micros(10);

/// Shorter pauses are none: no timer is that exact.
const MIN_PAUSE: Duration = Duration::from_micros(500);

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
    /// Where the dispatcher collects what it is about to publish here; nobody else uses it.
    pub(super) collected: AtomicUsize,
    /// The generation of `State::waiting`. Changes with the lock held; who finds the one it was parked
    /// in is still parked and has everything, and need not take the lock to know it.
    generation: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    watchers: usize,
    cancelers: Cancelers,
    /// Those who are woken at once.
    waiting: Waiting,
    /// Those who are woken for several events together.
    patient: Waiting,
    /// When those were last woken.
    woke_patient: Option<Instant>,
    /// Whether the dispatcher is to come back to wake them.
    scheduled: bool,
    /// Nothing will be published any more.
    finished: bool,
}

/// What a synced reader finds.
pub(super) enum Read {
    /// What follows, from the entry of this index on; and the reader's place if that is all there is.
    Run(Arc<Hold>, u32, Option<Place>),
    /// It has everything; its waker is at this place.
    Parked(Place),
    /// It has everything, and there will be no more.
    Finished,
    /// It fell behind what the ring holds.
    Behind,
}

/// A reader, as a topic knows it.
pub(super) struct Cursor {
    pub(super) reader: WatchId,
    /// What it has read.
    pub(super) after: Revision,
    pub(super) patient: bool,
    /// Where it waited.
    pub(super) place: Option<Place>,
    pub(super) waker: Waker,
}

impl Topic {
    /// A topic that nobody publishes to yet; [`begin`](Self::begin) it.
    pub(super) fn new(selection: Selection, room: usize) -> Self {
        let state = State {
            ring: Ring::new(room),
            watchers: 0,
            cancelers: Cancelers::new(),
            waiting: Waiting::default(),
            patient: Waiting::default(),
            woke_patient: None,
            scheduled: false,
            finished: false,
        };
        Self {
            selection,
            slots: OnceLock::new(),
            collected: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Makes the topic known, by `list`, to whoever publishes. `list` returns the revision after which
    /// everything is published here, and whether that is already over. Until then publishing waits,
    /// so that no entry falls between the two.
    pub(super) fn begin(&self, list: impl FnOnce() -> (Revision, bool)) {
        let mut state = self.lock();
        let (complete_after, finished) = list();
        state.ring.restart(complete_after);
        state.finished = finished;
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
    pub(super) fn leave(&self, patient: bool, place: Option<Place>, armed: Option<usize>) -> bool {
        // Dropped after the lock is.
        let _waker;
        let mut state = self.lock();
        _waker = state.who_wait(patient).unpark(place);
        if let Some(key) = armed {
            state.cancelers.disarm(key);
        }
        state.watchers -= 1;
        state.watchers == 0
    }

    /// Adds entries, each with the bytes of its record, and moves the wakers of those who wait for
    /// them to `woken`. Calls `overflowed` for each watcher that ends because of them. Returns when to
    /// [come back](Self::wake_patient) for those who are patient, if they are not woken now.
    pub(super) fn publish(
        &self,
        entries: impl Iterator<Item = (Entry, usize)>,
        pace: &Pace<'_>,
        woken: &mut Vec<Waker>,
        mut overflowed: impl FnMut(&Canceler),
    ) -> Option<Instant> {
        let mut state = self.lock();
        let state = &mut *state;
        state.clear_if_read();
        for (entry, bytes) in entries {
            let number = state.ring.next_number();
            state.cancelers.published(number, entry.revision, &mut overflowed);
            state.ring.push(entry, bytes);
        }
        self.wake_waiting(state, woken);
        state.pace(pace, woken)
    }

    /// Wakes those who were to be woken later.
    pub(super) fn wake_patient(&self, now: Instant, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        state.scheduled = false;
        state.woke_patient = Some(now);
        state.patient.wake_all(woken);
    }

    /// Notes that entries up to `complete_after` were lost on the way here: everybody goes on from
    /// the history, and those who were to be held to their room end there if that may have been for them.
    pub(super) fn gap(
        &self,
        complete_after: Revision,
        woken: &mut Vec<Waker>,
        overflowed: impl FnMut(&Canceler),
    ) {
        let mut state = self.lock();
        state.ring.restart(complete_after);
        state.cancelers.lost(complete_after, overflowed);
        self.wake_all(&mut state, woken);
    }

    /// Notes that nothing more will come.
    pub(super) fn finish(&self, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        state.finished = true;
        self.wake_all(&mut state, woken);
    }

    /// The waker of a reader, if it waits.
    pub(super) fn waker_of(&self, reader: WatchId) -> Option<Waker> {
        let state = self.lock();
        state
            .waiting
            .waker_of(reader)
            .or_else(|| state.patient.waker_of(reader))
    }

    /// Whether there is an entry after a revision.
    pub(super) fn has_after(&self, after: Revision) -> bool {
        self.lock().ring.last().is_some_and(|last| last > after)
    }

    /// Whether there is an entry after a revision, or there was one that is no longer here.
    pub(super) fn had_after(&self, after: Revision) -> bool {
        let state = self.lock();
        !state.ring.covers(after) || state.ring.last().is_some_and(|last| last > after)
    }

    /// Whether a reader that has everything up to `after` can read on from the ring.
    pub(super) fn covers(&self, after: Revision) -> bool {
        self.lock().ring.covers(after)
    }

    /// Whether nothing is new for the reader that was parked at this place, so that it still is. Those
    /// who are patient have to look: entries may be there that they were not woken for.
    pub(super) fn is_quiet(&self, place: &Place) -> bool {
        place.is_in(self.generation.load(Ordering::Acquire))
    }

    /// The run that comes next for a reader. If there is none, or nothing after it yet, parks the reader:
    /// it is woken by what comes afterwards.
    pub(super) fn read(&self, cursor: Cursor) -> Read {
        // Dropped after the lock is.
        let _waker;
        let mut state = self.lock();
        if !state.ring.covers(cursor.after) {
            _waker = state.who_wait(cursor.patient).unpark(cursor.place);
            return Read::Behind;
        }
        if let Some((hold, first)) = state.ring.read(cursor.after) {
            if state.finished || state.ring.last() != Some(hold.run().last()) {
                _waker = state.who_wait(cursor.patient).unpark(cursor.place);
                return Read::Run(hold, first, None);
            }
            let (place, before) = state.park(cursor);
            _waker = before;
            return Read::Run(hold, first, Some(place));
        }
        if state.finished {
            return Read::Finished;
        }
        let (place, before) = state.park(cursor);
        _waker = before;
        Read::Parked(place)
    }

    /// Has a reader wait that reads elsewhere: it is woken by whatever happens here. Before it reads on it
    /// is to [leave](Self::unpark) its place, for in it one is taken to have read everything.
    pub(super) fn park(&self, cursor: Cursor) -> Place {
        // Dropped after the lock is.
        let _waker;
        let mut state = self.lock();
        let (place, before) = state.who_wait(cursor.patient).park(cursor);
        _waker = before;
        place
    }

    /// Frees the place of a reader.
    pub(super) fn unpark(&self, patient: bool, place: Place) {
        // Dropped after the lock is.
        let _waker;
        let mut state = self.lock();
        _waker = state.who_wait(patient).unpark(Some(place));
    }

    /// Begins to hold a watcher that has everything up to `after` to its room. Returns its key for
    /// [`leave`](Self::leave); none if the ring no longer has what follows, so that nothing can be
    /// counted from there.
    pub(super) fn arm(&self, canceler: &Arc<Canceler>, after: Revision) -> Option<usize> {
        let mut state = self.lock();
        if !state.ring.covers(after) {
            return None;
        }
        let undelivered = state.ring.number_after(after);
        Some(state.cancelers.arm(canceler, after, undelivered))
    }

    fn wake_all(&self, state: &mut State, woken: &mut Vec<Waker>) {
        self.wake_waiting(state, woken);
        state.patient.wake_all(woken);
    }

    fn wake_waiting(&self, state: &mut State, woken: &mut Vec<Waker>) {
        let generation = state.waiting.wake_all(woken);
        self.generation.store(generation, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long patient watchers are kept waiting at most, and by which clock.
pub(super) struct Pace<'a> {
    pub(super) max_delay: Duration,
    pub(super) clock: &'a dyn Clock,
}

impl State {
    fn park(&mut self, cursor: Cursor) -> (Place, Option<Waker>) {
        let parked = self.who_wait(cursor.patient).park(cursor);
        self.clear_if_read();
        parked
    }

    /// If all wait, all have taken everything: nobody needs what is in the ring, and an idle topic holds
    /// on to nothing.
    fn clear_if_read(&mut self) {
        if self.waiting.len() + self.patient.len() == self.watchers && !self.scheduled {
            self.ring.clear();
        }
    }

    fn who_wait(&mut self, patient: bool) -> &mut Waiting {
        if patient {
            &mut self.patient
        } else {
            &mut self.waiting
        }
    }

    /// Wakes those who are patient if their last wake-up is long enough ago. Else returns when it is,
    /// once.
    fn pace(&mut self, pace: &Pace<'_>, woken: &mut Vec<Waker>) -> Option<Instant> {
        let patient = u32::try_from(self.patient.len()).unwrap_or(u32::MAX);
        if patient == 0 || self.scheduled {
            return None;
        }
        let pause = PAUSE_PER_WATCHER.saturating_mul(patient).min(pace.max_delay);
        if pause >= MIN_PAUSE {
            let now = pace.clock.now();
            if let Some(due) = self
                .woke_patient
                .map(|woke| woke + pause)
                .filter(|due| *due > now)
            {
                self.scheduled = true;
                return Some(due);
            }
            self.woke_patient = Some(now);
        }
        self.patient.wake_all(woken);
        None
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
