//! Nothing is shown before it is durable, and what could not be made durable did not happen.

use std::time::Duration;

use super::{Rig, is_journal_error, is_silent, poll_once, settle};
use crate::conformance::{MemoryJournal, both};
use crate::error::Error;
use crate::key::{KeyRange, key};
use crate::lease::LeaseId;
use crate::revision::Revision;
use crate::settings::Settings;
use crate::txn::{Compare, PutRequest, RangeRequest, Txn};

const MINUTE: Duration = Duration::from_secs(60);
const ALMOST_A_MINUTE: Duration = Duration::from_secs(59);

#[test]
fn nothing_is_visible_before_the_journal_has_it() {
    Rig::run(async |Rig { ks, journal, .. }| {
        ks.put("/a", "1").await.unwrap();
        let mut watch = ks.watch(KeyRange::all()).start().await.unwrap();
        let before = ks.status().await.unwrap();
        journal.hold();
        let write = Txn::new()
            .put(PutRequest::new("/a", "2"))
            .put(PutRequest::new("/b", "1"));
        let (written, ()) = both(ks.txn(write), async {
            journal.wait_begun(2).await;
            assert_eq!(ks.get("/a").await.unwrap().unwrap().value, "1");
            assert_eq!(ks.get("/b").await.unwrap(), None);
            let status = ks.status().await.unwrap();
            assert_eq!(status, before);
            let next = RangeRequest {
                revision: Some(before.revision.next()),
                ..RangeRequest::new(KeyRange::all())
            };
            let error = ks.range(next).await.unwrap_err();
            assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
            let compare = Txn::new().when(Compare::exists(key("/b").unwrap()));
            assert!(!ks.txn(compare).await.unwrap().succeeded);
            assert!(is_silent(&mut watch));
            let late = ks.watch(KeyRange::all()).start().await.unwrap();
            assert_eq!(late.created().revision, before.revision);
            assert_eq!(journal.commits(), 1, "it has not been synced all the while");
            journal.release();
        })
        .await;
        let revision = written.unwrap().header.revision;
        assert_eq!(journal.commits(), 2, "it was synced before it was acknowledged");
        assert_eq!(ks.get("/b").await.unwrap().unwrap().mod_revision, revision);
        assert_eq!(watch.next().await.unwrap().revision(), revision);
    });
}

#[test]
fn a_held_grant_attachment_and_revocation_are_not_seen() {
    Rig::run(async |Rig { ks, journal, .. }| {
        let old = ks.lease_grant(Some(LeaseId(1)), MINUTE).await.unwrap().1.id;
        ks.txn(PutRequest::new("/a", "1").lease(old).into())
            .await
            .unwrap();
        let held = async |change: &mut dyn FnMut() -> super::Pin<Box<dyn Future<Output = ()>>>| {
            journal.hold();
            let begun = journal.begun();
            both(change(), async {
                journal.wait_begun(begun + 1).await;
                let info = ks.lease_info(old).await.unwrap().1;
                assert_eq!((info.keys, info.granted), (vec!["/a".into()], MINUTE));
                assert_eq!(ks.lease_list().await.unwrap().1, [old]);
                assert_eq!(ks.status().await.unwrap().leases, 1);
                let error = ks.lease_info(LeaseId(2)).await.unwrap_err();
                assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
                let error = ks.lease_keep_alive(LeaseId(2)).await.unwrap_err();
                assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
                assert_eq!(ks.lease_keep_alive(old).await.unwrap().1, MINUTE);
                journal.fail_commit(0);
                journal.release();
            })
            .await;
        };
        // Each of them fails in the end, so that the next one finds everything as it was.
        held(&mut || {
            let ks = ks.clone();
            Box::pin(async move {
                let granted = ks.lease_grant(Some(LeaseId(2)), MINUTE).await;
                assert!(is_journal_error(&granted), "{granted:?}");
            })
        })
        .await;
        held(&mut || {
            let ks = ks.clone();
            Box::pin(async move {
                let attached = ks.txn(PutRequest::new("/b", "1").lease(LeaseId(1)).into()).await;
                assert!(is_journal_error(&attached), "{attached:?}");
            })
        })
        .await;
        held(&mut || {
            let ks = ks.clone();
            Box::pin(async move {
                let detached = ks.put("/a", "2").await;
                assert!(is_journal_error(&detached), "{detached:?}");
            })
        })
        .await;
        held(&mut || {
            let ks = ks.clone();
            Box::pin(async move {
                let revoked = ks.lease_revoke(LeaseId(1)).await;
                assert!(is_journal_error(&revoked), "{revoked:?}");
            })
        })
        .await;
        assert_eq!(ks.lease_info(old).await.unwrap().1.keys, ["/a"]);
        ks.lease_revoke(old).await.unwrap();
        assert_eq!(ks.get("/a").await.unwrap(), None);
    });
}

