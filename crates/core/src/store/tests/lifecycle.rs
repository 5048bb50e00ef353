//! How a keyspace begins and ends.

use std::sync::Arc;
use std::time::Duration;

use super::{Rig, poll_once, revisions_to_the_end, settle};
use crate::backend::BoxFuture;
use crate::clock::ManualClock;
use crate::conformance::{MemoryJournal, block_on, both, drive};
use crate::error::{Cause, Error};
use crate::event::{Event, KeyValue, Record};
use crate::journal::{Entry, Journal, Recovered};
use crate::key::KeyRange;
use crate::keyspace::Keyspace;
use crate::lease::LeaseId;
use crate::revision::{KeyspaceId, Revision};
use crate::settings::Settings;
use crate::watch::EndReason;

#[test]
fn closing_finishes_what_was_accepted_and_refuses_what_comes_later() {
    let journal = MemoryJournal::new();
    block_on(async {
        let Rig { ks, journal, .. } = Rig::open(&journal, Settings::default()).await;
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        journal.hold();
        let body = async {
            let accepted = both(ks.put("/a", "1"), ks.put("/b", "1"));
            let close = async {
                journal.wait_begun(1).await;
                ks.backend().close(EndReason::Canceled);
                for error in [
                    ks.put("/c", "1").await.unwrap_err(),
                    ks.lease_grant(None, Duration::from_secs(9)).await.unwrap_err(),
                    ks.lease_revoke(LeaseId(1)).await.unwrap_err(),
                    ks.lease_keep_alive(LeaseId(1)).await.unwrap_err(),
                    ks.compact(Revision(1)).await.unwrap_err(),
                ] {
                    assert!(matches!(error, Error::Closed), "{error}");
                }
                journal.release();
            };
            both(accepted, close).await.0
        };
        let ((a, b), ()) = both(body, ks.driver()).await;
        assert_eq!([a.unwrap(), b.unwrap()], [Revision(2), Revision(3)]);
        assert_eq!(revisions_to_the_end(&mut watch).await, [2, 3]);
        let ended = watch.next().await.unwrap_err();
        assert!(matches!(ended.reason, EndReason::Canceled), "{ended:?}");
        assert!(ks.get("/b").await.unwrap().is_some(), "reads go on");
    });
    Rig::run_on(&journal, Settings::default(), async |rig| {
        assert_eq!(rig.keys().await, ["/a", "/b"]);
    });
}

#[test]
fn when_its_driver_is_dropped_nobody_waits_for_ever() {
    block_on(async {
        let Rig { ks, journal, .. } = Rig::open(&MemoryJournal::new(), Settings::default()).await;
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        let mut driver = ks.driver();
        let mut first = Box::pin(ks.put("/first", "1"));
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut driver).is_pending());
        first.await.unwrap();
        journal.hold();
        let mut committing = Box::pin(ks.put("/committing", "1"));
        assert!(poll_once(&mut committing).is_pending());
        assert!(poll_once(&mut driver).is_pending());
        let mut queued = Box::pin(ks.put("/queued", "1"));
        assert!(poll_once(&mut queued).is_pending());
        drop(driver);
        let error = committing.await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        let error = queued.await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
        let error = ks.put("/late", "1").await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
        assert_eq!(revisions_to_the_end(&mut watch).await, [2]);
        assert_eq!(ks.get("/committing").await.unwrap(), None);
        assert_eq!(ks.status().await.unwrap().keys, 1);
    });
}

#[test]
fn a_driver_that_is_dropped_before_its_last_event_is_handed_on_leaves_nobody_waiting() {
    block_on(async {
        let builder = Keyspace::builder().clock(Arc::new(ManualClock::new()));
        let ks = builder.open().await.unwrap();
        let mut driver = ks.driver();
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        assert!(poll_once(&mut driver).is_pending());
        ks.put("/a", "1").await.unwrap();
        ks.close();
        // Its work is done at once. The dispatcher lets others run before it looks again.
        assert!(poll_once(&mut driver).is_pending());
        drop(driver);
        assert_eq!(revisions_to_the_end(&mut watch).await, [2]);
    });
}

#[test]
fn closing_without_a_driver_leaves_nobody_waiting() {
    block_on(async {
        let Rig { ks, .. } = Rig::open(&MemoryJournal::new(), Settings::default()).await;
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        let mut queued = Box::pin(ks.put("/queued", "1"));
        assert!(poll_once(&mut queued).is_pending());
        ks.close();
        assert!(matches!(queued.await, Err(Error::Closed)));
        assert!(matches!(
            watch.next().await.unwrap_err().reason,
            EndReason::Closed
        ));
    });
}

