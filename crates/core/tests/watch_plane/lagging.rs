//! Watchers that read on from the history when they fall behind.

use super::*;

#[tokio::test]
async fn a_watcher_that_falls_behind_reads_on_from_the_history() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    assert!(now(watcher.next()).await.is_none());
    let expected: Vec<_> = (0..500)
        .map(|n| format!("{}: PUT /a = {n}", plane.put("/a", &n.to_string())))
        .collect();
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, expected);
    plane.put("/a", "live");
    assert_eq!(drain(&mut watcher).await, ["502: PUT /a = live"]);
}

#[tokio::test]
async fn it_ends_only_when_what_it_needs_is_compacted() {
    let mut plane = Plane::new();
    let mut watch = plane.exact("/a").into_watch();
    assert!(now(watch.next()).await.is_none());
    for n in 0..1000 {
        plane.put("/a", &n.to_string());
    }
    plane.settled().await;
    assert_eq!(next_batch(&mut watch).await.revision(), Revision(2));
    plane.history.compact(Revision(990));
    // What it had already taken is still delivered; then the gap is named, never skipped.
    let mut last = Revision(2);
    let ended = loop {
        match now(watch.next()).await.unwrap() {
            Ok(batch) => {
                assert_eq!(batch.revision(), last.next());
                last = batch.revision();
            }
            Err(ended) => break ended,
        }
    };
    assert!(
        matches!(ended.reason, EndReason::Compacted { requested, oldest: Revision(990) } if requested == last.next()),
        "{ended}"
    );
    assert_eq!(ended.last_delivered, Some(last));
}

#[tokio::test]
async fn a_stuck_watcher_keeps_little_of_what_was_compacted_alive() {
    let mut plane = Plane::with(WatchSettings {
        room: 16,
        max_watchers: 10,
        ..WatchSettings::default()
    });
    let mut stuck = plane.exact("/a");
    assert!(now(stuck.next()).await.is_none());
    let value = "v".repeat(1 << 16);
    let mut records = Vec::new();
    for _ in 0..200 {
        plane.put("/a", &value);
        let newest = plane
            .history
            .read_after(plane.history.current().prev(), 1)
            .unwrap();
        records.push(Arc::downgrade(&newest.records[0]));
        plane.settled().await;
    }
    plane.history.compact(plane.history.current());
    let alive = records.iter().filter(|record| record.strong_count() > 0).count();
    assert!(alive <= 17, "{alive} of 200 records are still in memory");
}

#[tokio::test]
async fn what_everybody_has_read_is_kept_by_the_history_alone() {
    let mut plane = Plane::new();
    let mut watchers = [plane.exact("/a"), plane.exact("/a")];
    for watcher in &mut watchers {
        assert!(now(watcher.next()).await.is_none());
    }
    plane.put("/a", "1");
    plane.settled().await;
    let read = plane.history.read_after(Revision(1), 1).unwrap();
    let record = Arc::downgrade(&read.records[0]);
    drop(read);
    plane.history.compact(Revision(3));
    assert!(record.upgrade().is_some(), "nobody has read it");
    for watcher in &mut watchers {
        assert_eq!(drain(watcher).await, ["2: PUT /a = 1"]);
    }
    assert!(record.upgrade().is_none());
}
