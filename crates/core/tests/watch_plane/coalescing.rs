//! Events that are held back to be delivered together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

/// More watchers than it takes for the longest pause.
const MANY: usize = 600;

const PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Watchers who send on what they get, and how often they were woken.
struct Crowd {
    watches: Vec<Watch>,
    wakes: Arc<Counter>,
}

impl Crowd {
    fn of(plane: &Plane, count: usize) -> Self {
        let coalescing = || WatchRequest {
            coalesce: true,
            ..one(key("/a").unwrap())
        };
        let watches = (0..count).map(|_| plane.registry.watch(coalescing()).unwrap());
        Self {
            watches: watches.collect(),
            wakes: Arc::default(),
        }
    }

    /// Everything that is there for each, in revisions.
    fn read(&mut self) -> Vec<Vec<u64>> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut cx = Context::from_waker(&waker);
        let read = |watch: &mut Watch| {
            let mut revisions = Vec::new();
            while let Poll::Ready(Ok(batch)) = watch.poll_next_batch(&mut cx) {
                revisions.push(batch.revision().0);
            }
            revisions
        };
        self.watches.iter_mut().map(read).collect()
    }

    fn woken(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }
}

async fn woken_after(plane: &Plane, crowd: &Crowd) -> usize {
    plane.settled().await;
    // The dispatcher goes on once more after a sleep.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    crowd.woken()
}

#[tokio::test]
async fn the_first_event_after_a_pause_goes_at_once_and_those_after_it_together() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, MANY);
    crowd.read();
    for _ in 0..2 {
        let first = plane.put("/a", "first").0;
        assert_eq!(woken_after(&plane, &crowd).await, MANY);
        assert_eq!(crowd.read(), vec![vec![first]; MANY]);

        plane.put("/a", "second");
        assert_eq!(woken_after(&plane, &crowd).await, 0);
        plane
            .clock
            .advance(PAUSE.checked_sub(Duration::from_nanos(1)).unwrap());
        plane.put("/a", "third");
        assert_eq!(woken_after(&plane, &crowd).await, 0);
        plane.clock.advance(Duration::from_nanos(1));
        assert_eq!(woken_after(&plane, &crowd).await, MANY);
        assert_eq!(crowd.read(), vec![vec![first + 1, first + 2]; MANY]);

        plane.clock.advance(PAUSE);
    }
}

#[tokio::test]
async fn what_is_held_back_is_there_for_who_looks() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, MANY);
    crowd.read();
    plane.put("/a", "first");
    plane.settled().await;
    crowd.read();
    plane.put("/a", "second");
    assert_eq!(woken_after(&plane, &crowd).await, MANY, "those are of the first");
    assert_eq!(crowd.read(), vec![vec![3]; MANY]);
    plane.clock.advance(PAUSE);
    woken_after(&plane, &crowd).await;
    assert_eq!(crowd.read(), vec![vec![]; MANY]);
}

#[tokio::test]
async fn few_watchers_wait_for_nothing() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, 10);
    crowd.read();
    for n in 0..5 {
        plane.put("/a", &n.to_string());
        assert_eq!(woken_after(&plane, &crowd).await, 10);
        crowd.read();
    }
}

#[tokio::test]
async fn who_does_not_coalesce_never_waits() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, MANY);
    let mut other = plane.exact("/a");
    crowd.read();
    for n in 2..5 {
        assert!(now(other.next()).await.is_none());
        plane.put("/a", "value");
        assert_eq!(drain(&mut other).await, [format!("{n}: PUT /a = value")]);
        crowd.read();
    }
}

#[tokio::test]
async fn a_close_waits_for_no_pause() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, MANY);
    crowd.read();
    plane.put("/a", "first");
    plane.settled().await;
    crowd.read();
    crowd.woken();
    plane.put("/a", "second");
    plane.registry.close(EndReason::Closed);
    assert_eq!(woken_after(&plane, &crowd).await, MANY);
    assert_eq!(crowd.read(), vec![vec![3]; MANY]);
}

#[tokio::test]
async fn when_a_dispatcher_is_dropped_nobody_waits_for_its_pause() {
    let mut plane = Plane::new();
    let mut crowd = Crowd::of(&plane, MANY);
    crowd.read();
    plane.put("/a", "first");
    assert_eq!(woken_after(&plane, &crowd).await, MANY);
    crowd.read();
    plane.put("/a", "second");
    assert_eq!(woken_after(&plane, &crowd).await, 0);

    let dispatcher = plane.dispatcher.take().unwrap();
    dispatcher.abort();
    assert!(dispatcher.await.unwrap_err().is_cancelled());
    assert_eq!(crowd.woken(), MANY);
    assert_eq!(crowd.read(), vec![vec![3]; MANY]);

    plane.dispatch();
    plane.put("/a", "third");
    plane.clock.advance(PAUSE);
    assert_eq!(woken_after(&plane, &crowd).await, MANY);
    assert_eq!(crowd.read(), vec![vec![4]; MANY]);
}