#[test]
fn in_memory_watches_get_all_that_was_written_before_the_close() {
    block_on(async {
        let ks = Keyspace::memory();
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        ks.put("/a", "1").await.unwrap();
        ks.put("/b", "1").await.unwrap();
        ks.close();
        assert_eq!(revisions_to_the_end(&mut watch).await, [2, 3]);
        assert!(matches!(ks.put("/c", "1").await, Err(Error::Closed)));
    });
}

#[test]
fn the_last_handle_closes_the_keyspace() {
    block_on(async {
        let Rig { ks, .. } = Rig::open(&MemoryJournal::new(), Settings::default()).await;
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        let driver = ks.driver();
        drop(ks);
        driver.await;
        assert!(matches!(
            watch.next().await.unwrap_err().reason,
            EndReason::Closed
        ));
    });
}

#[test]
fn there_is_one_driver() {
    block_on(async {
        let Rig { ks, .. } = Rig::open(&MemoryJournal::new(), Settings::default()).await;
        let driver = ks.driver();
        ks.driver().await;
        drive(driver, async {
            ks.put("/a", "1").await.unwrap();
            settle().await;
        })
        .await;
    });
}

/// A journal that only remembers.
struct Memory(Option<Recovered>);

impl Journal for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, Cause>> {
        let broken = || Arc::new(std::io::Error::other("cannot be read")) as Cause;
        Box::pin(std::future::ready(self.0.take().ok_or_else(broken)))
    }

    fn commit(&mut self, _group: Vec<Entry>) -> BoxFuture<'_, Result<(), Cause>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn compact(&mut self, _oldest: Revision) -> BoxFuture<'_, Result<(), Cause>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn kv(revision: u64) -> KeyValue {
    KeyValue {
        key: "/a".into(),
        value: "1".into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    }
}

fn record(revision: u64, events: Vec<Event>) -> Record {
    Record {
        revision: Revision(revision),
        time: None,
        events: events.into(),
    }
}

#[test]
fn a_journal_that_cannot_be_read_or_contradicts_itself_is_refused() {
    let empty = || Recovered::empty(KeyspaceId(1));
    let put = |revision| record(revision, vec![Event::put(kv(revision), None)]);
    let cases: Vec<(&str, Option<Recovered>)> = vec![
        ("cannot be read", None),
        (
            "follows",
            Some(Recovered {
                revision: Revision(3),
                records: vec![put(3), put(3)],
                ..empty()
            }),
        ),
        (
            "follows",
            Some(Recovered {
                revision: Revision(9),
                oldest: Revision(5),
                records: vec![put(4)],
                ..empty()
            }),
        ),
        (
            "beyond the last one",
            Some(Recovered {
                records: vec![put(2)],
                ..empty()
            }),
        ),
        (
            "the oldest revision",
            Some(Recovered {
                oldest: Revision(2),
                ..empty()
            }),
        ),
        (
            "does not exist",
            Some(Recovered {
                revision: Revision(2),
                records: vec![record(2, vec![Event::delete(Revision(2), kv(1))])],
                ..empty()
            }),
        ),
        (
            "within revision 2",
            Some(Recovered {
                revision: Revision(2),
                records: vec![record(2, vec![Event::put(kv(7), None)])],
                ..empty()
            }),
        ),
        (
            "twice in it",
            Some(Recovered {
                revision: Revision(2),
                records: vec![record(2, vec![Event::put(kv(2), None), Event::put(kv(2), None)])],
                ..empty()
            }),
        ),
        (
            "its base",
            Some(Recovered {
                revision: Revision(3),
                oldest: Revision(3),
                base: vec![kv(2), kv(2)],
                ..empty()
            }),
        ),
        (
            "its base",
            Some(Recovered {
                revision: Revision(3),
                oldest: Revision(3),
                base: vec![kv(3)],
                ..empty()
            }),
        ),
        (
            "version 0",
            Some(Recovered {
                revision: Revision(2),
                records: vec![record(
                    2,
                    vec![Event::put(KeyValue { version: 0, ..kv(2) }, None)],
                )],
                ..empty()
            }),
        ),
    ];
    for (wanted, recovered) in cases {
        let error = block_on(Keyspace::builder().journal(Memory(recovered)).open()).unwrap_err();
        let Error::Journal(cause) = &error else {
            panic!("{wanted}: {error}");
        };
        assert!(cause.to_string().contains(wanted), "{wanted}: {cause}");
    }
}
