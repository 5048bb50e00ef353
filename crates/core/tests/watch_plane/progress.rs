//! Telling an idle watch how far it is.

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn reporting(plane: &Plane, start: Start) -> Watch {
    let request = WatchRequest {
        start,
        progress_interval: Some(INTERVAL),
        ..one(key("/a").unwrap())
    };
    plane.registry.watch(request).unwrap()
}

#[tokio::test]
async fn an_idle_watch_is_told_how_far_it_is() {
    let mut plane = Plane::new();
    let mut watch = reporting(&plane, Start::Now);
    plane.put("/b", "x");
    plane.settled().await;
    assert!(now(watch.next()).await.is_none());
    plane.clock.advance(INTERVAL);
    let batch = next_batch(&mut watch).await;
    assert_eq!(
        (batch.kind(), batch.revision(), batch.len()),
        (BatchKind::Progress, Revision(2), 0)
    );
    assert_eq!(watch.position().unwrap().revision, Revision(2));
    assert!(now(watch.next()).await.is_none(), "once in an interval");
}

#[tokio::test]
async fn an_interval_beyond_all_time_is_never_over() {
    let plane = Plane::new();
    let request = WatchRequest {
        progress_interval: Some(Duration::MAX),
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert!(now(watch.next()).await.is_none());
    plane.clock.advance(Duration::from_secs(3600));
    assert!(now(watch.next()).await.is_none());
}

#[tokio::test]
async fn nobody_is_told_who_did_not_ask() {
    let plane = Plane::new();
    let mut watcher = plane.exact("/a");
    assert!(now(watcher.next()).await.is_none());
    plane.clock.advance(INTERVAL * 100);
    assert!(now(watcher.next()).await.is_none());
}

/// d-engine reports the revision that was current at boot, or one ahead of queued events.
#[tokio::test]
async fn a_report_is_never_ahead_of_an_event() {
    let mut plane = Plane::new();
    let mut watch = reporting(&plane, Start::Now);
    assert!(now(watch.next()).await.is_none());
    for round in 0..20 {
        plane.put("/a", "x");
        plane.settled().await;
        plane.clock.advance(INTERVAL);
        let batch = next_batch(&mut watch).await;
        assert_eq!(
            (batch.kind(), batch.revision()),
            (BatchKind::Events, Revision(round + 2))
        );
        assert!(
            now(watch.next()).await.is_none(),
            "what has just said something is not idle"
        );
    }
    plane.clock.advance(INTERVAL);
    assert_eq!(next_batch(&mut watch).await.revision(), Revision(21));
}

#[tokio::test]
async fn a_report_is_never_below_the_start() {
    let mut plane = Plane::new();
    let mut watch = reporting(&plane, Start::At(Revision(4)));
    for _ in 0..2 {
        assert!(now(watch.next()).await.is_none());
        plane.clock.advance(INTERVAL);
        assert!(now(watch.next()).await.is_none());
        plane.put("/b", "x");
        plane.settled().await;
    }
    plane.put("/b", "x");
    plane.settled().await;
    plane.clock.advance(INTERVAL);
    let batch = next_batch(&mut watch).await;
    assert_eq!(
        (batch.kind(), batch.revision()),
        (BatchKind::Progress, Revision(4))
    );
}

/// In d-engine a select that prefers events starves the heartbeats.
#[tokio::test]
async fn load_elsewhere_does_not_keep_progress_back() {
    let mut plane = Plane::new();
    let mut watch = reporting(&plane, Start::Now);
    for _ in 0..3 {
        for _ in 0..1000 {
            plane.put("/busy", "x");
        }
        plane.clock.advance(INTERVAL);
        let batch = next_batch(&mut watch).await;
        assert_eq!(batch.kind(), BatchKind::Progress);
        assert!(batch.revision() <= plane.history.current());
    }
}

/// d-engine documents that a step of more than one revision means a loss, which every write of
/// another key then looks like.
#[tokio::test]
async fn a_step_of_several_revisions_is_no_gap() {
    let mut plane = Plane::new();
    let mut watch = reporting(&plane, Start::Now);
    let mut observed = Observed::new(one(key("/a").unwrap()), watch.created());
    for name in ["/a", "/b", "/b", "/a", "/b"] {
        plane.put(name, "x");
    }
    plane.settled().await;
    for _ in 0..2 {
        observed.see(next_batch(&mut watch).await);
    }
    plane.clock.advance(INTERVAL);
    observed.see(next_batch(&mut watch).await);
    assert_eq!(check::stream(&observed), Ok(()));
    let revisions: Vec<_> = observed.batches().iter().map(Batch::revision).collect();
    assert_eq!(
        revisions,
        [2, 5, 6].map(Revision),
        "and progress says that nothing is missing"
    );
}

/// In d-engine heartbeats fill the room of an idle watcher, and cancel it.
#[tokio::test]
async fn reports_use_up_nobodys_room() {
    let mut plane = Plane::new();
    let request = WatchRequest {
        progress_interval: Some(INTERVAL),
        on_overflow: OnOverflow::Cancel,
        room: Some(1),
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert!(now(watch.next()).await.is_none());
    for _ in 0..100 {
        plane.clock.advance(INTERVAL);
        tokio::task::yield_now().await;
    }
    plane.put("/a", "x");
    plane.settled().await;
    assert_eq!(show(&next_batch(&mut watch).await), ["2: PUT /a = x"]);
    assert_eq!(plane.registry.watcher_count(), 1);
}

#[tokio::test]
async fn a_lagging_watcher_hears_of_progress_only_when_it_has_caught_up() {
    let mut plane = Plane::new();
    for _ in 0..200 {
        plane.put("/a", "x");
    }
    plane.settled().await;
    let mut watch = reporting(&plane, Start::At(Revision(2)));
    plane.clock.advance(INTERVAL * 2);
    for revision in 2..=201 {
        let batch = next_batch(&mut watch).await;
        assert_eq!(
            (batch.kind(), batch.revision()),
            (BatchKind::Events, Revision(revision))
        );
    }
    assert!(now(watch.next()).await.is_none());
    plane.clock.advance(INTERVAL);
    assert_eq!(next_batch(&mut watch).await.kind(), BatchKind::Progress);
}

fn silent(plane: &Plane, start: Start) -> Watch {
    let request = WatchRequest {
        start,
        ..one(key("/a").unwrap())
    };
    plane.registry.watch(request).unwrap()
}

#[tokio::test]
async fn who_asks_is_told_at_once_after_all_events_and_only_then() {
    let mut plane = Plane::new();
    let mut watch = silent(&plane, Start::Now);
    plane.put("/a", "x");
    let last = plane.put("/b", "x");
    plane.settled().await;
    watch.request_progress();
    let kinds = [next_batch(&mut watch).await, next_batch(&mut watch).await];
    assert_eq!(
        kinds.map(|batch| (batch.kind(), batch.revision())),
        [(BatchKind::Events, last.prev()), (BatchKind::Progress, last)]
    );
    assert!(
        now(watch.next()).await.is_none(),
        "once for each time it is asked"
    );
}

#[tokio::test]
async fn who_asks_is_not_told_more_than_was_dispatched_nor_less_than_the_boundary() {
    let mut plane = Plane::undispatched(WatchSettings::default());
    plane.put("/b", "x");
    let boundary = plane.put("/b", "y");
    let mut watch = silent(&plane, Start::Now);
    let event = plane.put("/a", "x");
    watch.request_progress();
    assert_eq!(next_batch(&mut watch).await.revision(), boundary);
    plane.dispatch();
    plane.settled().await;
    assert_eq!(next_batch(&mut watch).await.revision(), event);
}

#[tokio::test]
async fn who_asks_before_the_start_is_reached_is_told_then() {
    let mut plane = Plane::new();
    let start = Revision(3);
    let mut watch = silent(&plane, Start::At(start));
    watch.request_progress();
    for _ in 0..2 {
        assert!(now(watch.next()).await.is_none());
        plane.put("/b", "x");
        plane.settled().await;
    }
    let batch = next_batch(&mut watch).await;
    assert_eq!((batch.kind(), batch.revision()), (BatchKind::Progress, start));
}

#[tokio::test]
async fn a_report_is_never_below_what_was_delivered() {
    let mut plane = Plane::new();
    plane.put("/a", "1");
    plane.settled().await;
    plane.dispatcher.take().unwrap().abort();
    plane.put("/a", "2");
    // It reads the history, beyond what the dispatcher has come to.
    let mut watch = reporting(&plane, Start::At(Revision(2)));
    for revision in [2, 3] {
        assert_eq!(next_batch(&mut watch).await.revision(), Revision(revision));
    }
    assert!(now(watch.next()).await.is_none());
    plane.clock.advance(INTERVAL);
    let batch = next_batch(&mut watch).await;
    assert_eq!(
        (batch.kind(), batch.revision()),
        (BatchKind::Progress, Revision(3))
    );
}
