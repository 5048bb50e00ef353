//! Reading a store, and hearing of changes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::{Clock, Keyspace, KeyspaceId, ManualClock, Revision};
use tidewatch_directives::limits::MAX_DIRECTIVES;
use tidewatch_directives::node;
use tidewatch_directives::{
    Applier, Connection, Directive, DirectiveStore, Level, MemoryDirectiveStore, Origin, Reason, Stopped,
    Subject,
};

const DEBUG: &[u8] = br#"{"directives":[{"id":"a","level":"debug","ttl_secs":4}]}"#;

fn at(revision: u64) -> Origin {
    Origin {
        keyspace: KeyspaceId(7),
        revision: Revision(revision),
    }
}

fn value(json: &'static [u8]) -> Bytes {
    Bytes::from_static(json)
}

/// What a future says when it is asked once.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<T: std::fmt::Debug>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(value) = poll(future) else {
        panic!("it is not ready");
    };
    value
}

#[test]
fn a_reader_sees_what_is_published_and_a_kept_snapshot_stays_as_it_was() {
    let store: Arc<dyn DirectiveStore> = Arc::new(MemoryDirectiveStore::new(Arc::new(ManualClock::new())));
    let mut reader = store.reader();
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Off);

    let store = MemoryDirectiveStore::new(Arc::new(ManualClock::new()));
    let (mut reader, mut other) = (store.reader(), store.reader());
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Off);
    let before = store.load();
    let revision = store.publish(DEBUG).unwrap();
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Debug);
    assert_eq!(other.load().origin().unwrap().revision, revision);
    assert_eq!(before.level(&Subject::new(), ""), Level::Off);
}

