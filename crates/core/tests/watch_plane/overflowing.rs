//! Watchers that are to end when they fall behind by more than their room.

use super::*;

#[tokio::test]
async fn a_full_room_ends_the_watch_after_what_fitted() {
    let mut plane = Plane::new();
    let mut watcher = plane.cancelling("/a", 3);
    assert!(now(watcher.next()).await.is_none(), "it is synced");
    for n in 0..6 {
        plane.put("/a", &n.to_string());
    }
    plane.settled().await;
    assert_eq!(
        drain(&mut watcher).await,
        ["2: PUT /a = 0", "3: PUT /a = 1", "4: PUT /a = 2", "END overflow"]
    );
}

#[tokio::test]
async fn room_is_counted_from_where_the_watch_began() {
    let mut plane = Plane::new();
    let slow = plane.exact("/a");
    for _ in 0..3 {
        plane.put("/a", "before");
    }
    plane.settled().await;
    let mut watcher = plane.cancelling("/a", 2);
    assert!(now(watcher.next()).await.is_none());
    plane.put("/a", "1");
    plane.put("/a", "2");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["5: PUT /a = 1", "6: PUT /a = 2"]);
    drop(slow);
}

#[tokio::test]
async fn what_is_dispatched_late_but_came_before_the_watch_uses_up_no_room() {
    let mut plane = Plane::undispatched(WatchSettings {
        room: 16,
        max_watchers: 1000,
        ..WatchSettings::default()
    });
    for _ in 0..3 {
        plane.put("/a", "before");
    }
    let mut watcher = plane.cancelling("/a", 1);
    assert!(now(watcher.next()).await.is_none());
    plane.dispatch();
    plane.settled().await;
    plane.put("/a", "1");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["5: PUT /a = 1"]);
}

#[tokio::test]
async fn what_comes_before_a_start_in_the_future_uses_up_no_room() {
    let mut plane = Plane::new();
    let request = WatchRequest {
        start: Start::At(Revision(6)),
        on_overflow: OnOverflow::Cancel,
        room: Some(1),
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert!(now(watch.next()).await.is_none());
    for n in 2..=6 {
        plane.put("/a", &n.to_string());
    }
    plane.settled().await;
    assert_eq!(show(&next_batch(&mut watch).await), ["6: PUT /a = 6"]);
    plane.put("/a", "7");
    plane.put("/a", "8");
    plane.settled().await;
    assert_eq!(show(&next_batch(&mut watch).await), ["7: PUT /a = 7"]);
    assert!(matches!(end_of(&mut watch).await.reason, EndReason::Overflow));
}

#[tokio::test]
async fn the_end_says_what_was_delivered_and_where_to_resume() {
    let mut plane = Plane::new();
    let mut watch = plane.cancelling("/a", 2).into_watch();
    assert!(now(watch.next()).await.is_none());
    for n in 0..4 {
        plane.put("/a", &n.to_string());
    }
    plane.settled().await;
    let ended = end_of(&mut watch).await;
    assert_eq!(ended.last_delivered, Some(Revision(3)));
    let resumed = WatchRequest {
        start: Start::After(ended.resume.unwrap()),
        ..one(key("/a").unwrap())
    };
    let mut resumed = plane.registry.watch(resumed).unwrap();
    assert_eq!(show(&next_batch(&mut resumed).await), ["4: PUT /a = 2"]);
    assert!(
        matches!(end_of(&mut watch).await.reason, EndReason::Overflow),
        "the end stays the end"
    );
}

#[tokio::test]
async fn it_is_removed_from_the_registry_at_once_and_only_once() {
    let mut plane = Plane::new();
    let mut watcher = plane.cancelling("/a", 1);
    assert!(now(watcher.next()).await.is_none());
    plane.put("/a", "1");
    plane.put("/a", "2");
    plane.settled().await;
    assert_eq!(plane.registry.watcher_count(), 0);
    drop(watcher);
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_room_of_one_overflows_at_the_second_event() {
    let mut plane = Plane::new();
    let mut watcher = plane.cancelling("/a", 1);
    assert!(now(watcher.next()).await.is_none());
    plane.put("/a", "1");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["2: PUT /a = 1"]);
    plane.put("/a", "2");
    plane.put("/a", "3");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["3: PUT /a = 2", "END overflow"]);
}

#[tokio::test]
async fn nothing_follows_the_end() {
    let mut plane = Plane::new();
    let mut watcher = plane.cancelling("/a", 1);
    assert!(now(watcher.next()).await.is_none());
    for _ in 0..3 {
        plane.put("/a", "x");
    }
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await.last().unwrap(), "END overflow");
    plane.put("/a", "y");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["END overflow"]);
}

