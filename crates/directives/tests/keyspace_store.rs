//! The store over a keyspace, and publishing into it.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{Clock, Keyspace, ManualClock, Revision, SystemClock, key};
use tidewatch_directives::{
    Changes, Connection, Directive, DirectiveSet, DirectiveStore, Error, KEY, KeyspaceDirectiveStore, Level,
    Life, Publisher, Reason, Snapshot, Subject,
};

/// For what comes at once unless something is broken.
const CEILING: Duration = Duration::from_secs(60);

fn keyspace() -> Keyspace {
    let keyspace = Keyspace::memory();
    tokio::spawn(keyspace.driver());
    keyspace
}

fn set(id: &str, secs: u64) -> String {
    format!(r#"{{"directives":[{{"id":"{id}","level":"debug","ttl_secs":{secs}}}]}}"#)
}

/// Waits until the set in force is one that `accept` takes.
async fn until(changes: &mut Changes, store: &KeyspaceDirectiveStore, accept: impl Fn(&Snapshot) -> bool) {
    let wait = async {
        while !accept(&store.load()) {
            changes.changed().await.expect("the store runs");
        }
    };
    tokio::time::timeout(CEILING, wait)
        .await
        .expect("it comes to be in force");
}

fn has(id: &'static str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| snapshot.live().any(|live| live.directive().id() == id)
}

fn is_empty(snapshot: &Snapshot) -> bool {
    snapshot.origin().is_some() && snapshot.live().count() == 0
}

#[tokio::test]
async fn what_is_put_applies_what_is_deleted_does_not() {
    let ks = keyspace();
    ks.put(KEY, set("before", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone()).start();
    let mut changes = store.changes();
    until(&mut changes, &store, has("before")).await;
    let revision = ks.put(KEY, set("after", 600)).await.unwrap();
    until(&mut changes, &store, has("after")).await;
    assert_eq!(store.load().origin().unwrap().revision, revision);
    assert_eq!(store.status().connection, Connection::Live);
    ks.delete(key(KEY).unwrap()).await.unwrap();
    until(&mut changes, &store, is_empty).await;
}

#[tokio::test]
async fn other_keys_are_none_of_its_business() {
    let ks = keyspace();
    ks.put("/directives/x", set("other", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone())
        .key("/elsewhere")
        .start();
    let mut changes = store.changes();
    until(&mut changes, &store, is_empty).await;
    ks.put("/elsewhere", set("mine", 600)).await.unwrap();
    until(&mut changes, &store, has("mine")).await;
}

#[tokio::test]
async fn a_malformed_put_keeps_the_last_good_set_and_is_reported() {
    let ks = keyspace();
    ks.put(KEY, set("good", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone()).start();
    let mut changes = store.changes();
    until(&mut changes, &store, has("good")).await;
    let revision = ks.put(
        KEY,
        r#"{"directives":[{"id":"a","level":"debug","ttl_secs":60,"match":{"workload":5}}]}"#,
    );
    let revision = revision.await.unwrap();
    let rejected = async {
        loop {
            if let Some(rejected) = store.status().rejected {
                return rejected;
            }
            changes.status_changed().await.unwrap();
        }
    };
    let rejected = tokio::time::timeout(CEILING, rejected).await.unwrap();
    assert_eq!(rejected.origin.revision, revision);
    assert_eq!(rejected.rejection.reason(), Reason::WrongType);
    assert_eq!(rejected.rejection.path(), "directives[0].match.workload");
    assert!(has("good")(&store.load()));
}

#[tokio::test]
async fn a_key_deleted_while_the_store_was_gone_is_noticed_when_it_is_back() {
    let ks = keyspace();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last-good");
    ks.put(KEY, set("a", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone())
        .last_good(&file)
        .start();
    let mut changes = store.changes();
    until(&mut changes, &store, has("a")).await;
    let saved = async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CEILING, saved).await.unwrap();
    drop(store);
    ks.delete(key(KEY).unwrap()).await.unwrap();

    let store = KeyspaceDirectiveStore::builder(ks.clone())
        .last_good(&file)
        .start();
    let stale = store.load();
    assert!(
        stale.is_stale() && has("a")(&stale),
        "it starts with the last good set"
    );
    let mut changes = store.changes();
    until(&mut changes, &store, is_empty).await;
    assert!(!store.load().is_stale());
}

#[test]
fn a_disk_that_hangs_does_not_keep_a_store_from_hearing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last-good");
    let (release, hang) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let ks = keyspace();
        tokio::task::spawn_blocking(move || hang.recv().unwrap_err());
        let store = KeyspaceDirectiveStore::builder(ks.clone())
            .last_good(&file)
            .start();
        let mut changes = store.changes();
        for id in ["a", "b", "c"] {
            ks.put(KEY, set(id, 600)).await.unwrap();
            until(&mut changes, &store, has(id)).await;
        }
        drop(release);
        let written = async {
            while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains(r#"\"c\""#)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(CEILING, written).await.unwrap();
    });
}

#[tokio::test]
async fn silence_is_reported_as_beginning_with_the_last_word() {
    // The keyspace has a clock of its own, which stands still, so that the other one's seconds pass without a report.
    let stands_still = Keyspace::builder().clock(Arc::new(ManualClock::new()));
    let ks = stands_still.open().await.unwrap();
    tokio::spawn(ks.driver());
    let clock = ManualClock::new();
    let store = KeyspaceDirectiveStore::builder(ks)
        .clock(Arc::new(clock.clone()))
        .start();
    let mut changes = store.changes();
    until(&mut changes, &store, is_empty).await;
    let waits = async {
        while store.status().connection != Connection::Live || clock.next_deadline().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CEILING, waits).await.unwrap();
    let heard = clock.system_time();
    clock.advance(clock.next_deadline().unwrap() - clock.now());
    let silent = async {
        loop {
            let status = changes.status_changed().await.unwrap();
            if let Connection::Interrupted { since, .. } = status.connection {
                return (since, status.age);
            }
        }
    };
    let (since, age) = tokio::time::timeout(CEILING, silent).await.unwrap();
    assert_eq!((since, age), (heard, Some(Duration::from_secs(5))));
}

#[tokio::test]
async fn a_keyspace_that_is_closed_leaves_the_set_in_force() {
    let ks = keyspace();
    ks.put(KEY, set("a", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone()).start();
    let mut changes = store.changes();
    until(&mut changes, &store, has("a")).await;
    ks.close();
    let stopped = async { while changes.status_changed().await.is_ok() {} };
    tokio::time::timeout(CEILING, stopped).await.unwrap();
    assert_eq!(store.status().connection, Connection::Stopped);
    assert!(store.status().age.is_some());
    assert!(has("a")(&store.load()));
}

#[tokio::test]
async fn dropping_a_store_ends_its_watch() {
    let ks = keyspace();
    let stores: Vec<_> = (0..20)
        .map(|_| KeyspaceDirectiveStore::builder(ks.clone()).start())
        .collect();
    for store in &stores {
        tokio::time::timeout(CEILING, store.connected()).await.unwrap();
    }
    assert_eq!(ks.status().await.unwrap().watchers, 20);
    drop(stores);
    let gone = async {
        while ks.status().await.unwrap().watchers > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CEILING, gone).await.unwrap();
}

#[tokio::test]
async fn a_server_stamps_a_set_that_only_says_how_long_by_compare_and_swap() {
    let ks = keyspace();
    let revision = ks.put(KEY, set("raw", 600)).await.unwrap();
    let before = SystemClock.system_time();
    let store = KeyspaceDirectiveStore::builder(ks.clone()).stamping().start();
    let mut changes = store.changes();
    let stamped = |snapshot: &Snapshot| {
        let lives = snapshot.directives().iter().map(|live| live.directive().life());
        has("raw")(snapshot) && lives.into_iter().all(|life| matches!(life, Life::Until(_)))
    };
    until(&mut changes, &store, stamped).await;
    let stored = ks.get(KEY).await.unwrap().unwrap();
    assert_eq!(
        stored.mod_revision,
        Revision(revision.0 + 1),
        "it is written once"
    );
    let set = DirectiveSet::decode(&stored.value).unwrap();
    let Life::Until(end) = set.directives()[0].life() else {
        panic!("it is not stamped: {set:?}");
    };
    let latest = SystemClock.system_time() + Duration::from_secs(600);
    assert!(end >= before + Duration::from_secs(600) - Duration::from_secs(1) && end <= latest);
    assert_eq!(store.load().directives()[0].expires_at(), end);
}

#[tokio::test]
async fn several_servers_stamp_a_set_once() {
    let ks = keyspace();
    let stores: Vec<_> = (0..5)
        .map(|_| KeyspaceDirectiveStore::builder(ks.clone()).stamping().start())
        .collect();
    for store in &stores {
        tokio::time::timeout(CEILING, store.connected()).await.unwrap();
    }
    let raw = ks.put(KEY, set("raw", 600)).await.unwrap();
    for store in &stores {
        let stamped = |snapshot: &Snapshot| snapshot.origin().is_some_and(|origin| origin.revision > raw);
        until(&mut store.changes(), store, stamped).await;
        assert_eq!(store.load().origin().unwrap().revision, Revision(raw.0 + 1));
    }
}

#[tokio::test]
async fn publishing_replaces_the_set_and_stamps_it() {
    let ks = keyspace();
    let publisher = Publisher::new(ks.clone(), SystemClock::shared());
    assert_eq!(publisher.show().await.unwrap(), None);
    let result = publisher.publish(set("a", 60).as_bytes(), None).await.unwrap();
    assert!(!result.set.needs_stamp());
    let stored = publisher.show().await.unwrap().unwrap();
    assert_eq!(stored.revision, result.revision);
    assert_eq!(stored.set.unwrap(), result.set);

    let error = publisher.publish(b"[]", None).await.unwrap_err();
    assert!(matches!(&error, Error::Rejected(rejection) if rejection.reason() == Reason::WrongType));
    assert_eq!(publisher.show().await.unwrap().unwrap().revision, result.revision);
}

#[tokio::test]
async fn publishing_at_a_revision_replaces_only_what_was_written_then() {
    let ks = keyspace();
    let publisher = Publisher::new(ks.clone(), SystemClock::shared());
    let absent = Some(Revision(0));
    let first = publisher.publish(set("a", 60).as_bytes(), absent).await.unwrap();
    let error = publisher
        .publish(set("b", 60).as_bytes(), absent)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Changed { expected, actual } if expected == Revision(0) && actual == first.revision)
    );
    let second = publisher
        .publish(set("b", 60).as_bytes(), Some(first.revision))
        .await
        .unwrap();
    let error = publisher
        .publish(set("c", 60).as_bytes(), Some(first.revision))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Changed { actual, .. } if actual == second.revision));
    let (_, cleared) = publisher.clear().await.unwrap();
    assert!(cleared && !publisher.clear().await.unwrap().1);
    let error = publisher
        .publish(set("c", 60).as_bytes(), Some(second.revision))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Changed { actual, .. } if actual == Revision(0)));
}