#[test]
fn a_memory_store_is_changed_whole_or_one_by_one() {
    let clock = ManualClock::new();
    let store = MemoryDirectiveStore::new(Arc::new(clock.clone()));
    store.publish(DEBUG).unwrap();
    assert_eq!(store.publish(b"{}").unwrap_err().reason(), Reason::MissingField);
    let trace = br#"{"id":"b","level":"trace","match":{"host":"h1"},"ttl_secs":9}"#;
    store.set(Directive::decode(trace).unwrap()).unwrap();
    let ids = || {
        let snapshot = store.load();
        let ids = snapshot.live().map(|live| live.directive().id().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(), ["a", "b"]);
    // Setting one begins no other life of the others.
    clock.advance(Duration::from_secs(4));
    assert_eq!(ids(), ["b"]);
    assert!(store.remove("b") && !store.remove("b"));
    assert!(ids().is_empty());
    store.publish(DEBUG).unwrap();
    store.clear();
    assert!(ids().is_empty());
}

#[test]
fn a_memory_store_does_not_fill_up_with_what_has_ended() {
    let clock = ManualClock::new();
    let store = MemoryDirectiveStore::new(Arc::new(clock.clone()));
    for n in 0..=MAX_DIRECTIVES {
        let json = format!(r#"{{"id":"d{n}","level":"debug","ttl_secs":1}}"#);
        store.set(Directive::decode(json.as_bytes()).unwrap()).unwrap();
        clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn a_change_is_told_once_by_a_publish_or_by_an_end() {
    let clock = ManualClock::new();
    let mut applier = Applier::new(Arc::new(clock.clone()));
    let mut changes = applier.handle().changes();
    assert!(poll(changes.changed()).is_pending());
    applier.apply(at(2), Some(value(DEBUG)));
    assert_eq!(ready(changes.changed()).unwrap().origin(), Some(at(2)));
    assert!(poll(changes.changed()).is_pending());

    {
        let mut ending = pin!(changes.changed());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next_deadline(), Some(clock.now() + Duration::from_secs(4)));
        clock.advance(Duration::from_millis(3999));
        assert!(ending.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_millis(1));
        let Poll::Ready(Ok(snapshot)) = ending.as_mut().poll(&mut cx) else {
            panic!("the end was not told");
        };
        assert_eq!(snapshot.live().count(), 0);
    }
    assert!(poll(changes.changed()).is_pending());
    assert_eq!(
        clock.next_deadline(),
        None,
        "nothing lives, nothing is waited for"
    );

    // A rejected set is no change of what is in force.
    applier.apply(at(3), Some(value(b"{}")));
    assert!(poll(changes.changed()).is_pending());
}

#[test]
fn an_end_by_a_wall_clock_that_is_set_forward_is_told_within_five_seconds() {
    let clock = ManualClock::new();
    let mut applier = Applier::new(Arc::new(clock.clone()));
    applier.apply(
        at(2),
        Some(value(
            br#"{"directives":[{"id":"a","level":"debug","ttl_secs":600}]}"#,
        )),
    );
    let mut changes = applier.handle().changes();
    let mut ending = pin!(changes.changed());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(ending.as_mut().poll(&mut cx).is_pending());
    clock.set_system_time(clock.system_time() + Duration::from_secs(600));
    clock.advance(Duration::from_secs(5));
    assert!(ending.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn the_status_tells_what_happens_to_the_connection_and_how_old_the_set_is() {
    let clock = ManualClock::new();
    let mut applier = Applier::new(Arc::new(clock.clone()));
    let handle = applier.handle().clone();
    let mut changes = handle.changes();
    assert_eq!(handle.status().connection, Connection::Connecting);
    assert_eq!(handle.status().age, None);

    applier.apply(at(2), Some(value(DEBUG)));
    let status = ready(changes.status_changed()).unwrap();
    assert_eq!(
        (status.connection, status.serving),
        (Connection::Connecting, Some(at(2)))
    );
    applier.live();
    assert_eq!(
        ready(changes.status_changed()).unwrap().connection,
        Connection::Live
    );
    clock.advance(Duration::from_secs(60));
    assert_eq!(handle.status().age, Some(Duration::ZERO));

    let since = clock.system_time();
    applier.interrupted("no leader");
    clock.advance(Duration::from_secs(2));
    applier.interrupted("connection refused");
    let status = ready(changes.status_changed()).unwrap();
    let error = "connection refused".into();
    assert_eq!(status.connection, Connection::Interrupted { since, error });
    assert_eq!(status.age, Some(Duration::from_secs(2)));
    assert_eq!(
        status.connection.to_string(),
        "interrupted since 2026-01-01T00:01:00Z: connection refused"
    );

    applier.live();
    assert_eq!(handle.status().age, Some(Duration::ZERO));
    drop(applier);
    assert_eq!(
        ready(changes.status_changed()).unwrap().connection,
        Connection::Stopped
    );
    assert_eq!(ready(changes.status_changed()).unwrap_err(), Stopped);
    clock.advance(Duration::from_secs(3));
    assert_eq!(handle.status().age, Some(Duration::from_secs(3)));
    // Who asks only now need not wait for it.
    assert_eq!(ready(handle.changes().status_changed()).unwrap_err(), Stopped);
}

#[test]
fn what_is_in_force_outlives_its_store_until_it_ends() {
    let clock = ManualClock::new();
    let mut applier = Applier::new(Arc::new(clock.clone()));
    let mut reader = applier.handle().reader();
    let mut changes = applier.handle().changes();
    applier.apply(at(2), Some(value(DEBUG)));
    ready(changes.changed()).unwrap();
    drop(applier);
    assert!(poll(changes.changed()).is_pending());
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Debug);
    clock.advance(Duration::from_secs(4));
    assert_eq!(ready(changes.changed()).unwrap().live().count(), 0);
    assert_eq!(ready(changes.changed()).unwrap_err(), Stopped);
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Off);
}

#[test]
fn a_report_that_cannot_be_written_ends_with_its_store() {
    let clock = Arc::new(ManualClock::new());
    let keyspace = Keyspace::memory();
    keyspace.close();
    let store = MemoryDirectiveStore::new(clock.clone());
    store.publish(DEBUG).unwrap();
    let mut report = pin!(node::report(
        keyspace,
        "n1".to_owned(),
        store.handle().clone(),
        clock
    ));
    assert!(poll(report.as_mut()).is_pending(), "it tries again after a pause");
    drop(store);
    ready(report.as_mut());
}
