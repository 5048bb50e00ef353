//! The behaviours of the watch plane, one by one: registry, dispatcher and handles over a history
//! that the test writes itself.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::check::{self, Observed};
use tidewatch_core::history::SnapshotReader;
use tidewatch_core::watch::{
    OnOverflow, Prev, Start, View, WatchDispatcher, WatchRegistry, WatchRequest, WatcherHandle,
    WatcherOptions,
};
use tidewatch_core::{
    Batch, BatchKind, EndReason, Ended, Error, Event, EventKind, History, KeyRange, KeyValue, KeyspaceId,
    ManualClock, Position, Record, Revision, Watch, WatchSettings, key, prefix, range,
};
use tokio::sync::Semaphore;

const KEYSPACE: KeyspaceId = KeyspaceId(7);

/// A watch plane without a store: the test appends to the history.
struct Plane {
    history: Arc<History>,
    registry: Arc<WatchRegistry>,
    clock: ManualClock,
    entries: BTreeMap<Bytes, KeyValue>,
    dispatcher: Option<tokio::task::JoinHandle<()>>,
}

impl Plane {
    fn new() -> Self {
        Self::with(WatchSettings {
            room: 16,
            max_watchers: 1000,
        })
    }

    fn with(settings: WatchSettings) -> Self {
        let mut plane = Self::undispatched(settings);
        plane.dispatch();
        plane
    }

    fn undispatched(settings: WatchSettings) -> Self {
        let history = History::new(KEYSPACE, Revision(1), Revision(1));
        let clock = ManualClock::new();
        let registry = WatchRegistry::new(Arc::clone(&history), None, Arc::new(clock.clone()), settings);
        Self {
            history,
            registry,
            clock,
            entries: BTreeMap::new(),
            dispatcher: None,
        }
    }

    fn dispatch(&mut self) {
        self.dispatcher = Some(tokio::spawn(
            WatchDispatcher::new(Arc::clone(&self.registry)).run(),
        ));
    }

    fn put(&mut self, name: &str, value: &str) -> Revision {
        self.commit(&[(name, Some(value))])
    }

    fn delete(&mut self, name: &str) -> Revision {
        self.commit(&[(name, None)])
    }

    fn commit(&mut self, changes: &[(&str, Option<&str>)]) -> Revision {
        let revision = self.history.current().next();
        let events = changes
            .iter()
            .map(|(name, value)| self.event(revision, name, *value))
            .collect();
        self.history.append([Arc::new(Record {
            revision,
            time: None,
            events,
        })]);
        revision
    }

