//! Watchers that are to end when they fall behind by more than their room.

use std::sync::Arc;

use slab::Slab;

use crate::revision::Revision;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

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

    /// The number of the entry for which there is no room, as far as its reader has read by now.
    fn full_at(&self) -> u64 {
        self.undelivered.load(Ordering::Acquire) + self.room
    }

    /// Whether this call is the one that takes the watcher out of the count.
    pub(super) fn uncount(&self) -> bool {
        self.counted.swap(false, Ordering::AcqRel)
    }
}

/// The cancelers of a topic.
///
/// Publishing looks at them one by one only when the newest entry may be one too many for one of them.
#[derive(Debug)]
pub(super) struct Cancelers {
    armed: Slab<Armed>,
    /// No armed watcher began after a later revision.
    armed_through: Revision,
    /// No canceler's room is full before this entry.
    next_check: u64,
}

/// A canceler that is held to its room.
#[derive(Debug)]
struct Armed {
    canceler: Arc<Canceler>,
    /// Entries up to here are not for its reader, whenever they are published.
    after: Revision,
}

impl Cancelers {
    pub(super) fn new() -> Self {
        Self {
            armed: Slab::new(),
            armed_through: Revision::default(),
            next_check: u64::MAX,
        }
    }

    /// Holds a watcher that has everything up to `after` to its room, counted from the entry with the
    /// number `undelivered`.
    pub(super) fn arm(&mut self, canceler: &Arc<Canceler>, after: Revision, undelivered: u64) -> usize {
        canceler.undelivered.store(undelivered, Ordering::Release);
        self.next_check = self.next_check.min(undelivered + canceler.room);
        self.armed_through = self.armed_through.max(after);
        let canceler = Arc::clone(canceler);
        self.armed.insert(Armed { canceler, after })
    }

    pub(super) fn disarm(&mut self, key: usize) {
        self.armed.try_remove(key);
    }

    /// Notes a new entry. Calls `overflowed` for each canceler for whom it is one too many.
    pub(super) fn published(&mut self, number: u64, revision: Revision, overflowed: impl FnMut(&Canceler)) {
        self.pass_over(revision);
        if number >= self.next_check {
            self.end(revision, |_, full_at| number < full_at, overflowed);
        }
    }

    /// Notes that entries up to `through` were lost on the way here. Ends those to whom they may have
    /// mattered, since nobody knows any more how much of their room they have used.
    pub(super) fn lost(&mut self, through: Revision, overflowed: impl FnMut(&Canceler)) {
        self.end(through.next(), |armed, _| armed.after >= through, overflowed);
    }

    /// Counts an entry as delivered for those who began after it: they start in the future, or
    /// registered before the dispatcher had come to their boundary.
    fn pass_over(&mut self, revision: Revision) {
        if revision > self.armed_through {
            return;
        }
        self.armed_through = Revision::default();
        for (_, armed) in &self.armed {
            self.armed_through = self.armed_through.max(armed.after);
            if revision <= armed.after {
                armed.canceler.delivered_one();
            }
        }
    }

    /// Ends, at a revision, all but those who are to stay, as told by them and the number of the entry for
    /// which they have no room.
    fn end(
        &mut self,
        at: Revision,
        stays: impl Fn(&Armed, u64) -> bool,
        mut overflowed: impl FnMut(&Canceler),
    ) {
        let mut next_check = u64::MAX;
        self.armed.retain(|_, armed| {
            let canceler = &armed.canceler;
            let full_at = canceler.full_at();
            if stays(armed, full_at) {
                next_check = next_check.min(full_at);
                return true;
            }
            canceler.overflowed_at.store(at.0, Ordering::Release);
            overflowed(canceler);
            false
        });
        self.next_check = next_check;
    }
}

#[cfg(all(test, loom))]
mod tests {
    // By another name: that the library itself starts none is tested by name.
    use loom::thread as threads;

    use super::*;

    #[test]
    fn loom_a_watcher_is_taken_out_of_the_count_once() {
        loom::model(|| {
            let canceler = Arc::new(Canceler::new(1));
            let publisher = threads::spawn({
                let canceler = canceler.clone();
                move || canceler.uncount()
            });
            let leaving = canceler.uncount();
            assert!(leaving != publisher.join().unwrap(), "by one of the two");
        });
    }
}