#[tokio::test]
async fn a_vanished_receiver_is_no_overflow() {
    let mut plane = Plane::new();
    let watcher = plane.cancelling("/a", 1);
    let mut healthy = plane.exact("/a");
    drop(watcher);
    plane.put("/a", "1");
    plane.put("/a", "2");
    assert_eq!(drain(&mut healthy).await, ["2: PUT /a = 1", "3: PUT /a = 2"]);
    assert_eq!(plane.registry.watcher_count(), 1);
}

#[tokio::test]
async fn a_slow_watcher_does_not_hurt_a_healthy_one() {
    let mut plane = Plane::new();
    let mut slow = plane.cancelling("/a", 2);
    let mut healthy = plane.cancelling("/a", 2);
    assert!(now(slow.next()).await.is_none());
    for n in 0..50 {
        assert_eq!(
            drain(&mut healthy).await.len(),
            usize::from(n > 0),
            "never falsely cancelled"
        );
        plane.put("/a", "x");
        plane.settled().await;
    }
    assert_eq!(drain(&mut slow).await.last().unwrap(), "END overflow");
    assert_eq!(drain(&mut healthy).await, ["51: PUT /a = x"]);
}

#[tokio::test]
async fn a_room_larger_than_the_registrys_is_refused() {
    let plane = Plane::new();
    let options = WatcherOptions {
        on_overflow: OnOverflow::Cancel,
        room: Some(17),
        ..WatcherOptions::default()
    };
    let error = plane.registry.register("/a", options).unwrap_err();
    assert!(error.to_string().contains("more than the 16"), "{error}");
    assert_eq!(plane.registry.watcher_count(), 0);
}

#[tokio::test]
async fn a_prefix_watcher_overflows_too() {
    let mut plane = Plane::new();
    let options = WatcherOptions {
        on_overflow: OnOverflow::Cancel,
        room: Some(1),
        ..WatcherOptions::default()
    };
    let mut watcher = plane.registry.register_prefix("/a/", options).unwrap();
    assert!(now(watcher.next()).await.is_none());
    plane.put("/a/1", "x");
    plane.put("/a/2", "x");
    plane.settled().await;
    assert_eq!(drain(&mut watcher).await, ["2: PUT /a/1 = x", "END overflow"]);
}

#[tokio::test]
async fn events_that_are_lost_before_it_begins_do_not_end_a_watch() {
    let mut plane = Plane::undispatched(WatchSettings {
        room: 16,
        max_watchers: 1000,
        ..WatchSettings::default()
    });
    let request = WatchRequest {
        start: Start::At(Revision(5)),
        on_overflow: OnOverflow::Cancel,
        room: Some(1),
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert!(now(watch.next()).await.is_none());
    for _ in 0..3 {
        plane.put("/a", "lost");
    }
    plane.history.compact(Revision(4));
    plane.dispatch();
    plane.settled().await;
    assert_eq!(plane.registry.watcher_count(), 1, "it is still counted");
    plane.put("/a", "there");
    assert_eq!(show(&next_batch(&mut watch).await), ["5: PUT /a = there"]);
    assert!(now(watch.next()).await.is_none());
    plane.put("/a", "1");
    plane.put("/a", "2");
    plane.settled().await;
    assert_eq!(next_batch(&mut watch).await.revision(), Revision(6));
    let ended = end_of(&mut watch).await;
    assert!(
        matches!(ended.reason, EndReason::Overflow),
        "still held to its room"
    );
}

#[tokio::test]
async fn a_watch_that_loses_its_room_ends_even_if_nothing_lost_was_for_it() {
    let mut plane = Plane::new();
    plane.put("/a", "1");
    plane.settled().await;
    plane.dispatcher.take().unwrap().abort();
    plane.put("/b", "x");
    // It reads the history, beyond what the dispatcher has come to and what is compacted then.
    let request = WatchRequest {
        start: Start::At(Revision(2)),
        on_overflow: OnOverflow::Cancel,
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert_eq!(show(&next_batch(&mut watch).await), ["2: PUT /a = 1"]);
    assert!(now(watch.next()).await.is_none());
    plane.put("/b", "lost");
    plane.history.compact(Revision(4));
    plane.dispatch();
    plane.settled().await;
    assert_eq!(plane.registry.watcher_count(), 0, "it is not counted any more");
    let ended = end_of(&mut watch).await;
    assert!(matches!(ended.reason, EndReason::Overflow), "{ended}");
    assert_eq!(ended.resume.unwrap().revision, Revision(4));
}
