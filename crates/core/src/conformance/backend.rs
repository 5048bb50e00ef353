//! What every [`Backend`](crate::Backend) must do.
//!
//! Each test takes a fresh, empty keyspace and runs its driver beside it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{both, drive};
use crate::backend::BoxFuture;
use crate::clock::ManualClock;
use crate::error::Error;
use crate::event::{EventKind, KeyValue};
use crate::key::{KeyRange, key, prefix, range};
use crate::keyspace::Keyspace;
use crate::lease::{LeaseGrant, LeaseId};
use crate::limits::{MAX_KEY_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
use crate::revision::{KeyspaceId, Position, Revision};
use crate::store::KeyspaceBuilder;
use crate::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Op, OpResponse, PutRequest, RangeRequest,
    RangeResponse, Sort, SortBy, Txn,
};
use crate::watch::{Batch, BatchKind, EndReason, EventRef, Prev, Watch};

/// A keyspace to be tested, and what belongs to it.
pub struct Subject {
    /// The keyspace: empty, and nobody else writes to it. Its driver is not running yet.
    pub keyspace: Keyspace,
    /// What can be asked of it.
    pub capabilities: Capabilities,
    advance: Box<dyn FnMut(Duration) -> BoxFuture<'static, ()> + Send>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// What not every backend promises.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// A new keyspace is at revision 1, and each write makes the next one.
    pub dense_revisions: bool,
    /// Commit times are known.
    pub commit_times: bool,
}

impl Default for Capabilities {
    /// Those of the embedded backends.
    fn default() -> Self {
        Self {
            dense_revisions: true,
            commit_times: true,
        }
    }
}

impl Subject {
    /// A keyspace with the capabilities of the embedded backends. `advance` makes its time move on, by
    /// waiting or otherwise.
    pub fn new(
        keyspace: Keyspace,
        advance: impl FnMut(Duration) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        Self {
            keyspace,
            capabilities: Capabilities::default(),
            advance: Box::new(advance),
            kept: Vec::new(),
        }
    }

    /// An embedded keyspace, on a clock that is moved by hand.
    ///
    /// # Errors
    /// Those of [`KeyspaceBuilder::open`].
    pub async fn embedded(builder: KeyspaceBuilder) -> Result<Self, Error> {
        let clock = ManualClock::new();
        let keyspace = builder.clock(Arc::new(clock.clone())).open().await?;
        Ok(Self::new(keyspace, move |by| {
            clock.advance(by);
            Box::pin(std::future::ready(()))
        }))
    }

