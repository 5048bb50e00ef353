//! The quota, the history window, and reads that take long.

use std::time::Duration;

use super::{Rig, is_journal_error, poll_once, settle};
use crate::conformance::{MemoryJournal, block_on};
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{KeyRange, key};
use crate::keyspace::Keyspace;
use crate::revision::Revision;
use crate::settings::{HistoryWindow, Settings};
use crate::txn::{PutRequest, RangeRequest, Txn};

fn window(history: HistoryWindow) -> Settings {
    Settings {
        history,
        ..Settings::default()
    }
}

fn unbounded() -> HistoryWindow {
    HistoryWindow {
        max_revisions: None,
        max_bytes: u64::MAX,
        max_age: Duration::MAX,
    }
}

#[test]
fn a_full_keyspace_refuses_growth_and_nothing_else() {
    let settings = Settings {
        quota_bytes: 20,
        ..Settings::default()
    };
    Rig::run_on(&MemoryJournal::new(), settings, async |Rig { ks, .. }| {
        ks.put("/a", "12345678").await.unwrap();
        ks.put("/b", "12345678").await.unwrap();
        let error = ks.put("/c", "").await.unwrap_err();
        assert!(matches!(error, Error::NoSpace { used: 20, quota: 20 }), "{error}");
        let error = ks.put("/a", "123456789").await.unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        ks.put("/a", "87654321").await.unwrap();
        let swap = Txn::new()
            .put(PutRequest::new("/c", "12345678"))
            .delete(key("/b").unwrap());
        ks.txn(swap).await.unwrap();
        assert!(ks.get("/c").await.unwrap().is_some(), "reads go on");
        ks.delete(key("/a").unwrap()).await.unwrap();
        ks.put("/d", "1234").await.unwrap();
        let status = ks.status().await.unwrap();
        assert_eq!((status.keys, status.bytes, status.quota), (2, 16, 20));
    });
}

#[test]
fn history_is_bounded_by_revisions_here_and_in_the_journal() {
    let settings = window(HistoryWindow {
        max_revisions: Some(10),
        ..unbounded()
    });
    let journal = MemoryJournal::new();
    Rig::run_on(&journal, settings, async |Rig { ks, .. }| {
        for value in 0..30 {
            ks.put("/a", value.to_string()).await.unwrap();
        }
        settle().await;
        let status = ks.status().await.unwrap();
        assert_eq!((status.revision, status.oldest), (Revision(31), Revision(22)));
        let mut watch = ks
            .watch(KeyRange::all())
            .from_revision(Revision(22))
            .start()
            .await
            .unwrap();
        assert_eq!(watch.next().await.unwrap().revision(), Revision(22));
    });
    let recovered = block_on(journal.clone().recover()).unwrap();
    assert_eq!((recovered.oldest, recovered.records.len()), (Revision(22), 10));
}

#[test]
fn history_is_bounded_by_bytes() {
    let settings = window(HistoryWindow {
        max_bytes: 100_000,
        ..unbounded()
    });
    Rig::run_on(&MemoryJournal::new(), settings, async |Rig { ks, .. }| {
        for value in 0..100 {
            ks.put("/a", vec![value; 2_000]).await.unwrap();
            settle().await;
            assert!(ks.status().await.unwrap().history_bytes <= 100_000);
        }
        assert!(
            ks.status().await.unwrap().history_bytes > 80_000,
            "no more than needed is forgotten"
        );
    });
}

#[test]
fn history_is_bounded_by_age_but_the_last_revision_stays() {
    let settings = window(HistoryWindow {
        max_age: Duration::from_secs(60),
        ..unbounded()
    });
    Rig::run_on(
        &MemoryJournal::new(),
        settings,
        async |Rig { ks, clock, .. }| {
            ks.put("/a", "1").await.unwrap();
            clock.advance(Duration::from_secs(40));
            ks.put("/a", "2").await.unwrap();
            settle().await;
            assert_eq!(ks.status().await.unwrap().oldest, Revision(1));
            clock.advance(Duration::from_secs(40));
            settle().await;
            assert_eq!(ks.status().await.unwrap().oldest, Revision(3));
            clock.advance(Duration::from_secs(400));
            settle().await;
            assert_eq!(ks.status().await.unwrap().oldest, Revision(3));
            assert_eq!(ks.get("/a").await.unwrap().unwrap().value, "2");
        },
    );
}

