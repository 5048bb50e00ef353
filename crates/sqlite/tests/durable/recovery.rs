//! What is read back after a restart.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidewatch_core::journal::{Entry, Journal};
use tidewatch_core::{Event, KeyValue, LeaseGrant, LeaseId, Record, Recovered, Revision};
use tidewatch_sqlite::{Error, SqliteJournal};

use crate::model::{Model, assert_recovered, named, reopen};

#[tokio::test]
async fn a_new_journal_is_empty_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let first = reopen(dir.path()).await;
    assert_eq!(first, Recovered::empty(first.keyspace));
    assert_eq!(reopen(dir.path()).await, first);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(reopen(other.path()).await.keyspace, first.keyspace);
}

#[tokio::test]
async fn the_history_is_read_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(1);
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    for size in 1..20 {
        journal.commit(model.group(size)).await.unwrap();
    }
    let at_once = journal.recover().await.unwrap();
    drop(journal);
    let recovered = reopen(dir.path()).await;
    assert!(recovered == at_once);
    assert_eq!(recovered.revision, model.revision);
    assert_recovered(1, &recovered);
}

#[tokio::test]
async fn empty_values_odd_times_and_leases_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let put = |revision: u64, key: &'static [u8], time| {
        let kv = KeyValue {
            key: Bytes::from_static(key),
            value: Bytes::new(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Record {
            revision: Revision(revision),
            time,
            events: [Event::put(kv, None)].into(),
        }
    };
    let records = [
        put(2, b"empty", None),
        put(
            3,
            b"\0\xff\n",
            Some(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)),
        ),
        put(9, b"after a gap", Some(SystemTime::UNIX_EPOCH)),
    ];
    let lease = |id, ttl| LeaseGrant { id: LeaseId(id), ttl };
    let mut group: Vec<_> = records
        .iter()
        .cloned()
        .map(|record| Entry::Record(Arc::new(record)))
        .collect();
    let granted = [
        lease(7, Duration::from_millis(1500)),
        lease(i64::MAX, Duration::from_secs(9_000_000_000)),
        lease(8, Duration::from_secs(1)),
    ];
    group.extend(granted.map(Entry::LeaseGranted));
    group.push(Entry::LeaseEnded(LeaseId(8)));
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    journal.commit(group).await.unwrap();
    drop(journal);

    let recovered = reopen(dir.path()).await;
    assert_eq!(recovered.records, records);
    assert_eq!(recovered.leases, granted[..2]);
    assert_eq!(recovered.revision, Revision(9));
}

#[tokio::test]
async fn a_group_that_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(2);
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    journal.commit(model.group(3)).await.unwrap();

    let mut bad = model.clone().group(2);
    bad.push(Entry::LeaseGranted(LeaseGrant {
        id: LeaseId(1),
        ttl: Duration::from_secs(1),
    }));
    bad.extend(Model::new(2).group(1));
    let cause = journal.commit(bad).await.unwrap_err();
    assert!(
        matches!(named(&cause), Error::OutOfOrder { revision: 2, last: 6 }),
        "{cause}"
    );

    journal.commit(model.group(1)).await.unwrap();
    drop(journal);
    let recovered = reopen(dir.path()).await;
    assert_eq!((recovered.revision, recovered.leases.len()), (Revision(5), 0));
    assert_recovered(2, &recovered);
}

#[tokio::test]
async fn a_commit_happens_though_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(3);
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    {
        let mut commit = journal.commit(model.group(1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = commit.as_mut().poll(&mut context);
    }
    drop(journal);
    assert_eq!(reopen(dir.path()).await.revision, Revision(2));
}
