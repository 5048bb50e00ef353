//! Watches, as far as every backend has them.

use bytes::Bytes;

use super::{Subject, next, next_events, refused};
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{KeyRange, key, prefix};
use crate::revision::{KeyspaceId, Position};
use crate::txn::{PutRequest, Txn};
use crate::watch::{BatchKind, EndReason, EventRef, Prev};

/// All of that, and nothing from before.
pub async fn a_watch_delivers_what_comes_after_its_boundary(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/w/a", "before").await?;
    let mut watch = ks.watch(prefix("/w/")?).start().await?;
    assert_eq!(watch.created().revision, before);
    let put = ks.put("/w/a", "1").await?;
    ks.put("/elsewhere", "1").await?;
    let (deleted, _) = ks.delete(prefix("/w/")?).await?;
    let batch = next_events(&mut watch).await;
    assert_eq!((batch.revision(), batch.len()), (put, 1));
    assert!(!subject.capabilities.commit_times || batch.time().is_some());
    let event = batch.iter().next().expect("one event");
    assert_eq!((event.kind(), event.value()), (EventKind::Put, &"1".into()));
    let batch = next_events(&mut watch).await;
    let event = batch.iter().next().expect("one event");
    assert_eq!(
        (batch.revision(), event.kind(), event.mod_revision()),
        (deleted, EventKind::Delete, deleted)
    );
    assert_eq!((event.key(), event.value()), (&"/w/a".into(), &Bytes::new()));
    Ok(())
}

/// One batch, with the events in transaction order.
pub async fn a_watch_delivers_a_transaction_whole_and_in_order(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/w/old", "1").await?;
    let mut watch = ks.watch(prefix("/w/")?).start().await?;
    let txn = Txn::new()
        .put(PutRequest::new("/w/z", "1"))
        .put(PutRequest::new("/elsewhere", "1"))
        .delete(key("/w/old")?)
        .put(PutRequest::new("/w/a", "1"));
    let revision = ks.txn(txn).await?.header.revision;
    let batch = next_events(&mut watch).await;
    assert_eq!((batch.revision(), batch.is_partial()), (revision, false));
    let events: Vec<_> = batch.iter().map(|event| event.key().clone()).collect();
    assert_eq!(events, ["/w/z", "/w/old", "/w/a"]);
    Ok(())
}

/// Begin, items, end, and the tail without a gap.
pub async fn a_watch_begins_with_a_snapshot(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/w/b", "1").await?;
    ks.put("/w/a", "1").await?;
    let boundary = ks.delete(key("/w/b")?).await?.0;
    let mut watch = ks.watch(prefix("/w/")?).with_snapshot().start().await?;
    let tail = ks.put("/w/c", "1").await?;
    let mut seen = Vec::new();
    loop {
        let batch = next(&mut watch).await;
        match batch.kind() {
            BatchKind::SnapshotBegin => assert!(seen.is_empty()),
            BatchKind::Snapshot => seen.extend(batch.iter().map(|event| event.key().clone())),
            BatchKind::SnapshotEnd => {
                assert_eq!(batch.revision(), boundary);
                break;
            }
            BatchKind::Events | BatchKind::Progress => panic!("before the end of the snapshot: {batch:?}"),
        }
    }
    assert_eq!(seen, ["/w/a"]);
    assert_eq!(next_events(&mut watch).await.revision(), tail);
    Ok(())
}

/// That revision included.
pub async fn a_watch_goes_on_from_an_old_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/a", "1").await?;
    let from = ks.put("/a", "2").await?;
    let then = ks.put("/a", "3").await?;
    let mut watch = ks.watch(key("/a")?).from_revision(from).start().await?;
    assert_eq!(next_events(&mut watch).await.revision(), from);
    assert_eq!(next_events(&mut watch).await.revision(), then);
    let live = ks.put("/a", "4").await?;
    assert_eq!(next_events(&mut watch).await.revision(), live);
    Ok(())
}

/// Everything after it, exactly once.
pub async fn a_watch_resumes_after_a_position(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut watch = ks.watch(key("/a")?).start().await?;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/a", "2").await?;
    assert_eq!(next_events(&mut watch).await.revision(), first);
    let position = watch.position();
    assert_eq!(position.map(|position| position.revision), Some(first));
    drop(watch);
    let mut watch = ks.watch(key("/a")?).resume(position).start().await?;
    assert_eq!(next_events(&mut watch).await.revision(), second);
    Ok(())
}

/// A compaction keeps what happened at its revision, deletions too.
pub async fn a_watch_sees_a_deletion_at_the_compaction_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/a", "1").await?;
    let (deleted, _) = ks.delete(key("/a")?).await?;
    ks.put("/b", "1").await?;
    ks.compact(deleted).await?;
    let mut watch = ks
        .watch(key("/a")?)
        .from_revision(deleted)
        .with_prev_kv()
        .start()
        .await?;
    let batch = next_events(&mut watch).await;
    let event = batch.iter().next().expect("one event");
    assert_eq!((batch.revision(), event.kind()), (deleted, EventKind::Delete));
    assert!(matches!(event.prev(), Prev::Entry(kv) if kv.value == "1"));
    Ok(())
}

