//! The quota, the history window, and reads that take long.

use std::time::Duration;

use super::super::driver::MAX_QUEUED_BYTES;
use super::{Rig, is_journal_error, poll_once, settle};
use crate::conformance::{MemoryJournal, block_on};
use crate::error::Error;
use crate::journal::Journal;
use crate::key::{KeyRange, key};
use crate::keyspace::Keyspace;
use crate::revision::Revision;
use crate::settings::{HistoryWindow, Settings};
use crate::txn::{Compare, Op, PutRequest, RangeRequest, Txn};

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
fn a_quota_that_was_lowered_lets_values_shrink() {
    let journal = MemoryJournal::new();
    Rig::run_on(&journal, Settings::default(), async |Rig { ks, .. }| {
        ks.put("/a", "12345678").await.unwrap();
    });
    let settings = Settings {
        quota_bytes: 5,
        ..Settings::default()
    };
    Rig::run_on(&journal, settings, async |Rig { ks, .. }| {
        ks.put("/a", "1234567").await.unwrap();
        let error = ks.put("/a", "12345678").await.unwrap_err();
        assert!(matches!(error, Error::NoSpace { used: 9, quota: 5 }), "{error}");
    });
}

#[test]
fn writers_wait_when_too_much_waits_already() {
    let put = |key: String, large: Vec<u8>| PutRequest::new(key, large).into();
    assert_that_writers_wait(put);
    // What a transaction only compares with waits in memory as well.
    assert_that_writers_wait(|key, large| {
        Txn::new()
            .when(Compare::value(KeyRange::all(), large))
            .or_else(Op::Put(PutRequest::new(key, "")))
    });
}

fn assert_that_writers_wait(txn: impl Fn(String, Vec<u8>) -> Txn) {
    const LARGE: usize = 1024 * 1024;
    Rig::run(async |Rig { ks, journal, .. }| {
        journal.hold();
        let write = |at: usize| Box::pin(ks.txn(txn(format!("/{at}"), vec![b'v'; LARGE])));
        // The first is being committed, so many more have room in the queue, and one has not.
        let mut writes: Vec<_> = (0..MAX_QUEUED_BYTES / LARGE + 2).map(write).collect();
        assert!(poll_once(&mut writes[0]).is_pending());
        journal.wait_begun(1).await;
        assert!(
            writes
                .iter_mut()
                .skip(1)
                .all(|write| poll_once(write).is_pending())
        );
        let waiting = writes.split_off(writes.len() - 3);
        drop(waiting);
        journal.release();
        for write in writes {
            write.await.unwrap();
        }
        settle().await;
        let keys = ks.status().await.unwrap().keys;
        let sent = MAX_QUEUED_BYTES / LARGE;
        assert_eq!(
            keys, sent as u64,
            "those without room were never sent, and are gone with their futures"
        );
    });
}

#[test]
fn a_window_that_is_far_exceeded_is_compacted_in_steps() {
    let journal = MemoryJournal::new();
    Rig::run_on(&journal, window(unbounded()), async |Rig { ks, .. }| {
        for at in 0..100 {
            // A hundred at a time, to be quick.
            let mut writes: Vec<_> = (0..100).map(|_| Box::pin(ks.put("/a", at.to_string()))).collect();
            for write in &mut writes {
                assert!(poll_once(write).is_pending());
            }
            for write in writes {
                write.await.unwrap();
            }
        }
    });
    let settings = window(HistoryWindow {
        max_revisions: Some(10),
        ..unbounded()
    });
    Rig::run_on(&journal, settings, async |Rig { ks, .. }| {
        let mut last = Revision::INITIAL;
        loop {
            let status = ks.status().await.unwrap();
            assert!(status.oldest.0 - last.0 <= 4096);
            last = status.oldest;
            if last == Revision(10_001 - 9) {
                break;
            }
            settle().await;
        }
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