#[test]
fn while_one_group_is_written_the_next_one_gathers() {
    Rig::run(async |Rig { ks, journal, .. }| {
        journal.hold();
        let others = async {
            journal.wait_begun(1).await;
            let more = both(
                both(ks.put("/b", "1"), ks.put("/c", "1")),
                both(ks.put("/d", "1"), ks.put("/e", "1")),
            );
            let release = async {
                settle().await;
                journal.release();
            };
            both(more, release).await.0
        };
        let (first, ((b, c), (d, e))) = both(ks.put("/a", "1"), others).await;
        let revisions = [first, b, c, d, e].map(|revision| revision.unwrap().0);
        assert_eq!(
            revisions,
            [2, 3, 4, 5, 6],
            "transactions never merge into one revision"
        );
        assert_eq!(journal.commits(), 2);
    });
}

#[test]
fn a_member_of_a_group_sees_those_before_it() {
    Rig::run(async |Rig { ks, journal, .. }| {
        journal.hold();
        let create = |value: &'static str| {
            let txn = Txn::new().when(Compare::absent(key("/a").unwrap()));
            ks.txn(txn.put(PutRequest::new("/a", value)))
        };
        let pair = async {
            journal.wait_begun(1).await;
            let release = async {
                settle().await;
                journal.release();
            };
            both(both(create("1"), create("2")), release).await.0
        };
        let (_, (one, two)) = both(ks.put("/first", ""), pair).await;
        assert_eq!(journal.commits(), 2);
        assert!(one.unwrap().succeeded && !two.unwrap().succeeded);
        assert_eq!(ks.get("/a").await.unwrap().unwrap().value, "1");
    });
}

#[test]
fn a_failed_group_fails_each_member_and_leaves_memory_as_it_was() {
    Rig::run(async |rig| {
        let Rig { ks, journal, .. } = rig;
        let lease = ks.lease_grant(Some(LeaseId(1)), MINUTE).await.unwrap().1.id;
        ks.txn(PutRequest::new("/leased", "1").lease(lease).into())
            .await
            .unwrap();
        ks.put("/old", "1").await.unwrap();
        journal.hold();
        let begun = journal.begun();
        let first = ks.put("/first", "1");
        let rest = async {
            journal.wait_begun(begun + 1).await;
            journal.fail_commit(1);
            let keep = PutRequest {
                ignore_value: true,
                ..PutRequest::new("/none", "")
            };
            let members = both(
                both(
                    both(ks.put("/new", "1"), ks.delete(key("/old").unwrap())),
                    both(ks.put("/leased", "2"), ks.txn(keep.into())),
                ),
                both(ks.lease_grant(Some(LeaseId(2)), MINUTE), ks.lease_revoke(lease)),
            );
            let release = async {
                settle().await;
                journal.release();
            };
            both(Box::pin(members), release).await.0
        };
        let (first, (((put, delete), (leased, keep)), (grant, revoke))) = both(first, Box::pin(rest)).await;
        let current = first.unwrap();
        assert!(is_journal_error(&put) && is_journal_error(&leased) && is_journal_error(&revoke));
        assert!(is_journal_error(&delete) && is_journal_error(&grant));
        assert!(
            is_journal_error(&keep),
            "its refusal rests on what did not happen"
        );
        assert_eq!(journal.begun(), begun + 2, "all of them were one group");

        assert_eq!(rig.keys().await, ["/first", "/leased", "/old"]);
        let status = ks.status().await.unwrap();
        assert_eq!((status.revision, status.keys, status.leases), (current, 3, 1));
        assert_eq!(status.bytes, "/first1/leased1/old1".len() as u64);
        assert_eq!(ks.lease_info(lease).await.unwrap().1.keys, ["/leased"]);
        let again = ks.put("/again", "1").await.unwrap();
        assert_eq!(again, current.next(), "the revisions were not used up");
        let mut watch = ks
            .watch(KeyRange::all())
            .from_revision(again)
            .start()
            .await
            .unwrap();
        assert_eq!(watch.next().await.unwrap().iter().next().unwrap().key(), "/again");
    });
}

