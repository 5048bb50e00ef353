//! What the dispatcher and those who join tell each other without a lock.

use crate::revision::Revision;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Prefixes that are deeper than this are looked up together, as if they were one depth.
const DEPTHS: usize = 32;

/// How far the dispatcher is, and at which depths it has to look for prefixes.
///
/// A topic that joins is listed first and asks second what was [started](Self::start) without it; the
/// dispatcher says first what it starts and looks second. So for each revision, one finds the other.
#[derive(Debug)]
pub(super) struct Handover {
    /// How many prefixes are watched at each depth; what is deeper than the last shares it.
    depths: [AtomicUsize; DEPTHS],
    /// The revision whose watchers were last looked up.
    started: AtomicU64,
    /// Every event up to here is in the rings.
    dispatched: AtomicU64,
    finished: AtomicBool,
}

impl Handover {
    /// Everything up to `current` is handed over, to nobody.
    pub(super) fn new(current: Revision) -> Self {
        Self {
            depths: std::array::from_fn(|_| AtomicUsize::new(0)),
            started: AtomicU64::new(current.0),
            dispatched: AtomicU64::new(current.0),
            finished: AtomicBool::new(false),
        }
    }

    /// Has the dispatcher look for prefixes with so many slashes.
    pub(super) fn watch_depth(&self, slashes: usize) {
        self.depth(slashes).fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back [`watch_depth`](Self::watch_depth).
    pub(super) fn unwatch_depth(&self, slashes: usize) {
        self.depth(slashes).fetch_sub(1, Ordering::Relaxed);
    }

    /// What a topic that has just been listed is not told: the watchers of what revisions may have been
    /// looked up without it, and whether that was the end.
    pub(super) fn missed(&self) -> (Revision, bool) {
        // Pairs with the one in `start`. Whichever comes first, the other side sees what was stored before it.
        fence(Ordering::SeqCst);
        let started = Revision(self.started.load(Ordering::Relaxed));
        (started, self.finished.load(Ordering::Acquire))
    }

    /// Notes that the watchers of what follows, up to this revision, are about to be looked up.
    pub(super) fn start(&self, through: Revision) {
        self.started.store(through.0, Ordering::Relaxed);
        // Pairs with the one in `missed`.
        fence(Ordering::SeqCst);
    }

    /// Whether prefixes with so many slashes are watched.
    pub(super) fn is_watched(&self, slashes: usize) -> bool {
        self.depth(slashes).load(Ordering::Relaxed) > 0
    }

    /// Notes that every event up to this revision is where its watchers find it.
    pub(super) fn dispatched_through(&self, revision: Revision) {
        self.dispatched.store(revision.0, Ordering::Release);
    }

    /// Up to which revision every event is where its watchers find it.
    pub(super) fn dispatched(&self) -> Revision {
        Revision(self.dispatched.load(Ordering::Acquire))
    }

    /// Notes that nothing more comes; those who are listed are told after this.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether nothing more comes.
    pub(super) fn has_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn depth(&self, slashes: usize) -> &AtomicUsize {
        &self.depths[slashes.min(DEPTHS - 1)]
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::{Arc, Mutex};
    // By another name: that the library itself starts none is tested by name.
    use loom::thread as threads;

    use super::*;

    const SLASHES: usize = 1;

    /// The listing is a map under locks; here it says whether the topic is in it.
    fn listing() -> Arc<Mutex<bool>> {
        Arc::new(Mutex::new(false))
    }

    #[test]
    fn loom_a_topic_is_found_or_knows_what_was_started_without_it() {
        loom::model(|| {
            let handover = Arc::new(Handover::new(Revision(1)));
            let listing = listing();
            let dispatcher = threads::spawn({
                let (handover, listing) = (handover.clone(), listing.clone());
                move || {
                    handover.start(Revision(2));
                    handover.is_watched(SLASHES) && *listing.lock().unwrap()
                }
            });
            handover.watch_depth(SLASHES);
            *listing.lock().unwrap() = true;
            let (started, _) = handover.missed();
            let found = dispatcher.join().unwrap();
            assert!(found || started >= Revision(2));
        });
    }

    #[test]
    fn loom_a_topic_is_told_of_the_end_or_knows_it() {
        loom::model(|| {
            let handover = Arc::new(Handover::new(Revision(1)));
            let topics = listing();
            let dispatcher = threads::spawn({
                let (handover, topics) = (handover.clone(), topics.clone());
                move || {
                    handover.finish();
                    *topics.lock().unwrap()
                }
            });
            let knows = {
                // As in the registry: the place in the map is held while the topic begins.
                let mut topics = topics.lock().unwrap();
                let (_, finished) = handover.missed();
                *topics = true;
                finished
            };
            let told = dispatcher.join().unwrap();
            assert!(told || knows);
        });
    }

    #[test]
    fn loom_what_is_dispatched_is_in_the_ring() {
        loom::model(|| {
            let handover = Arc::new(Handover::new(Revision(1)));
            let ring = Arc::new(Mutex::new(Vec::new()));
            let dispatcher = threads::spawn({
                let (handover, ring) = (handover.clone(), ring.clone());
                move || {
                    for revision in [2, 3] {
                        ring.lock().unwrap().push(revision);
                        handover.dispatched_through(Revision(revision));
                    }
                }
            });
            // As a reader does that reports progress.
            let dispatched = handover.dispatched();
            let found = ring.lock().unwrap().clone();
            assert!((2..=dispatched.0).all(|revision| found.contains(&revision)));
            dispatcher.join().unwrap();
        });
    }
}