    fn event(&mut self, revision: Revision, name: &str, value: Option<&str>) -> Event {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let prev = self.entries.remove(&name);
        let Some(value) = value else {
            return Event::delete(revision, prev.expect("tests delete what is there"));
        };
        let kv = KeyValue {
            key: name.clone(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: None,
        };
        self.entries.insert(name, kv.clone());
        Event::put(kv, prev)
    }

    /// Waits until all that was committed has been dispatched.
    async fn settled(&self) {
        for _ in 0..10_000 {
            if self.registry.dispatched() == self.history.current() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the dispatcher does not get on: {:?}", self.registry);
    }

    fn exact(&self, name: &str) -> WatcherHandle {
        self.registry
            .register(name.to_owned(), WatcherOptions::default())
            .unwrap()
    }

    fn prefix(&self, name: &str) -> WatcherHandle {
        self.registry
            .register_prefix(name.to_owned(), WatcherOptions::default())
            .unwrap()
    }

    fn cancelling(&self, name: &str, room: usize) -> WatcherHandle {
        let options = WatcherOptions {
            on_overflow: OnOverflow::Cancel,
            room: Some(room),
            ..WatcherOptions::default()
        };
        self.registry.register(name.to_owned(), options).unwrap()
    }
}

fn one(range: KeyRange) -> WatchRequest {
    WatchRequest::new([range])
}

/// What can be had from a watch at once.
async fn drain(watch: &mut WatcherHandle) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(next) = now(watch.next()).await {
        match next {
            Ok(batch) => seen.extend(show(&batch)),
            Err(ended) => {
                seen.push(format!("END {}", ended.reason.name()));
                break;
            }
        }
    }
    seen
}

fn show(batch: &Batch) -> Vec<String> {
    batch
        .iter()
        .map(|event| format!("{}: {event}", batch.revision()))
        .collect()
}

/// The output of a future if it is ready after others had every chance to run.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..64 {
        let ready = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = ready {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn next_batch(watch: &mut Watch) -> Batch {
    now(watch.next())
        .await
        .expect("a batch is there")
        .expect("the watch goes on")
}

async fn end_of(watch: &mut Watch) -> Ended {
    loop {
        if let Err(ended) = now(watch.next()).await.expect("the end is there") {
            return ended;
        }
    }
}

mod registering {
    use super::*;

    #[tokio::test]
    async fn one_watcher_is_counted() {
        let plane = Plane::new();
        let watcher = plane.exact("/a");
        assert_eq!(plane.registry.watcher_count(), 1);
        assert_eq!((watcher.key(), watcher.is_prefix()), (&Bytes::from("/a"), false));
    }

    #[tokio::test]
    async fn many_watchers_of_one_key_have_different_ids_and_one_selection() {
        let plane = Plane::new();
        let (one, other) = (plane.exact("/a"), plane.exact("/a"));
        assert_ne!(one.id(), other.id());
        assert_eq!(
            (plane.registry.watcher_count(), plane.registry.selection_count()),
            (2, 1)
        );
    }

    #[tokio::test]
    async fn a_dropped_handle_leaves_nothing_behind() {
        let plane = Plane::new();
        let watchers = (plane.exact("/a"), plane.prefix("/a/"));
        assert_eq!(plane.registry.selection_count(), 2);
        drop(watchers);
        assert_eq!(
            (plane.registry.watcher_count(), plane.registry.selection_count()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn those_who_stay_are_still_counted() {
        let mut plane = Plane::new();
        let (gone, mut stays) = (plane.exact("/a"), plane.exact("/a"));
        drop(gone);
        assert_eq!(
            (plane.registry.watcher_count(), plane.registry.selection_count()),
            (1, 1)
        );
        plane.put("/a", "1");
        assert_eq!(drain(&mut stays).await, ["2: PUT /a = 1"]);
    }

    #[tokio::test]
    async fn a_watch_taken_out_of_its_handle_lives_on_until_it_is_dropped_itself() {
        let mut plane = Plane::new();
        let mut watch = plane.exact("/a").into_watch();
        assert_eq!(plane.registry.watcher_count(), 1);
        plane.put("/a", "1");
        assert_eq!(show(&next_batch(&mut watch).await), ["2: PUT /a = 1"]);
        drop(watch);
        assert_eq!(
            plane.registry.watcher_count(),
            0,
            "at once, not at the next event"
        );
    }

    #[test]
    fn registering_and_leaving_at_once_from_many_threads_ends_at_zero() {
        let plane = Plane::undispatched(WatchSettings::default());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let plane = &plane;
                scope.spawn(move || {
                    for round in 0..500 {
                        let shared = plane.exact("/shared");
                        let own = plane.prefix(&format!("/{thread}/{}/", round % 3));
                        drop((shared, own));
                    }
                });
            }
        });
        assert_eq!(
            (plane.registry.watcher_count(), plane.registry.selection_count()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn a_thousand_vanished_receivers_make_room_for_others_at_once() {
        let plane = Plane::new();
        let watches: Vec<_> = (0..1000).map(|_| plane.exact("/a").into_watch()).collect();
        assert!(plane.registry.register("/a", WatcherOptions::default()).is_err());
        drop(watches);
        let again: Vec<_> = (0..1000).map(|_| plane.exact("/a")).collect();
        assert_eq!(again.len(), 1000);
    }

    /// In d-engine unregistering scans all watchers of the key, in the dispatcher: a hundred thousand
    /// that vanish hold up everybody for seconds.
    #[test]
    fn leaving_needs_neither_the_dispatcher_nor_a_look_at_the_others() {
        let plane = Plane::undispatched(WatchSettings::default());
        let watchers: Vec<_> = (0..100_000).map(|_| plane.exact("/a")).collect();
        drop(watchers);
        assert_eq!(
            (plane.registry.watcher_count(), plane.registry.selection_count()),
            (0, 0)
        );
    }
}

mod dispatching {
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
}

mod overflowing {
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
}

mod lagging {
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
}

mod prefixes {
    use super::*;

    fn segments(name: &str) -> Vec<String> {
        key::segments(name.as_bytes())
            .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn a_keys_segments_are_its_slash_terminated_prefixes() {
        let cases: [(&str, &[&str]); 5] = [
            ("/config/db/host", &["/", "/config/", "/config/db/"]),
            ("/", &["/"]),
            ("/config", &["/"]),
            ("/config/", &["/", "/config/"]),
            ("plain", &[]),
        ];
        for (name, expected) in cases {
            assert_eq!(segments(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn children_match_and_others_do_not() {
        let mut plane = Plane::new();
        let mut watcher = plane.prefix("/config/");
        for name in [
            "/config/db",
            "/config",
            "/configuration",
            "/other/config/db",
            "/config/",
            "/config/a/b",
        ] {
            plane.put(name, "x");
        }
        assert_eq!(
            drain(&mut watcher).await,
            [
                "2: PUT /config/db = x",
                "6: PUT /config/ = x",
                "7: PUT /config/a/b = x"
            ]
        );
    }

    #[tokio::test]
    async fn the_root_matches_its_children_and_itself() {
        let mut plane = Plane::new();
        let mut watcher = plane.prefix("/");
        plane.put("/a/b/c", "x");
        plane.put("/", "x");
        plane.put("outside", "x");
        assert_eq!(drain(&mut watcher).await, ["2: PUT /a/b/c = x", "3: PUT / = x"]);
    }

    #[tokio::test]
    async fn exact_and_prefix_watchers_of_a_key_both_receive() {
        let mut plane = Plane::new();
        let (mut exact, mut below) = (plane.exact("/a/b"), plane.prefix("/a/"));
        plane.put("/a/b", "x");
        assert_eq!(drain(&mut exact).await, drain(&mut below).await);
    }

    #[tokio::test]
    async fn prefixes_deeper_than_any_table_work() {
        let mut plane = Plane::new();
        let deep = "/d".repeat(200) + "/";
        let mut watcher = plane.prefix(&deep);
        plane.put(&format!("{deep}x"), "1");
        assert_eq!(drain(&mut watcher).await.len(), 1);
        drop(watcher);
        assert_eq!(plane.registry.selection_count(), 0);
    }

    #[tokio::test]
    async fn a_prefix_must_start_and_end_with_a_slash() {
        let plane = Plane::new();
        for name in ["", "a", "/a", "a/", "config/db"] {
            let error = plane
                .registry
                .register_prefix(name, WatcherOptions::default())
                .unwrap_err();
            assert!(matches!(error, Error::InvalidPrefix { .. }), "{name}: {error}");
        }
        assert_eq!(plane.registry.watcher_count(), 0);
    }

    #[tokio::test]
    async fn arbitrary_ranges_match_what_is_in_them() {
        let mut plane = Plane::new();
        let request = one(range("/b", "/d").unwrap());
        let mut watch = plane.registry.watch(request).unwrap();
        for name in ["/a", "/b", "/c/x", "/d"] {
            plane.put(name, "x");
        }
        assert_eq!(show(&next_batch(&mut watch).await), ["3: PUT /b = x"]);
        assert_eq!(show(&next_batch(&mut watch).await), ["4: PUT /c/x = x"]);
        assert!(now(watch.next()).await.is_none());
        drop(watch);
        assert_eq!(plane.registry.selection_count(), 0);
    }

    #[tokio::test]
    async fn several_ranges_in_one_watch_deliver_an_event_once_and_in_order() {
        let mut plane = Plane::new();
        let ranges = [
            prefix("/a/").unwrap(),
            key("/a/x").unwrap(),
            range("/a/w", "/b").unwrap(),
            key("/z").unwrap(),
        ];
        let mut watch = plane.registry.watch(WatchRequest::new(ranges)).unwrap();
        plane.commit(&[("/z", Some("1")), ("/m", Some("no")), ("/a/x", Some("2"))]);
        plane.put("/a/y", "3");
        assert_eq!(
            show(&next_batch(&mut watch).await),
            ["2: PUT /z = 1", "2: PUT /a/x = 2"]
        );
        assert_eq!(show(&next_batch(&mut watch).await), ["3: PUT /a/y = 3"]);
        assert!(now(watch.next()).await.is_none());
    }
}

mod limits {
    use super::*;

    fn limited(max_watchers: usize) -> Plane {
        Plane::undispatched(WatchSettings {
            room: 16,
            max_watchers,
        })
    }

    #[test]
    fn the_limit_is_for_exact_and_prefix_watchers_together() {
        let plane = limited(2);
        let held = (plane.exact("/a"), plane.prefix("/a/"));
        for result in [
            plane.registry.register("/b", WatcherOptions::default()),
            plane.registry.register_prefix("/b/", WatcherOptions::default()),
        ] {
            assert!(matches!(
                result.unwrap_err(),
                Error::LimitExceeded { limit: 2, .. }
            ));
        }
        drop(held);
        plane.exact("/b");
    }

    #[test]
    fn concurrent_registrations_never_exceed_the_limit_nor_miss_it() {
        let plane = limited(50);
        let held: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let register = |_| plane.registry.register("/a", WatcherOptions::default()).ok();
                        let held: Vec<_> = (0..100).filter_map(register).collect();
                        assert!(plane.registry.watcher_count() <= 50);
                        held
                    })
                })
                .collect();
            let held: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            held.iter().map(Vec::len).sum()
        });
        assert_eq!(held, 50);
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let plane = limited(10);
        let any = || one(key("/a").unwrap());
        let cases = [
            (WatchRequest::new([]), "no range"),
            (WatchRequest::new(vec![key("/a").unwrap(); 65]), "more than 64"),
            (
                WatchRequest {
                    start: Start::At(Revision(0)),
                    ..any()
                },
                "revision 0",
            ),
            (
                WatchRequest {
                    room: Some(0),
                    ..any()
                },
                "room",
            ),
            (
                WatchRequest {
                    progress_interval: Some(Duration::from_millis(99)),
                    ..any()
                },
                "100 ms",
            ),
            (
                WatchRequest {
                    snapshot: true,
                    start: Start::At(Revision(1)),
                    ..any()
                },
                "snapshot",
            ),
            (
                WatchRequest {
                    snapshot: true,
                    ..any()
                },
                "snapshot",
            ),
        ];
        for (request, expected) in cases {
            let error = plane.registry.watch(request).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(plane.registry.watcher_count(), 0);
    }
}

mod previous {
    use super::*;

    fn with_prev() -> WatcherOptions {
        WatcherOptions {
            view: View {
                prev_kv: true,
                ..View::default()
            },
            ..WatcherOptions::default()
        }
    }

    #[tokio::test]
    async fn not_asked_absent_and_a_value_are_three_different_things() {
        let mut plane = Plane::new();
        let mut without = plane.exact("/a").into_watch();
        let mut with = plane.registry.register("/a", with_prev()).unwrap().into_watch();
        plane.put("/a", "");
        plane.put("/a", "2");
        plane.delete("/a");
        let mut seen = Vec::new();
        for _ in 0..3 {
            let batch = next_batch(&mut without).await;
            assert_eq!(batch.iter().next().unwrap().prev(), Prev::NotRequested);
            let batch = next_batch(&mut with).await;
            seen.push(match batch.iter().next().unwrap().prev() {
                Prev::NotRequested => panic!("it was requested"),
                Prev::Absent => None,
                Prev::Entry(prev) => Some(prev.value.clone()),
            });
        }
        assert_eq!(seen, [None, Some(Bytes::new()), Some(Bytes::from("2"))]);
    }

    #[tokio::test]
    async fn those_who_asked_are_counted() {
        let plane = Plane::new();
        let without = plane.exact("/a");
        let with = plane.registry.register_prefix("/a/", with_prev()).unwrap();
        assert_eq!(plane.registry.prev_kv_watcher_count(), 1);
        drop((without, with));
        assert_eq!(plane.registry.prev_kv_watcher_count(), 0);
    }

    #[tokio::test]
    async fn keys_only_hides_values_previous_ones_too() {
        let mut plane = Plane::new();
        plane.put("/a", "1");
        let view = View {
            prev_kv: true,
            keys_only: true,
            ..View::default()
        };
        let options = WatcherOptions {
            view,
            ..WatcherOptions::default()
        };
        let mut watch = plane.registry.register("/a", options).unwrap().into_watch();
        plane.put("/a", "2");
        let batch = next_batch(&mut watch).await;
        let event = batch.iter().next().unwrap();
        assert!(matches!(event.prev(), Prev::Entry(prev) if prev.value.is_empty() && prev.version == 1));
        let event = event.to_owned();
        assert_eq!((event.kv.value.len(), event.kv.version), (0, 2));
        assert_eq!(event.prev.unwrap().value.len(), 0);
    }

    #[tokio::test]
    async fn filters_leave_out_puts_or_deletions_and_send_no_empty_batches() {
        let mut plane = Plane::new();
        let puts = View {
            no_delete: true,
            ..View::default()
        };
        let deletions = View {
            no_put: true,
            ..View::default()
        };
        let [mut puts, mut deletions] = [puts, deletions].map(|view| {
            plane
                .registry
                .register_prefix(
                    "/",
                    WatcherOptions {
                        view,
                        ..WatcherOptions::default()
                    },
                )
                .unwrap()
        });
        plane.put("/a", "1");
        plane.commit(&[("/a", None), ("/b", Some("2"))]);
        plane.delete("/b");
        assert_eq!(drain(&mut puts).await, ["2: PUT /a = 1", "3: PUT /b = 2"]);
        assert_eq!(drain(&mut deletions).await, ["3: DELETE /a", "4: DELETE /b"]);
    }
}

mod starting {
    use super::*;

    fn at(plane: &Plane, revision: u64) -> Watch {
        let request = WatchRequest {
            start: Start::At(Revision(revision)),
            ..one(key("/a").unwrap())
        };
        plane.registry.watch(request).unwrap()
    }

    fn after(plane: &Plane, keyspace: u64, revision: u64) -> Watch {
        let position = Position {
            keyspace: KeyspaceId(keyspace),
            revision: Revision(revision),
        };
        let request = WatchRequest {
            start: Start::After(position),
            ..one(key("/a").unwrap())
        };
        plane.registry.watch(request).unwrap()
    }

    #[tokio::test]
    async fn a_start_in_the_past_replays_the_history_then_goes_on_live() {
        let mut plane = Plane::new();
        for n in 0..100 {
            plane.put("/a", &n.to_string());
        }
        let mut watch = at(&plane, 2);
        for n in 0..100 {
            assert_eq!(next_batch(&mut watch).await.revision(), Revision(n + 2));
        }
        plane.put("/a", "live");
        assert_eq!(next_batch(&mut watch).await.revision(), Revision(102));
    }

    #[tokio::test]
    async fn a_start_in_the_future_is_silent_until_it_is_reached() {
        let mut plane = Plane::new();
        let mut watch = at(&plane, 5);
        assert!(watch.position().is_none());
        for n in 0..3 {
            plane.put("/a", &n.to_string());
            assert!(now(watch.next()).await.is_none());
        }
        plane.put("/a", "there");
        assert_eq!(show(&next_batch(&mut watch).await), ["5: PUT /a = there"]);
        assert_eq!(
            watch.position(),
            Some(Position {
                keyspace: KEYSPACE,
                revision: Revision(5)
            })
        );
    }

    #[tokio::test]
    async fn a_compacted_start_ends_the_watch_and_says_what_is_left() {
        let mut plane = Plane::new();
        for n in 0..10 {
            plane.put("/a", &n.to_string());
        }
        plane.history.compact(Revision(6));
        let ended = end_of(&mut at(&plane, 5)).await;
        assert!(
            matches!(
                ended.reason,
                EndReason::Compacted {
                    requested: Revision(5),
                    oldest: Revision(6)
                }
            ),
            "{ended}"
        );
        assert_eq!(next_batch(&mut at(&plane, 6)).await.revision(), Revision(6));
        assert_eq!(next_batch(&mut after(&plane, 7, 5)).await.revision(), Revision(6));
    }

    #[tokio::test]
    async fn a_position_of_another_history_ends_the_watch() {
        let mut plane = Plane::new();
        plane.put("/a", "1");
        for (keyspace, revision) in [(8, 1), (7, 3)] {
            let ended = end_of(&mut after(&plane, keyspace, revision)).await;
            assert!(
                matches!(
                    ended.reason,
                    EndReason::KeyspaceChanged {
                        actual: KEYSPACE,
                        current: Revision(2)
                    }
                ),
                "{ended}"
            );
        }
        assert!(
            now(after(&plane, 7, 2).next()).await.is_none(),
            "the present is no other history"
        );
        assert_eq!(plane.registry.watcher_count(), 0);
    }

    struct Page;

    impl SnapshotReader for Page {
        fn page(
            &self,
            _range: &KeyRange,
            revision: Revision,
            after: Option<&Bytes>,
            limit: usize,
        ) -> Result<Vec<KeyValue>, Error> {
            let names = (0..300).map(|n| Bytes::from(format!("/a/{n:03}")));
            let later = names
                .filter(|name| after.is_none_or(|after| name > after))
                .take(limit);
            let entry = |key| KeyValue {
                key,
                value: "v".into(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: None,
            };
            Ok(later.map(entry).collect())
        }
    }

    #[tokio::test]
    async fn a_snapshot_comes_in_pages_between_its_begin_and_end_then_the_tail() {
        let history = History::new(KEYSPACE, Revision(1), Revision(1));
        let clock = Arc::new(ManualClock::new());
        let registry = WatchRegistry::new(
            Arc::clone(&history),
            Some(Arc::new(Page)),
            clock,
            WatchSettings::default(),
        );
        let dispatcher = tokio::spawn(WatchDispatcher::new(Arc::clone(&registry)).run());
        let mut plane = Plane::undispatched(WatchSettings::default());
        (plane.history, plane.registry, plane.dispatcher) = (history, registry, Some(dispatcher));

        let request = WatchRequest {
            snapshot: true,
            ..one(prefix("/a/").unwrap())
        };
        let mut watch = plane.registry.watch(request).unwrap();
        plane.put("/a/x", "tail");
        let mut kinds = Vec::new();
        let mut names = Vec::new();
        loop {
            let batch = next_batch(&mut watch).await;
            kinds.push(batch.kind());
            names.extend(batch.iter().map(|event| event.key().clone()));
            match batch.kind() {
                BatchKind::Events => break,
                BatchKind::SnapshotEnd => assert_eq!(watch.position().unwrap().revision, Revision(1)),
                _ => assert!(
                    watch.position().is_none(),
                    "half a snapshot is nothing to resume from"
                ),
            }
        }
        kinds.dedup();
        let expected = [
            BatchKind::SnapshotBegin,
            BatchKind::Snapshot,
            BatchKind::SnapshotEnd,
            BatchKind::Events,
        ];
        assert_eq!(kinds, expected);
        assert_eq!(names.len(), 301);
        assert!(names.is_sorted());
    }
}

mod progress {
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
}

mod draining {
    use super::*;

    #[tokio::test]
    async fn each_watch_is_told_where_to_resume_and_a_time_of_its_own() {
        let mut plane = Plane::new();
        let mut watches: Vec<_> = (0..20).map(|_| plane.exact("/a").into_watch()).collect();
        plane.put("/a", "1");
        for watch in &mut watches {
            next_batch(watch).await;
        }
        let retry_after = Duration::from_secs(10);
        plane.registry.close(EndReason::Draining { retry_after });
        let mut times = Vec::new();
        for watch in &mut watches {
            let ended = end_of(watch).await;
            assert_eq!(
                ended.resume,
                Some(Position {
                    keyspace: KEYSPACE,
                    revision: Revision(2)
                })
            );
            let EndReason::Draining { retry_after: own } = ended.reason else {
                panic!("{ended}")
            };
            assert!(own >= retry_after / 2 && own <= retry_after);
            times.push(own);
        }
        times.sort();
        times.dedup();
        assert!(times.len() > 10, "they do not come back together");
    }
}