    /// Says what can be asked of it.
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Keeps something alive as long as the keyspace is tested: a directory, a server.
    pub fn keep(mut self, what: impl Any + Send) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// Runs a test with the driver beside it.
    pub async fn check<F>(self, test: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Result<(), Error>>,
    {
        let driver = self.keyspace.driver();
        let outcome = drive(driver, test(self)).await;
        assert!(outcome.is_ok(), "a call failed: {outcome:?}");
    }

    async fn advance(&mut self, by: Duration) {
        (self.advance)(by).await;
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("keyspace", &self.keyspace)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// The tests of a backend.
///
/// `$run` runs a future to its end: [`block_on`](crate::conformance::block_on), or that of a
/// runtime which the backend needs. `$fixture` is a function without arguments whose future makes a
/// [`Subject`](crate::conformance::Subject) with an empty keyspace of its own.
///
/// ```
/// use tidewatch_core::Keyspace;
/// use tidewatch_core::conformance::{Subject, block_on};
///
/// async fn in_memory() -> Subject {
///     Subject::embedded(Keyspace::builder()).await.unwrap()
/// }
///
/// tidewatch_core::backend_conformance!(block_on, in_memory);
/// ```
#[macro_export]
macro_rules! backend_conformance {
    ($run:expr, $fixture:expr) => {
        $crate::backend_conformance! { @each $run, $fixture;
            a_new_keyspace_is_empty
            what_was_put_is_read_back
            each_change_has_a_greater_revision
            versions_count_writes_since_the_creation
            deleting_what_is_not_there_changes_nothing
            deletions_say_what_they_removed
            old_revisions_read_as_they_were
            ranges_hold_what_they_should
            limits_counts_and_partial_entries
            entries_come_in_the_order_asked_for
            revision_filters_leave_out_entries
            a_revision_in_the_future_is_refused
            keys_and_values_may_be_any_bytes
            compares_hold_or_not
            compares_of_ranges_hold_for_every_key
            a_transaction_is_one_revision
            the_branch_not_taken_does_not_happen
            a_transaction_sees_its_own_writes
            nested_transactions_are_decided_before_anything_happens
            a_transaction_that_only_reads_makes_no_revision
            a_transaction_that_fails_changes_nothing
            writes_can_keep_the_value_or_the_lease
            what_is_too_large_or_wrong_is_refused_by_name
            concurrent_compare_and_swaps_lose_nothing
            compaction_keeps_its_own_revision_and_forgets_what_was_before
            compaction_refuses_what_was_compacted_or_is_to_come
            a_lease_takes_its_keys_along_at_one_revision
            a_lease_that_nobody_keeps_alive_expires
            a_key_belongs_to_its_last_lease
            leases_are_refused_by_name
            a_watch_delivers_what_comes_after_its_boundary
            a_watch_delivers_a_transaction_whole_and_in_order
            a_watch_begins_with_a_snapshot
            a_watch_goes_on_from_an_old_revision
            a_watch_resumes_after_a_position
            a_watch_sees_a_deletion_at_the_compaction_revision
            a_watch_from_a_compacted_revision_says_so
            a_watch_of_another_keyspace_says_so
            a_watch_shows_what_was_there_before
            a_watch_leaves_out_what_was_not_asked_for
            a_watch_of_several_ranges_delivers_once
            closing_ends_everything
        }
    };
    (@each $run:expr, $fixture:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $run(async {
                    let subject: $crate::conformance::Subject = $fixture().await;
                    subject.check($crate::conformance::backend::$name).await;
                });
            }
        )*
    };
}

/// Nothing is there, and status says so.
pub async fn a_new_keyspace_is_empty(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let response = read(ks, RangeRequest::new(KeyRange::all())).await?;
    assert_eq!((response.kvs, response.count, response.more), (vec![], 0, false));
    assert_eq!(ks.get("/a").await?, None);
    let status = ks.status().await?;
    assert_eq!((status.keys, status.bytes), (0, 0));
    assert_ne!(status.keyspace, KeyspaceId(0));
    if subject.capabilities.dense_revisions {
        assert_eq!(status.revision, Revision::INITIAL);
    }
    Ok(())
}

/// A write is seen by every read after it.
pub async fn what_was_put_is_read_back(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let revision = ks.put("/a", "1").await?;
    let wanted = KeyValue {
        key: "/a".into(),
        value: "1".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: None,
    };
    assert_eq!(ks.get("/a").await?, Some(wanted));
    let (header, _) = ks.range(RangeRequest::new(key("/a")?)).await?;
    let status = ks.status().await?;
    assert_eq!(header.keyspace, status.keyspace);
    assert!(header.revision >= revision && status.revision >= revision);
    assert_eq!(status.keys, 1);
    Ok(())
}

/// Revisions only grow, and where they are dense, by one.
pub async fn each_change_has_a_greater_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut last = ks.status().await?.revision;
    for round in 0..10_u32 {
        let revision = match round % 3 {
            0 | 1 => ks.put("/a", round.to_string()).await?,
            _ => ks.delete(key("/a")?).await?.0,
        };
        assert!(revision > last);
        if subject.capabilities.dense_revisions {
            assert_eq!(revision, last.next());
        }
        last = revision;
    }
    Ok(())
}

/// A deletion ends a key's life; the next write begins another one.
pub async fn versions_count_writes_since_the_creation(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let created = ks.put("/a", "1").await?;
    let changed = ks.put("/a", "2").await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!(
        (kv.version, kv.create_revision, kv.mod_revision),
        (2, created, changed)
    );
    ks.delete(key("/a")?).await?;
    let again = ks.put("/a", "3").await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!(
        (kv.version, kv.create_revision, kv.mod_revision),
        (1, again, again)
    );
    Ok(())
}

/// No event, no revision.
pub async fn deleting_what_is_not_there_changes_nothing(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/b", "1").await?;
    let mut watch = ks.watch(KeyRange::all()).start().await?;
    assert_eq!(ks.delete(key("/a")?).await?, (before, 0));
    assert_eq!(ks.delete(prefix("/none/")?).await?, (before, 0));
    let after = ks.put("/b", "2").await?;
    let batch = next_events(&mut watch).await;
    assert_eq!(
        (batch.revision(), batch.len()),
        (after, 1),
        "the deletions are no events"
    );
    Ok(())
}

/// How many, and which if that was asked for.
pub async fn deletions_say_what_they_removed(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/d/c", "/d/a", "/d/b", "/e"] {
        ks.put(name, "v").await?;
    }
    let request = DeleteRequest {
        prev_kv: true,
        ..DeleteRequest::new(prefix("/d/")?)
    };
    let (_, response) = ks.apply(Op::Delete(request)).await?;
    let Some(OpResponse::Delete { deleted, prev }) = response else {
        panic!("not the answer to a deletion: {response:?}");
    };
    assert_eq!((deleted, names(&prev)), (3, vec!["/d/a", "/d/b", "/d/c"]));
    assert_eq!(ks.status().await?.keys, 1);
    Ok(())
}

