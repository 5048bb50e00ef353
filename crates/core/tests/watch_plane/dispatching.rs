//! From the history to those who watch: what matches, whole, in order, to everybody.

use super::*;

#[tokio::test]
async fn what_matches_is_delivered_and_nothing_else() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    plane.put("/b", "no");
    plane.put("/a", "yes");
    plane.put("/a/b", "no");
    assert_eq!(drain(&mut watcher).await, ["3: PUT /a = yes"]);
}

#[tokio::test]
async fn all_watchers_of_a_key_receive_its_event() {
    let mut plane = Plane::new();
    let mut watchers: Vec<_> = (0..20).map(|_| plane.exact("/a")).collect();
    plane.put("/a", "1");
    for watcher in &mut watchers {
        assert_eq!(drain(watcher).await, ["2: PUT /a = 1"]);
    }
}

#[tokio::test]
async fn a_deletion_has_an_empty_value() {
    let mut plane = Plane::new();
    plane.put("/a", "1");
    let mut watch = plane.exact("/a").into_watch();
    plane.delete("/a");
    let batch = next_batch(&mut watch).await;
    let event = batch.iter().next().unwrap();
    assert_eq!(
        (event.kind(), event.value().len(), event.version()),
        (EventKind::Delete, 0, 0)
    );
}

#[tokio::test]
async fn events_arrive_in_order_and_carry_their_revision() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    let expected: Vec<_> = (0..10)
        .map(|n| format!("{}: PUT /a = {n}", plane.put("/a", &n.to_string())))
        .collect();
    assert_eq!(drain(&mut watcher).await, expected);
}

#[tokio::test]
async fn keys_are_isolated_from_each_other() {
    let mut plane = Plane::new();
    let (mut a, mut b) = (plane.exact("/a"), plane.exact("/b"));
    plane.put("/a", "1");
    plane.put("/b", "2");
    assert_eq!(drain(&mut a).await, ["2: PUT /a = 1"]);
    assert_eq!(drain(&mut b).await, ["3: PUT /b = 2"]);
}

#[tokio::test]
async fn the_dispatcher_ends_when_its_registry_is_closed() {
    let mut plane = Plane::new();
    plane.registry.close(EndReason::Closed);
    let dispatcher = plane.dispatcher.take().unwrap();
    tokio::time::timeout(Duration::from_secs(2), dispatcher)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_was_committed_before_the_close_is_delivered_before_the_end() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    plane.put("/a", "1");
    plane.registry.close(EndReason::Closed);
    assert_eq!(drain(&mut watcher).await, ["2: PUT /a = 1", "END closed"]);
    let mut late = plane.exact("/a");
    assert_eq!(drain(&mut late).await, ["END closed"]);
}

#[tokio::test]
async fn a_revision_with_many_events_is_delivered_whole_and_in_its_order() {
    let mut plane = Plane::new();
    let mut watch = plane.prefix("/a/").into_watch();
    plane.commit(&[("/a/2", Some("x")), ("/b", Some("no")), ("/a/1", Some("y"))]);
    let batch = next_batch(&mut watch).await;
    assert_eq!(show(&batch), ["2: PUT /a/2 = x", "2: PUT /a/1 = y"]);
    assert!(!batch.is_partial());
}

/// d-engine logs that its dispatcher lagged, and goes on without the events.
#[tokio::test]
async fn a_thousand_events_before_the_dispatcher_runs_all_arrive() {
    let mut plane = Plane::undispatched(WatchSettings {
        room: 16,
        max_watchers: 10,
        ..WatchSettings::default()
    });
    let mut watcher = plane.exact("/a");
    let expected: Vec<_> = (0..1000)
        .map(|n| format!("{}: PUT /a = {n}", plane.put("/a", &n.to_string())))
        .collect();
    plane.dispatch();
    assert_eq!(drain(&mut watcher).await, expected);
}

/// Also when the history no longer has what the dispatcher has not seen: then the watchers are told.
#[tokio::test]
async fn events_compacted_before_they_were_dispatched_end_the_watch() {
    let mut plane = Plane::undispatched(WatchSettings {
        room: 16,
        max_watchers: 10,
        ..WatchSettings::default()
    });
    let mut behind = plane.exact("/a").into_watch();
    for n in 0..10 {
        plane.put("/a", &n.to_string());
    }
    plane.history.compact(Revision(8));
    plane.dispatch();
    plane.settled().await;
    let ended = end_of(&mut behind).await;
    assert!(
        matches!(
            ended.reason,
            EndReason::Compacted {
                requested: Revision(2),
                oldest: Revision(8)
            }
        ),
        "{ended}"
    );
    assert!(ended.resume.is_none());
    let mut fresh = plane.exact("/a");
    plane.put("/a", "new");
    assert_eq!(drain(&mut fresh).await, ["12: PUT /a = new"]);
}

/// d-engine delivers events from before the registration, as if they had just happened.
#[tokio::test]
async fn what_happened_before_the_registration_never_shows_up_as_new() {
    let mut plane = Plane::undispatched(WatchSettings::default());
    plane.put("/a", "before");
    let options = WatcherOptions {
        view: View {
            prev_kv: true,
            ..View::default()
        },
        ..WatcherOptions::default()
    };
    let mut watch = plane.registry.register("/a", options).unwrap().into_watch();
    assert_eq!(
        watch.created(),
        Position {
            keyspace: KEYSPACE,
            revision: Revision(2)
        }
    );
    plane.put("/a", "after");
    plane.dispatch();
    let batch = next_batch(&mut watch).await;
    let event = batch.iter().next().unwrap();
    assert_eq!(
        (batch.revision(), &event.value()[..]),
        (Revision(3), &b"after"[..])
    );
    assert!(matches!(event.prev(), Prev::Entry(prev) if prev.value == "before"));
}

#[tokio::test]
async fn a_watcher_can_register_while_another_ones_event_is_being_delivered() {
    let mut plane = Plane::new();
    let registry = Arc::clone(&plane.registry);
    let mut first = plane.exact("/a").into_watch();
    let registering = tokio::spawn(async move {
        first.next().await.unwrap();
        registry.register("/a", WatcherOptions::default()).unwrap()
    });
    plane.put("/a", "1");
    let mut second = now(registering).await.unwrap().unwrap();
    plane.put("/a", "2");
    assert_eq!(drain(&mut second).await, ["3: PUT /a = 2"]);
}

/// Those who wait change places all the time; a wake-up must not go to the one who was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_is_woken() {
    const EVENTS: u64 = 200;
    const READERS: u32 = 40;
    let mut plane = Plane::new();
    let received = Arc::new(Semaphore::new(0));
    for n in 0..READERS {
        let mut watch = plane.exact("/a").into_watch();
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            for revision in 2..2 + EVENTS {
                assert_eq!(watch.next().await.unwrap().revision(), Revision(revision));
                received.add_permits(1);
                for _ in 0..(revision + u64::from(n)) % 7 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for n in 0..EVENTS {
        plane.put("/a", "x");
        let all = received.acquire_many(READERS);
        let all = tokio::time::timeout(Duration::from_secs(30), all).await;
        all.unwrap_or_else(|_| panic!("somebody was forgotten at event {n}"))
            .unwrap()
            .forget();
    }
}

#[tokio::test]
async fn next_can_be_dropped_at_any_time_without_losing_anything() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    assert!(now(watcher.next()).await.is_none());
    for n in 0..5 {
        plane.put("/a", &n.to_string());
        plane.put("/a", "more");
        plane.settled().await;
        drop(watcher.next());
    }
    assert_eq!(drain(&mut watcher).await.len(), 10);
}
