//! Forgetting: what stays, what goes, and that the file does not grow for ever.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use tidewatch_core::journal::{Entry, Journal};
use tidewatch_core::{Event, KeyValue, Record, Revision};
use tidewatch_sqlite::SqliteJournal;

use crate::model::{Model, assert_recovered, reopen};

/// How many events the database holds, and how many pages, of which free.
fn counts(dir: &Path) -> (u64, i64, i64) {
    let database = Connection::open(dir.join("tidewatch.db")).unwrap();
    let pragma = |name| database.pragma_query_value(None, name, |row| row.get(0)).unwrap();
    let events = database
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    (events, pragma("page_count"), pragma("freelist_count"))
}

/// Opens the journal again and again, which goes on with what is left of a compaction, until an idle
/// look finds nothing more to do. Each closing lets slices run only by chance.
async fn settle(dir: &Path, journal: SqliteJournal) {
    let mut journal = journal;
    let mut before = None;
    loop {
        // A slice follows each command.
        for _ in 0..50 {
            journal.recover().await.unwrap();
        }
        drop(journal);
        let now = counts(dir);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        journal = SqliteJournal::open(dir).unwrap();
    }
}

#[tokio::test]
async fn after_a_compaction_the_state_and_the_later_history_remain() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(11);
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    for _ in 0..100 {
        journal.commit(model.group(5)).await.unwrap();
    }
    for oldest in [2, 100, 101, 350, 501] {
        journal.compact(Revision(oldest)).await.unwrap();
        // At once, in the middle of the work, and after it.
        let recovered = journal.recover().await.unwrap();
        assert_eq!(recovered.oldest, Revision(oldest));
        assert_recovered(11, &recovered);
        drop(journal);
        let recovered = reopen(dir.path()).await;
        assert_eq!(
            (recovered.oldest, recovered.revision),
            (Revision(oldest), Revision(501))
        );
        assert_recovered(11, &recovered);
        journal = SqliteJournal::open(dir.path()).unwrap();
    }
    settle(dir.path(), journal).await;
    assert_recovered(11, &reopen(dir.path()).await);
    let kept = Model::at(11, Revision(500)).state().len() + Model::at(11, Revision(500)).next().events.len();
    assert_eq!(
        counts(dir.path()).0,
        kept as u64,
        "what nobody can ask for is gone"
    );
}

#[tokio::test]
async fn an_earlier_oldest_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    journal.commit(Model::new(12).group(50)).await.unwrap();
    journal.compact(Revision(40)).await.unwrap();
    journal.compact(Revision(30)).await.unwrap();
    drop(journal);
    let recovered = reopen(dir.path()).await;
    assert_eq!(recovered.oldest, Revision(40));
    assert_recovered(12, &recovered);
}

#[tokio::test]
async fn revisions_go_on_after_everything_was_compacted_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let kv = |revision| KeyValue {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    };
    let record = |revision, event| {
        vec![Entry::Record(Arc::new(Record {
            revision: Revision(revision),
            time: None,
            events: [event].into(),
        }))]
    };
    journal.commit(record(2, Event::put(kv(2), None))).await.unwrap();
    journal
        .commit(record(3, Event::delete(Revision(3), kv(2))))
        .await
        .unwrap();
    journal.compact(Revision(4)).await.unwrap();
    settle(dir.path(), journal).await;
    assert_eq!(counts(dir.path()).0, 0);

    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    assert_eq!(journal.recover().await.unwrap().revision, Revision(3));
    journal.commit(record(4, Event::put(kv(4), None))).await.unwrap();
    journal.compact(Revision(5)).await.unwrap();
    settle(dir.path(), journal).await;
    let recovered = reopen(dir.path()).await;
    assert_eq!((recovered.revision, recovered.base), (Revision(4), vec![kv(4)]));
}

/// The keyspace always says what a write replaces; should it ever not, a key that was deleted must not
/// come back to life.
#[tokio::test]
async fn a_deletion_that_does_not_say_what_it_replaces_removes_it_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let mut model = Model::new(13);
    for _ in 0..20 {
        let group = model.group(10).into_iter().map(|entry| match entry {
            Entry::Record(record) => {
                let mut record = Record::clone(&record);
                record.events.iter_mut().for_each(|event| event.prev = None);
                Entry::Record(Arc::new(record))
            }
            other => other,
        });
        journal.commit(group.collect()).await.unwrap();
    }
    journal.compact(Revision(150)).await.unwrap();
    settle(dir.path(), journal).await;
    assert_recovered(13, &reopen(dir.path()).await);
}

#[tokio::test]
async fn under_steady_compaction_the_file_keeps_its_size_and_gives_back_what_a_peak_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let mut revision = 1;
    let mut commit = |len: usize| {
        revision += 1;
        let kv = |revision, version| KeyValue {
            key: Bytes::from_static(b"/k"),
            value: vec![b'x'; len].into(),
            create_revision: Revision(2),
            mod_revision: Revision(revision),
            version,
            lease: None,
        };
        let prev = (revision > 2).then(|| kv(revision - 1, revision - 2));
        let record = Record {
            revision: Revision(revision),
            time: None,
            events: [Event::put(kv(revision, revision - 1), prev)].into(),
        };
        (Revision(revision), vec![Entry::Record(Arc::new(record))])
    };
    // A peak of 48 MiB, then a steady flow in which 20 revisions are kept.
    for _ in 0..96 {
        journal.commit(commit(512 << 10).1).await.unwrap();
    }
    let mut steady = Vec::new();
    for round in 0..300 {
        let (now, group) = commit(4 << 10);
        journal.commit(group).await.unwrap();
        journal.compact(Revision(now.0 - 20)).await.unwrap();
        if round % 100 == 99 {
            settle(dir.path(), journal).await;
            steady.push(counts(dir.path()));
            journal = SqliteJournal::open(dir.path()).unwrap();
        }
    }
    let (events, pages, _) = steady[0];
    assert_eq!(events, 22, "one as it was before the oldest, and the window");
    assert!(pages < 48 * 256 / 2, "{pages} pages are left of the peak");
    assert!(
        steady.iter().all(|now| now.1 <= pages),
        "the file grows: {steady:?}"
    );
}