/// Every revision since the last compaction can be read.
pub async fn old_revisions_read_as_they_were(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/b", "1").await?;
    let third = ks.put("/a", "2").await?;
    let (fourth, _) = ks.delete(key("/a")?).await?;
    for (revision, wanted) in [
        (first, vec![("/a", "1")]),
        (second, vec![("/a", "1"), ("/b", "1")]),
        (third, vec![("/a", "2"), ("/b", "1")]),
        (fourth, vec![("/b", "1")]),
    ] {
        let request = RangeRequest {
            revision: Some(revision),
            ..RangeRequest::new(KeyRange::all())
        };
        let (header, response) = ks.range(request).await?;
        let wanted: Vec<_> = wanted.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        assert_eq!(pairs(&response.kvs), wanted, "at {revision}");
        assert_eq!(header.revision, fourth, "the header tells the current revision");
    }
    Ok(())
}

/// A key, a prefix, an interval, from a key on, all.
pub async fn ranges_hold_what_they_should(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/a", "/a/", "/a/b", "/a0", "/b"] {
        ks.put(name, "").await?;
    }
    for (range, wanted) in [
        (key("/a")?, vec!["/a"]),
        (key("/none")?, vec![]),
        (prefix("/a/")?, vec!["/a/", "/a/b"]),
        (KeyRange::starting_with("/a"), vec!["/a", "/a/", "/a/b", "/a0"]),
        (range("/a/b", "/b")?, vec!["/a/b", "/a0"]),
        (range("/a/b", "/a/b\0")?, vec!["/a/b"]),
        (KeyRange::from_key("/a0"), vec!["/a0", "/b"]),
        (KeyRange::all(), vec!["/a", "/a/", "/a/b", "/a0", "/b"]),
    ] {
        let response = read(ks, RangeRequest::new(range.clone())).await?;
        assert_eq!(names(&response.kvs), wanted, "{range}");
        assert_eq!(response.count, wanted.len() as u64, "{range}");
    }
    Ok(())
}

/// A limit leaves the count alone; keys or counts can be had without the rest.
pub async fn limits_counts_and_partial_entries(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/a", "/b", "/c"] {
        ks.put(name, "value").await?;
    }
    let all = || RangeRequest::new(KeyRange::all());
    for (limit, keys, more) in [(1, 1, true), (2, 2, true), (3, 3, false), (9, 3, false)] {
        let request = RangeRequest {
            limit: Some(limit),
            ..all()
        };
        let response = read(ks, request).await?;
        assert_eq!(
            (response.kvs.len(), response.more, response.count),
            (keys, more, 3)
        );
    }
    let request = RangeRequest {
        keys_only: true,
        ..all()
    };
    let response = read(ks, request).await?;
    assert!(
        response
            .kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.version == 1)
    );
    let request = RangeRequest {
        count_only: true,
        ..all()
    };
    let response = read(ks, request).await?;
    assert_eq!((response.kvs, response.count, response.more), (vec![], 3, false));
    Ok(())
}

/// By each property, both ways.
pub async fn entries_come_in_the_order_asked_for(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for (name, value) in [("/c", "1"), ("/b", "0"), ("/a", "2"), ("/b", "3")] {
        ks.put(name, value).await?;
    }
    for (by, ascending) in [
        (SortBy::Key, ["/a", "/b", "/c"]),
        (SortBy::Create, ["/c", "/b", "/a"]),
        (SortBy::Mod, ["/c", "/a", "/b"]),
        (SortBy::Value, ["/c", "/a", "/b"]),
    ] {
        for descending in [false, true] {
            let mut wanted = ascending.to_vec();
            if descending {
                wanted.reverse();
            }
            let request = RangeRequest {
                sort: Some(Sort { by, descending }),
                limit: Some(2),
                ..RangeRequest::new(KeyRange::all())
            };
            let response = read(ks, request).await?;
            assert_eq!(
                names(&response.kvs),
                wanted[..2],
                "{by:?}, descending: {descending}"
            );
            assert!(response.more && response.count == 3);
        }
    }
    let request = RangeRequest {
        sort: Some(Sort {
            by: SortBy::Version,
            descending: true,
        }),
        limit: Some(1),
        ..RangeRequest::new(KeyRange::all())
    };
    assert_eq!(names(&read(ks, request).await?.kvs), ["/b"]);
    Ok(())
}