#[test]
fn the_window_of_a_keyspace_in_memory_is_kept_by_its_driver() {
    let settings = window(HistoryWindow {
        max_revisions: Some(32),
        ..unbounded()
    });
    block_on(async {
        let clock = std::sync::Arc::new(crate::clock::ManualClock::new());
        let builder = Keyspace::builder().settings(settings).clock(clock);
        let ks = builder.open().await.unwrap();
        crate::conformance::drive(ks.driver(), async {
            for value in 0..33 {
                ks.put("/a", value.to_string()).await.unwrap();
            }
            settle().await;
            let status = ks.status().await.unwrap();
            assert_eq!(
                status.oldest,
                Revision(5),
                "30 of 33 remain, so that there is some room"
            );
        })
        .await;
    });
}

#[test]
fn a_compaction_that_the_journal_refuses_is_made_later() {
    let settings = window(HistoryWindow {
        max_revisions: Some(3),
        ..unbounded()
    });
    Rig::run_on(
        &MemoryJournal::new(),
        settings,
        async |Rig { ks, journal, clock }| {
            journal.fail_compactions(true);
            for value in 0..9 {
                ks.put("/a", value.to_string()).await.unwrap();
            }
            assert!(is_journal_error(&ks.compact(Revision(4)).await));
            settle().await;
            assert_eq!(ks.status().await.unwrap().oldest, Revision(1));
            journal.fail_compactions(false);
            clock.advance(Duration::from_secs(60));
            settle().await;
            assert_eq!(ks.status().await.unwrap().oldest, Revision(8));
        },
    );
}

#[test]
fn a_long_read_is_of_one_revision_whatever_happens_meanwhile() {
    const KEYS: usize = 5_000;
    block_on(async {
        let ks = Keyspace::memory();
        for at in 0..KEYS {
            ks.put(format!("/{at:05}"), "old").await.unwrap();
        }
        let before = ks.status().await.unwrap().revision;
        let request = RangeRequest::new(KeyRange::all());
        let mut current = Box::pin(ks.range(request.clone()));
        let mut fixed = Box::pin(ks.range(RangeRequest {
            revision: Some(before),
            ..request
        }));
        assert!(poll_once(&mut current).is_pending() && poll_once(&mut fixed).is_pending());
        ks.delete(key("/00000").unwrap()).await.unwrap();
        ks.put("/99999", "new").await.unwrap();
        assert!(poll_once(&mut current).is_pending() && poll_once(&mut fixed).is_pending());
        let last = ks.put("/99998", "new").await.unwrap();
        ks.compact(last).await.unwrap();
        let (header, response) = current.await.unwrap();
        assert_eq!(header.revision, last, "it began anew where it could be read");
        assert_eq!((response.kvs.len(), response.count), (KEYS + 1, KEYS as u64 + 1));
        assert_eq!(response.kvs[0].key, "/00001");
        let error = fixed.await.unwrap_err();
        assert!(
            matches!(error, Error::Compacted { requested, .. } if requested == before),
            "{error}"
        );
    });
}

#[test]
fn a_long_read_that_is_not_overtaken_shows_what_was_when_it_began() {
    const KEYS: usize = 3_000;
    block_on(async {
        let ks = Keyspace::memory();
        for at in 0..KEYS {
            ks.put(format!("/{at:05}"), "old").await.unwrap();
        }
        let before = ks.status().await.unwrap().revision;
        let mut read = Box::pin(ks.range(RangeRequest::new(KeyRange::all())));
        assert!(poll_once(&mut read).is_pending());
        ks.put("/99999", "new").await.unwrap();
        let (header, response) = read.await.unwrap();
        assert_eq!((header.revision, response.kvs.len()), (before, KEYS));
    });
}

#[test]
fn a_long_compaction_forgets_everything_before_its_revision() {
    block_on(async {
        let ks = Keyspace::memory();
        let mut last = Revision::INITIAL;
        for at in 0..3_000 {
            last = ks.put("/a", at.to_string()).await.unwrap();
        }
        let full = ks.status().await.unwrap().history_bytes;
        ks.compact(last).await.unwrap();
        let status = ks.status().await.unwrap();
        assert_eq!(status.oldest, last);
        assert!(status.history_bytes * 2_000 < full);
    });
}