/// It ends, telling where one can begin.
pub async fn a_watch_from_a_compacted_revision_says_so(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/a", "2").await?;
    ks.compact(second).await?;
    let mut watch = ks.watch(key("/a")?).from_revision(first).start().await?;
    match watch.next().await {
        Err(ended) => assert!(
            matches!(ended.reason, EndReason::Compacted { requested, oldest } if requested == first && oldest == second),
            "{ended:?}"
        ),
        Ok(batch) => panic!("nothing can be delivered: {batch:?}"),
    }
    Ok(())
}

/// A position of another keyspace, or one ahead of this one.
pub async fn a_watch_of_another_keyspace_says_so(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let current = ks.put("/a", "1").await?;
    let keyspace = ks.status().await?.keyspace;
    for position in [
        Position {
            keyspace: KeyspaceId(keyspace.0 ^ 1),
            revision: current,
        },
        Position {
            keyspace,
            revision: current.next(),
        },
    ] {
        let mut watch = ks.watch(key("/a")?).resume(position).start().await?;
        match watch.next().await {
            Err(ended) => assert!(
                matches!(ended.reason, EndReason::KeyspaceChanged { actual, .. } if actual == keyspace),
                "{ended:?}"
            ),
            Ok(batch) => panic!("nothing can be delivered: {batch:?}"),
        }
    }
    Ok(())
}

/// Not asked for, absent, or an entry.
pub async fn a_watch_shows_what_was_there_before(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut with = ks.watch(key("/a")?).with_prev_kv().start().await?;
    let mut without = ks.watch(key("/a")?).start().await?;
    ks.put("/a", "1").await?;
    ks.put("/a", "2").await?;
    let batch = next_events(&mut with).await;
    assert_eq!(batch.iter().next().map(EventRef::prev), Some(Prev::Absent));
    let batch = next_events(&mut with).await;
    let prev = batch.iter().next().map(EventRef::prev);
    assert!(matches!(prev, Some(Prev::Entry(kv)) if kv.value == "1" && kv.version == 1));
    for _ in 0..2 {
        let batch = next_events(&mut without).await;
        let prev = batch.iter().next().map(EventRef::prev);
        assert_eq!(prev, Some(Prev::NotRequested));
    }
    Ok(())
}

/// Puts, deletions, values.
pub async fn a_watch_leaves_out_what_was_not_asked_for(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut no_puts = ks.watch(key("/a")?).without_puts().start().await?;
    let mut no_deletes = ks.watch(key("/a")?).without_deletes().keys_only().start().await?;
    let put = ks.put("/a", "1").await?;
    let (deleted, _) = ks.delete(key("/a")?).await?;
    let again = ks.put("/a", "2").await?;
    assert_eq!(next_events(&mut no_puts).await.revision(), deleted);
    for revision in [put, again] {
        let batch = next_events(&mut no_deletes).await;
        assert_eq!(batch.revision(), revision);
        assert!(batch.iter().all(|event| event.value().is_empty()));
    }
    Ok(())
}

/// Overlapping ones too.
pub async fn a_watch_of_several_ranges_delivers_once(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut watch = ks
        .watch(key("/a")?)
        .and(prefix("/p/")?)
        .and(KeyRange::starting_with("/p"))
        .start()
        .await?;
    let txn = Txn::new()
        .put(PutRequest::new("/p/1", ""))
        .put(PutRequest::new("/none", ""))
        .put(PutRequest::new("/a", ""))
        .put(PutRequest::new("/pp", ""));
    ks.txn(txn).await?;
    let batch = next_events(&mut watch).await;
    let events: Vec<_> = batch.iter().map(|event| event.key().clone()).collect();
    assert_eq!(events, ["/p/1", "/a", "/pp"]);
    Ok(())
}

/// Watches end after what was committed; writes are refused.
pub async fn closing_ends_everything(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut watch = ks.watch(key("/a")?).start().await?;
    let written = ks.put("/a", "1").await?;
    ks.close();
    assert_eq!(next_events(&mut watch).await.revision(), written);
    match watch.next().await {
        Err(ended) => {
            assert!(matches!(ended.reason, EndReason::Closed), "{ended:?}");
            assert_eq!(ended.last_delivered, Some(written));
        }
        Ok(batch) => panic!("the keyspace is closed: {batch:?}"),
    }
    let error = refused(ks.put("/a", "2").await);
    assert!(matches!(error, Error::Closed), "{error}");
    Ok(())
}