/// The bounds are inclusive, and the count does not heed them.
pub async fn revision_filters_leave_out_entries(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/a", "1").await?;
    let b = ks.put("/b", "1").await?;
    let a = ks.put("/a", "2").await?;
    let all = RangeRequest::new(KeyRange::all());
    let cases = [
        (
            RangeRequest {
                min_mod_revision: Some(a),
                ..all.clone()
            },
            "/a",
        ),
        (
            RangeRequest {
                max_mod_revision: Some(b),
                ..all.clone()
            },
            "/b",
        ),
        (
            RangeRequest {
                min_create_revision: Some(b),
                ..all.clone()
            },
            "/b",
        ),
        (
            RangeRequest {
                max_create_revision: Some(b.prev()),
                ..all.clone()
            },
            "/a",
        ),
    ];
    for (request, wanted) in cases {
        let response = read(ks, request.clone()).await?;
        assert_eq!(names(&response.kvs), [wanted], "{request:?}");
        assert_eq!(response.count, 2);
    }
    Ok(())
}

/// By a read, and by a read within a transaction, which then does not happen.
pub async fn a_revision_in_the_future_is_refused(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let current = ks.put("/a", "1").await?;
    let request = RangeRequest {
        revision: Some(current.next()),
        ..RangeRequest::new(key("/a")?)
    };
    let error = refused(ks.range(request.clone()).await);
    assert!(matches!(error, Error::FutureRevision { requested, .. } if requested == current.next()));
    let txn = Txn::new()
        .put(PutRequest::new("/a", "2"))
        .and_then(Op::Range(request));
    let error = refused(ks.txn(txn).await);
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
    assert_eq!(entry(ks, "/a").await?.value, "1");
    Ok(())
}

/// Keys need not be text, and an empty value is a value.
pub async fn keys_and_values_may_be_any_bytes(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let names: [&'static [u8]; 4] = [b"\0", b"\0\0", b"\xff\xfe", b"\xff\xff\xff"];
    for name in names {
        ks.put(name, name).await?;
    }
    ks.put("/empty", "").await?;
    for name in names {
        let kv = ks.get(name).await?.map(|kv| kv.value);
        assert_eq!(kv, Some(Bytes::from_static(name)));
    }
    assert_eq!(entry(ks, "/empty").await?.value, "");
    let response = read(ks, RangeRequest::new(KeyRange::starting_with(&b"\xff"[..]))).await?;
    assert_eq!(response.count, 2, "a prefix of the greatest bytes has no end");
    Ok(())
}

/// Each property, each relation, for a key that is there and one that is not.
pub async fn compares_hold_or_not(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, LeaseGrant { id, .. }) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    let create = ks.put("/a", "m").await?;
    let last = ks
        .txn(PutRequest::new("/a", "m").lease(id).into())
        .await?
        .header
        .revision;
    let none = Revision(0);
    // Targets that are less than, equal to and greater than what is there.
    let present = [
        [1, 2, 3].map(CompareTarget::Version),
        [create.prev(), create, create.next()].map(CompareTarget::Create),
        [last.prev(), last, last.next()].map(CompareTarget::Mod),
        ["l", "m", "n"].map(|value| CompareTarget::Value(value.into())),
        [None, Some(id), Some(LeaseId(id.0.saturating_add(1)))].map(CompareTarget::Lease),
    ];
    for [less, equal, greater] in present {
        for (target, holding) in [
            (less, [CompareOp::Greater, CompareOp::NotEqual]),
            (equal, [CompareOp::Equal, CompareOp::Equal]),
            (greater, [CompareOp::Less, CompareOp::NotEqual]),
        ] {
            assert_holds(ks, "/a", &target, &holding).await?;
        }
    }
    for target in [
        CompareTarget::Version(0),
        CompareTarget::Create(none),
        CompareTarget::Mod(none),
        CompareTarget::Lease(None),
    ] {
        assert_holds(ks, "/none", &target, &[CompareOp::Equal]).await?;
    }
    // The value of what is not there compares with nothing.
    assert_holds(ks, "/none", &CompareTarget::Value(Bytes::new()), &[]).await
}

/// A range passes if each key in it does; an empty one is an absent key.
pub async fn compares_of_ranges_hold_for_every_key(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/r/a", "1").await?;
    ks.put("/r/b", "1").await?;
    let value_is = |value: &'static str| Compare::value(prefix("/r/").expect("a prefix"), value);
    assert!(holds(ks, value_is("1")).await?);
    ks.put("/r/b", "2").await?;
    assert!(!holds(ks, value_is("1")).await?);
    assert!(holds(ks, Compare::exists(prefix("/r/")?)).await?);
    assert!(!holds(ks, Compare::absent(prefix("/r/")?)).await?);
    assert!(holds(ks, Compare::absent(prefix("/none/")?)).await?);
    Ok(())
}