#[tokio::test]
async fn many_who_set_one_directive_each_lose_none() {
    let ks = keyspace();
    let publisher = Arc::new(Publisher::new(ks, SystemClock::shared()));
    let setters: Vec<_> = (0..4)
        .map(|n| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                let json = format!(r#"{{"id":"d{n}","level":"info","ttl_secs":60}}"#);
                publisher
                    .set(Directive::decode(json.as_bytes()).unwrap())
                    .await
                    .unwrap();
            })
        })
        .collect();
    for setter in setters {
        setter.await.unwrap();
    }
    assert_eq!(publisher.show().await.unwrap().unwrap().set.unwrap().len(), 4);
    let left = publisher.remove("d2").await.unwrap();
    assert_eq!(left.set.len(), 3);
    let error = publisher.remove("d2").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { id } if id == "d2"));
}

#[tokio::test]
async fn a_malformed_set_is_not_changed_one_by_one_but_may_be_replaced() {
    let ks = keyspace();
    ks.put(KEY, "{}").await.unwrap();
    let publisher = Publisher::new(ks, SystemClock::shared());
    let directive = Directive::decode(br#"{"id":"a","level":"info","ttl_secs":60}"#).unwrap();
    let error = publisher.set(directive).await.unwrap_err();
    assert!(matches!(&error, Error::Stored(rejection) if rejection.reason() == Reason::MissingField));
    publisher.publish(set("a", 60).as_bytes(), None).await.unwrap();
}

#[tokio::test]
async fn a_set_that_was_written_without_a_stamp_keeps_its_life_when_one_of_it_is_changed() {
    let ks = keyspace();
    ks.put(KEY, set("raw", 600)).await.unwrap();
    let store = KeyspaceDirectiveStore::builder(ks.clone()).start();
    until(&mut store.changes(), &store, has("raw")).await;
    let seen = store.load().directives()[0].expires_at();
    let publisher = Publisher::new(ks, SystemClock::shared()).with_store(store.handle().clone());
    let directive = Directive::decode(br#"{"id":"b","level":"info","ttl_secs":60}"#).unwrap();
    let changed = publisher.set(directive).await.unwrap();
    assert_eq!(changed.set.get("raw").unwrap().life(), Life::Until(seen));
    let mut reader = store.reader();
    assert_eq!(reader.load().level(&Subject::new(), ""), Level::Debug);
}
