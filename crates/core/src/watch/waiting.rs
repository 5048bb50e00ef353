//! The readers of a topic who have read everything.

use std::task::Waker;

use slab::Slab;

use super::WatchId;
use super::topic::Cursor;

/// Readers who wait to be woken. Coming and going scan nobody.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Counts the wake-ups, so that a reader knows whether its place is still its own.
    generation: u64,
    parked: Slab<Parked>,
}

#[derive(Debug)]
struct Parked {
    reader: WatchId,
    waker: Waker,
}

/// A place among those who wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    generation: u64,
    key: usize,
    /// Tells the waker that is there from others, without a clone of it.
    waker: (usize, usize),
}

impl Place {
    /// Whether nobody was woken since the place was taken, the generation being this now.
    pub(super) fn is_in(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Whether this is the waker that waits there.
    pub(super) fn is_of(&self, waker: &Waker) -> bool {
        self.waker == identity(waker)
    }
}

fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    /// Has a reader wait, in the place where it waited before if that is still its own. The waker that
    /// was there comes back, to be dropped when nothing is locked: it may be the last to hold a task, and
    /// with it another watch.
    pub(super) fn park(&mut self, cursor: Cursor) -> (Place, Option<Waker>) {
        let generation = self.generation;
        let waker = identity(&cursor.waker);
        if let Some(place) = cursor.place.filter(|place| place.generation == generation)
            && let Some(parked) = self.parked.get_mut(place.key)
        {
            let before = std::mem::replace(&mut parked.waker, cursor.waker);
            return (Place { waker, ..place }, Some(before));
        }
        let key = self.parked.insert(Parked {
            reader: cursor.reader,
            waker: cursor.waker,
        });
        let place = Place {
            generation,
            key,
            waker,
        };
        (place, None)
    }

    /// Frees a place. Its waker comes back, as from [`park`](Self::park).
    pub(super) fn unpark(&mut self, place: Option<Place>) -> Option<Waker> {
        let place = place.filter(|place| place.generation == self.generation)?;
        self.parked.try_remove(place.key).map(|parked| parked.waker)
    }

    /// Moves the wakers of all to `woken`, and begins another generation, which it returns.
    pub(super) fn wake_all(&mut self, woken: &mut Vec<Waker>) -> u64 {
        self.generation += 1;
        woken.extend(self.parked.drain().map(|parked| parked.waker));
        self.generation
    }

    /// The waker of one reader, who keeps its place. Looks through all: it is for operators.
    pub(super) fn waker_of(&self, reader: WatchId) -> Option<Waker> {
        let mut parked = self.parked.iter().map(|(_, parked)| parked);
        parked
            .find(|parked| parked.reader == reader)
            .map(|parked| parked.waker.clone())
    }
}