/// All that a transaction writes has one revision, which is its answer's.
pub async fn a_transaction_is_one_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/old", "1").await?;
    let txn = Txn::new()
        .put(PutRequest::new("/b", "1"))
        .put(PutRequest::new("/a", "1"))
        .delete(key("/old")?);
    let response = ks.txn(txn).await?;
    assert!(response.succeeded);
    assert_eq!(response.responses.len(), 3);
    for name in ["/a", "/b"] {
        assert_eq!(entry(ks, name).await?.mod_revision, response.header.revision);
    }
    assert_eq!(ks.get("/old").await?, None);
    Ok(())
}

/// Neither its writes nor its failures.
pub async fn the_branch_not_taken_does_not_happen(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let txn = |compare| {
        Txn::new()
            .when(compare)
            .put(PutRequest::new("/then", "1"))
            .or_else(Op::Put(PutRequest::new("/else", "1").lease(LeaseId(4711))))
    };
    assert!(ks.txn(txn(Compare::absent(key("/a")?))).await?.succeeded);
    assert!(ks.get("/then").await?.is_some());
    let error = refused(ks.txn(txn(Compare::exists(key("/a")?))).await);
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    let txn = Txn::new()
        .when(Compare::exists(key("/a")?))
        .put(PutRequest::new("/then", "2"))
        .or_else(Op::Range(RangeRequest::new(key("/then")?)));
    let response = ks.txn(txn).await?;
    assert!(!response.succeeded);
    assert_eq!(entry(ks, "/then").await?.value, "1");
    Ok(())
}

/// A read within a transaction sees what was written before it, and not what comes after.
pub async fn a_transaction_sees_its_own_writes(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/a", "1").await?;
    let look = |revision| -> Result<Op, Error> {
        Ok(Op::Range(RangeRequest {
            revision,
            ..RangeRequest::new(KeyRange::all())
        }))
    };
    let txn = Txn::new()
        .and_then(look(None)?)
        .put(PutRequest::new("/b", "2"))
        .and_then(look(None)?)
        .delete(key("/a")?)
        .and_then(look(None)?)
        .and_then(look(Some(before))?);
    let response = ks.txn(txn).await?;
    let seen: Vec<_> = response
        .responses
        .iter()
        .filter_map(|response| match response {
            OpResponse::Range(RangeResponse { kvs, .. }) => Some(names(kvs)),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [vec!["/a"], vec!["/a", "/b"], vec!["/b"], vec!["/a"]]);
    Ok(())
}

/// As in etcd: no compare sees what an operation of the same transaction wrote.
pub async fn nested_transactions_are_decided_before_anything_happens(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let nested = |name: &'static str| -> Result<Op, Error> {
        let inner = Txn::new()
            .when(Compare::absent(key("/a")?))
            .put(PutRequest::new(name, "absent"))
            .or_else(Op::Put(PutRequest::new(name, "present")));
        Ok(Op::Txn(inner))
    };
    let outer = Txn::new()
        .put(PutRequest::new("/a", "1"))
        .and_then(nested("/b")?)
        .and_then(Op::Txn(Txn::new().and_then(nested("/c")?)));
    let response = ks.txn(outer).await?;
    let [
        _,
        OpResponse::Txn { succeeded: true, .. },
        OpResponse::Txn { responses, .. },
    ] = &response.responses[..]
    else {
        panic!("not what was asked for: {response:?}");
    };
    assert!(matches!(
        &responses[..],
        [OpResponse::Txn { succeeded: true, .. }]
    ));
    for name in ["/b", "/c"] {
        let kv = entry(ks, name).await?;
        assert_eq!(
            (kv.value, kv.mod_revision),
            ("absent".into(), response.header.revision)
        );
    }
    Ok(())
}

/// Also if it could have written.
pub async fn a_transaction_that_only_reads_makes_no_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/a", "1").await?;
    let read = Op::Range(RangeRequest::new(key("/a")?));
    let response = ks.txn(Txn::new().and_then(read.clone())).await?;
    assert_eq!(response.header.revision, before);
    let txn = Txn::new()
        .when(Compare::absent(key("/a")?))
        .put(PutRequest::new("/a", "2"))
        .or_else(read);
    let response = ks.txn(txn).await?;
    assert_eq!((response.succeeded, response.header.revision), (false, before));
    Ok(())
}