#[test]
fn a_write_happens_although_nobody_waits_for_it() {
    Rig::run(async |Rig { ks, journal, .. }| {
        let mut watch = ks.watch(key("/a").unwrap()).start().await.unwrap();
        journal.hold();
        let mut write = Box::pin(ks.put("/a", "1"));
        assert!(poll_once(&mut write).is_pending());
        drop(write);
        journal.release();
        assert_eq!(watch.next().await.unwrap().revision(), Revision(2));
        assert_eq!(ks.get("/a").await.unwrap().unwrap().value, "1");
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_what_failed_is_not() {
    let journal = MemoryJournal::new();
    Rig::run_on(
        &journal,
        Settings::default(),
        async |Rig { ks, journal, .. }| {
            ks.put("/a", "1").await.unwrap();
            journal.fail_commit(1);
            assert!(is_journal_error(&ks.put("/b", "1").await));
            ks.put("/c", "1").await.unwrap();
        },
    );
    Rig::run_on(&journal, Settings::default(), async |rig| {
        assert_eq!(rig.keys().await, ["/a", "/c"]);
        let mut watch = rig
            .ks
            .watch(KeyRange::all())
            .from_revision(Revision(2))
            .start()
            .await
            .unwrap();
        for revision in [2, 3] {
            let batch = watch.next().await.unwrap();
            assert_eq!(batch.revision(), Revision(revision), "history is durable");
            assert!(batch.time().is_some());
        }
    });
}

#[test]
fn a_restart_re_arms_the_full_time_to_live() {
    let journal = MemoryJournal::new();
    Rig::run_on(
        &journal,
        Settings::default(),
        async |Rig { ks, clock, .. }| {
            let lease = ks.lease_grant(Some(LeaseId(1)), MINUTE).await.unwrap().1.id;
            ks.txn(PutRequest::new("/a", "1").lease(lease).into())
                .await
                .unwrap();
            clock.advance(ALMOST_A_MINUTE);
            settle().await;
        },
    );
    Rig::run_on(&journal, Settings::default(), async |rig| {
        let Rig { ks, clock, .. } = rig;
        let info = ks.lease_info(LeaseId(1)).await.unwrap().1;
        assert_eq!((info.remaining, info.keys), (MINUTE, vec!["/a".into()]));
        clock.advance(ALMOST_A_MINUTE);
        settle().await;
        assert_eq!(rig.keys().await, ["/a"]);
        clock.advance(Duration::from_secs(1));
        settle().await;
        assert_eq!(rig.keys().await, [""; 0]);
    });
    Rig::run_on(&journal, Settings::default(), async |rig| {
        assert_eq!(rig.ks.lease_list().await.unwrap().1, []);
        assert_eq!(rig.keys().await, [""; 0]);
    });
}

#[test]
fn leases_that_could_not_expire_expire_later() {
    Rig::run(async |rig| {
        let Rig { ks, journal, clock } = rig;
        for id in [1, 2] {
            ks.lease_grant(Some(LeaseId(id)), MINUTE).await.unwrap();
            let put = PutRequest::new(format!("/{id}"), "").lease(LeaseId(id));
            ks.txn(put.into()).await.unwrap();
        }
        journal.fail_commit(1);
        clock.advance(MINUTE);
        settle().await;
        assert_eq!(rig.keys().await, ["/1", "/2"]);
        let error = ks.lease_keep_alive(LeaseId(1)).await.unwrap_err();
        assert!(
            matches!(error, Error::LeaseNotFound { .. }),
            "it has expired all the same"
        );
        let late = PutRequest::new("/late", "").lease(LeaseId(1));
        let error = ks.txn(late.into()).await.unwrap_err();
        assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
        let before = ks.status().await.unwrap().revision;
        clock.advance(Duration::from_secs(10));
        settle().await;
        assert_eq!(rig.keys().await, [""; 0]);
        let after = ks.status().await.unwrap().revision;
        assert_eq!(after.0, before.0 + 2, "each lease ends at a revision of its own");
    });
}