/// An operation that cannot be done takes those before it back, keys and leases alike.
pub async fn a_transaction_that_fails_changes_nothing(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    ks.txn(PutRequest::new("/leased", "1").lease(lease.id).into())
        .await?;
    let before = ks.status().await?;
    let keep_value = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/none", "")
    };
    let txn = Txn::new()
        .put(PutRequest::new("/a", "1").lease(lease.id))
        .delete(key("/leased")?)
        .put(keep_value);
    let error = refused(ks.txn(txn).await);
    assert!(
        matches!(&error, Error::KeyNotFound { key } if key == "/none"),
        "{error}"
    );
    let after = ks.status().await?;
    assert_eq!(
        (after.revision, after.keys, after.bytes),
        (before.revision, before.keys, before.bytes)
    );
    assert_eq!(ks.lease_info(lease.id).await?.1.keys, ["/leased"]);
    assert_eq!(entry(ks, "/leased").await?.value, "1");
    Ok(())
}

/// `ignore_value` and `ignore_lease`, and the entry before.
pub async fn writes_can_keep_the_value_or_the_lease(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    ks.put("/a", "1").await?;
    let attach = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/a", "").lease(lease.id)
    };
    ks.txn(attach.into()).await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!((kv.value, kv.lease, kv.version), ("1".into(), Some(lease.id), 2));
    let change = PutRequest {
        ignore_lease: true,
        prev_kv: true,
        ..PutRequest::new("/a", "2")
    };
    let (_, response) = ks.apply(Op::Put(change)).await?;
    let Some(OpResponse::Put { prev: Some(prev) }) = response else {
        panic!("the entry before was asked for: {response:?}");
    };
    assert_eq!((prev.value, prev.version), ("1".into(), 2));
    let kv = entry(ks, "/a").await?;
    assert_eq!((kv.value, kv.lease), ("2".into(), Some(lease.id)));
    ks.put("/a", "3").await?;
    assert_eq!(entry(ks, "/a").await?.lease, None, "a plain write detaches");
    let missing = PutRequest {
        ignore_lease: true,
        ..PutRequest::new("/none", "")
    };
    let error = refused(ks.txn(missing.into()).await);
    assert!(matches!(error, Error::KeyNotFound { .. }), "{error}");
    Ok(())
}

/// Each limit has an error of its own, and nothing is written.
pub async fn what_is_too_large_or_wrong_is_refused_by_name(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.status().await?.revision;
    let put = |name: Bytes, value: Bytes| Txn::from(PutRequest::new(name, value));
    let large = || Bytes::from(vec![b'v'; MAX_VALUE_BYTES]);
    let many = (0..=MAX_TXN_OPS).fold(Txn::new(), |txn, at| {
        txn.put(PutRequest::new(format!("/{at}"), ""))
    });
    let twice = Txn::new()
        .put(PutRequest::new("/a", "1"))
        .put(PutRequest::new("/a", "2"));
    let two_large = Txn::new()
        .put(PutRequest::new("/a", large()))
        .put(PutRequest::new("/b", large()));
    let both_values = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/a", "1")
    };
    let error = refused(ks.txn(put(Bytes::new(), "1".into())).await);
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    let error = refused(
        ks.txn(put(vec![b'k'; MAX_KEY_BYTES + 1].into(), "1".into()))
            .await,
    );
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    let error = refused(
        ks.txn(put("/a".into(), vec![b'v'; MAX_VALUE_BYTES + 1].into()))
            .await,
    );
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error}");
    let error = refused(ks.txn(many).await);
    assert!(matches!(error, Error::TooManyOps { .. }), "{error}");
    let error = refused(ks.txn(two_large).await);
    assert!(matches!(error, Error::TxnTooLarge { .. }), "{error}");
    let error = refused(ks.txn(twice).await);
    assert!(matches!(error, Error::DuplicateKey { .. }), "{error}");
    let error = refused(ks.txn(both_values.into()).await);
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    let error = refused(ks.get("").await);
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    assert_eq!(ks.status().await?.revision, before);
    ks.put(vec![b'k'; MAX_KEY_BYTES], large()).await?;
    Ok(())
}

/// Two who count with compare and swap count together.
pub async fn concurrent_compare_and_swaps_lose_nothing(subject: Subject) -> Result<(), Error> {
    const ROUNDS: u32 = 20;
    let ks = &subject.keyspace;
    let count = async || -> Result<(), Error> {
        for _ in 0..ROUNDS {
            loop {
                let now = ks.get("/n").await?;
                let (seen, count) = now.map_or((Revision(0), 0), |kv| {
                    let text = String::from_utf8_lossy(&kv.value).into_owned();
                    (kv.mod_revision, text.parse::<u32>().expect("a number"))
                });
                let txn = Txn::new()
                    .when(Compare::mod_revision(key("/n")?, seen))
                    .put(PutRequest::new("/n", (count + 1).to_string()));
                if ks.txn(txn).await?.succeeded {
                    break;
                }
            }
        }
        Ok(())
    };
    let (first, second) = both(count(), count()).await;
    first.and(second)?;
    assert_eq!(entry(ks, "/n").await?.value, (2 * ROUNDS).to_string());
    Ok(())
}

/// Reads from the compaction revision on work; reads before it say where to begin.
pub async fn compaction_keeps_its_own_revision_and_forgets_what_was_before(
    subject: Subject,
) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    ks.put("/gone", "1").await?;
    let second = ks.put("/a", "2").await?;
    let (third, _) = ks.delete(key("/gone")?).await?;
    ks.put("/a", "3").await?;
    ks.compact(second).await?;
    let at = |revision| RangeRequest {
        revision: Some(revision),
        ..RangeRequest::new(KeyRange::all())
    };
    let response = read(ks, at(second)).await?;
    let wanted = [("/a".into(), "2".into()), ("/gone".into(), "1".into())];
    assert_eq!(pairs(&response.kvs), wanted);
    assert_eq!(names(&read(ks, at(third)).await?.kvs), ["/a"]);
    let error = refused(ks.range(at(first)).await);
    assert!(
        matches!(error, Error::Compacted { requested, oldest } if requested == first && oldest == second),
        "{error}"
    );
    assert_eq!(ks.status().await?.oldest, second);
    Ok(())
}

/// As in etcd.
pub async fn compaction_refuses_what_was_compacted_or_is_to_come(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/a", "2").await?;
    let error = refused(ks.compact(second.next()).await);
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
    ks.compact(second).await?;
    for revision in [first, second] {
        let error = refused(ks.compact(revision).await);
        assert!(matches!(error, Error::Compacted { .. }), "{revision}: {error}");
    }
    assert_eq!(entry(ks, "/a").await?.version, 2);
    Ok(())
}

/// Revoked: one revision, as many deletions as there were keys.
pub async fn a_lease_takes_its_keys_along_at_one_revision(subject: Subject) -> Result<(), Error> {
    const KEYS: usize = 300;
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    for at in 0..KEYS {
        ks.txn(
            PutRequest::new(format!("/leased/{at:03}"), "v")
                .lease(lease.id)
                .into(),
        )
        .await?;
    }
    ks.put("/stays", "v").await?;
    let info = ks.lease_info(lease.id).await?.1;
    assert_eq!((info.keys.len(), info.granted), (KEYS, lease.ttl));
    assert!(ks.lease_list().await?.1.contains(&lease.id));
    let mut watch = ks.watch(prefix("/leased/")?).with_prev_kv().start().await?;
    let revoked = ks.lease_revoke(lease.id).await?.revision;
    let mut deleted = 0;
    while deleted < KEYS {
        let batch = next_events(&mut watch).await;
        assert_eq!(batch.revision(), revoked);
        for event in &batch {
            assert_eq!(event.kind(), EventKind::Delete);
            assert!(matches!(event.prev(), Prev::Entry(kv) if kv.lease == Some(lease.id)));
            deleted += 1;
        }
    }
    assert_eq!(deleted, KEYS);
    assert_eq!(ks.status().await?.keys, 1);
    assert!(!ks.lease_list().await?.1.contains(&lease.id));
    for error in [
        refused(ks.lease_info(lease.id).await),
        refused(ks.lease_keep_alive(lease.id).await),
        refused(ks.lease_revoke(lease.id).await),
    ] {
        assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    }
    Ok(())
}

/// Kept alive it stays; else its keys go, with events.
pub async fn a_lease_that_nobody_keeps_alive_expires(mut subject: Subject) -> Result<(), Error> {
    let ks = subject.keyspace.clone();
    let (_, kept) = ks.lease_grant(None, Duration::from_secs(3)).await?;
    let (_, lost) = ks.lease_grant(None, Duration::from_secs(3)).await?;
    for (name, lease) in [("/kept", kept), ("/lost/a", lost), ("/lost/b", lost)] {
        ks.txn(PutRequest::new(name, "v").lease(lease.id).into()).await?;
    }
    let mut watch = ks.watch(KeyRange::all()).start().await?;
    subject.advance(Duration::from_secs(2)).await;
    assert_eq!(ks.lease_keep_alive(kept.id).await?.1, kept.ttl);
    subject.advance(Duration::from_secs(2)).await;
    let batch = next_events(&mut watch).await;
    let events: Vec<_> = batch
        .iter()
        .map(|event| (event.kind(), event.key().clone()))
        .collect();
    let wanted = ["/lost/a", "/lost/b"].map(|key| (EventKind::Delete, Bytes::from(key)));
    assert_eq!(events, wanted, "one revision of deletions");
    let error = refused(ks.lease_keep_alive(lost.id).await);
    assert!(
        matches!(error, Error::LeaseNotFound { id } if id == lost.id),
        "{error}"
    );
    assert!(ks.get("/kept").await?.is_some());
    assert!(ks.lease_info(kept.id).await?.1.remaining <= kept.ttl);
    Ok(())
}

/// The end of a lease it was once attached to is nothing to it.
pub async fn a_key_belongs_to_its_last_lease(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, first) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    let (_, second) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    for name in ["/moved", "/freed", "/deleted"] {
        ks.txn(PutRequest::new(name, "v").lease(first.id).into()).await?;
    }
    ks.txn(PutRequest::new("/moved", "v").lease(second.id).into())
        .await?;
    ks.put("/freed", "v").await?;
    ks.delete(key("/deleted")?).await?;
    assert_eq!(ks.lease_info(first.id).await?.1.keys, [""; 0]);
    assert_eq!(ks.lease_info(second.id).await?.1.keys, ["/moved"]);
    let before = ks.status().await?.revision;
    let after = ks.lease_revoke(first.id).await?.revision;
    assert_eq!(after, before, "a lease without keys ends without a revision");
    assert!(ks.get("/moved").await?.is_some() && ks.get("/freed").await?.is_some());
    Ok(())
}

/// Unknown, existing, too short, too long, not positive.
pub async fn leases_are_refused_by_name(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let minute = Duration::from_secs(60);
    let id = LeaseId(0x7465_7374);
    let (_, granted) = ks.lease_grant(Some(id), minute).await?;
    assert_eq!((granted.id, granted.ttl), (id, minute));
    let error = refused(ks.lease_grant(Some(id), minute).await);
    assert!(matches!(error, Error::LeaseExists { .. }), "{error}");
    for (id, ttl) in [
        (Some(LeaseId(0)), minute),
        (Some(LeaseId(-1)), minute),
        (None, Duration::ZERO),
        (None, Duration::from_millis(999)),
        (None, Duration::from_secs(9_000_000_001)),
    ] {
        let error = refused(ks.lease_grant(id, ttl).await);
        assert!(error.is_invalid_argument(), "{id:?} {ttl:?}: {error}");
    }
    let before = ks.status().await?.revision;
    let unknown = PutRequest::new("/a", "1").lease(LeaseId(id.0 + 1));
    let error = refused(ks.txn(unknown.into()).await);
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    assert_eq!(ks.status().await?.revision, before);
    let ids = ks.lease_list().await?.1;
    assert!(ids.is_sorted() && ids.contains(&id));
    Ok(())
}

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

async fn read(ks: &Keyspace, request: RangeRequest) -> Result<RangeResponse, Error> {
    Ok(ks.range(request).await?.1)
}

async fn entry(ks: &Keyspace, name: &'static str) -> Result<KeyValue, Error> {
    let kv = ks.get(name).await?;
    Ok(kv.expect("the key was written"))
}

fn names(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter()
        .map(|kv| std::str::from_utf8(&kv.key).expect("a name"))
        .collect()
}

fn pairs(kvs: &[KeyValue]) -> Vec<(Bytes, Bytes)> {
    kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect()
}

fn refused<T: fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("this cannot be done")
}

async fn holds(ks: &Keyspace, compare: Compare) -> Result<bool, Error> {
    Ok(ks.txn(Txn::new().when(compare)).await?.succeeded)
}

/// Checks that exactly these relations hold between the key's property and the target.
async fn assert_holds(
    ks: &Keyspace,
    name: &'static str,
    target: &CompareTarget,
    holding: &[CompareOp],
) -> Result<(), Error> {
    for op in [
        CompareOp::Equal,
        CompareOp::Greater,
        CompareOp::Less,
        CompareOp::NotEqual,
    ] {
        let compare = Compare {
            range: key(name)?,
            op,
            target: target.clone(),
        };
        let held = holds(ks, compare).await?;
        assert_eq!(held, holding.contains(&op), "{name} {op:?} {target:?}");
    }
    Ok(())
}

async fn next(watch: &mut Watch) -> Batch {
    watch.next().await.expect("the watch goes on")
}

async fn next_events(watch: &mut Watch) -> Batch {
    loop {
        let batch = next(watch).await;
        if batch.kind() == BatchKind::Events {
            return batch;
        }
    }
}
