//! What every [`Journal`] must do.
//!
//! Each test takes a function that opens the same log again whenever it is called: calling it
//! again, after what it returned before was dropped, is a restart.

mod random;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use random::Random;

use super::memory_journal::without_prev;
use super::{MemoryJournal, block_on, drive};
use crate::clock::ManualClock;
use crate::error::Error;
use crate::event::{Event, EventKind, KeyValue, Record};
use crate::journal::{Entry, Journal, Recovered};
use crate::key::{KeyRange, key};
use crate::keyspace::Keyspace;
use crate::lease::{LeaseGrant, LeaseId};
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::revision::Revision;
use crate::txn::{PutRequest, RangeRequest, Txn};

/// The tests of a journal.
///
/// `$fixture` is a function without arguments. What it returns is a function again, which opens one
/// and the same log each time it is called.
///
/// ```
/// use tidewatch_core::conformance::MemoryJournal;
///
/// fn in_memory() -> impl FnMut() -> MemoryJournal {
///     let journal = MemoryJournal::new();
///     move || journal.clone()
/// }
///
/// tidewatch_core::journal_conformance!(in_memory);
/// ```
#[macro_export]
macro_rules! journal_conformance {
    ($fixture:expr) => {
        $crate::journal_conformance! { @each $fixture;
            a_new_log_is_empty_and_keeps_its_identity
            what_was_committed_comes_back_in_order
            a_group_comes_back_whole_and_in_order
            keys_and_values_come_back_byte_for_byte
            deletions_come_back
            a_key_that_came_back_to_life_is_new
            leases_come_back_until_they_end
            lease_and_keys_end_in_one_group
            compaction_leaves_a_base_and_the_records_from_there_on
            a_deletion_at_the_compaction_revision_stays
            compaction_goes_on_where_it_was_after_a_restart
            commits_go_on_after_a_compaction
            any_history_comes_back_as_a_simple_log_remembers_it
            a_keyspace_comes_back_as_it_was
            what_a_keyspace_acknowledged_survives_its_driver
        }
    };
    (@each $fixture:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::journal::$name($fixture());
            }
        )*
    };
}

/// A log nobody wrote to is at the first revision, and has the same identity whenever it is opened.
pub fn a_new_log_is_empty_and_keeps_its_identity<J: Journal>(mut open: impl FnMut() -> J) {
    let recovered = recover(&mut open());
    assert_ne!(recovered.keyspace.0, 0);
    assert_eq!(recovered, Recovered::empty(recovered.keyspace));
    assert_eq!(recover(&mut open()), recovered, "the identity belongs to the log");
}

/// Records come back as they were, but for the entries before their events.
pub fn what_was_committed_comes_back_in_order<J: Journal>(mut open: impl FnMut() -> J) {
    let records: Vec<_> = (2..=5).map(|at| record(at, [put("/k", "v", at)])).collect();
    let mut journal = opened(&mut open);
    for record in &records {
        commit(&mut journal, [Entry::Record(record.clone())]);
    }
    drop(journal);
    let recovered = recover(&mut open());
    assert_eq!(
        (recovered.revision, recovered.oldest),
        (Revision(5), Revision::INITIAL)
    );
    assert_same_records(&recovered.records, &records);
    assert_eq!(recovered.base, []);
}

/// A group with several records and leases comes back whole; events keep their order.
pub fn a_group_comes_back_whole_and_in_order<J: Journal>(mut open: impl FnMut() -> J) {
    let records = [
        record(2, [put("/z", "1", 2), put("/a", "1", 2), put("/m", "1", 2)]),
        record(3, [put("/b", "1", 3)]),
        record(4, [put("/c", "1", 4), delete("/z", 4)]),
    ];
    let mut journal = opened(&mut open);
    let group = records.iter().cloned().map(Entry::Record);
    commit(&mut journal, group.chain([Entry::LeaseGranted(grant(7, 30))]));
    drop(journal);
    let recovered = recover(&mut open());
    assert_same_records(&recovered.records, &records);
    assert_eq!(recovered.leases, [grant(7, 30)]);
}

/// Keys and values may be any bytes, up to the limits, and values may be empty.
pub fn keys_and_values_come_back_byte_for_byte<J: Journal>(mut open: impl FnMut() -> J) {
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let event = |key: Vec<u8>, value: Vec<u8>| {
        let mut event = put("", "", 2);
        (event.kv.key, event.kv.value) = (key.into(), value.into());
        event
    };
    let written = record(
        2,
        [
            event(all_bytes.clone(), all_bytes),
            event(vec![0], Vec::new()),
            event(vec![0, 0], vec![0]),
            event(vec![u8::MAX; MAX_KEY_BYTES], vec![0xa5; MAX_VALUE_BYTES]),
        ],
    );
    let mut journal = opened(&mut open);
    commit(&mut journal, [Entry::Record(written.clone())]);
    assert_same_records(
        &recover_again(journal, &mut open).records,
        std::slice::from_ref(&written),
    );
    let mut journal = opened(&mut open);
    commit(&mut journal, [Entry::Record(record(3, [put("/k", "", 3)]))]);
    block_on(journal.compact(Revision(3))).expect("a compaction");
    let mut base = recover_again(journal, &mut open).base;
    base.sort_by(|a, b| a.key.cmp(&b.key));
    let mut wanted: Vec<_> = written.events.iter().map(|event| event.kv.clone()).collect();
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(base, wanted);
}

/// A deletion has its key and its revision, and nothing else.
pub fn deletions_come_back<J: Journal>(mut open: impl FnMut() -> J) {
    let records = [record(2, [put("/k", "v", 2)]), record(3, [delete("/k", 3)])];
    let mut journal = opened(&mut open);
    commit(&mut journal, records.iter().cloned().map(Entry::Record));
    let recovered = recover_again(journal, &mut open);
    assert_same_records(&recovered.records, &records);
}

/// Create revision and version come back as they were given.
pub fn a_key_that_came_back_to_life_is_new<J: Journal>(mut open: impl FnMut() -> J) {
    let mut again = put("/k", "2", 5);
    (again.kv.version, again.kv.create_revision) = (2, Revision(4));
    again.kv.lease = Some(LeaseId(9));
    let records = [
        record(2, [put("/k", "0", 2)]),
        record(3, [delete("/k", 3)]),
        record(4, [put("/k", "1", 4)]),
        record(5, [again.clone()]),
    ];
    let mut journal = opened(&mut open);
    commit(&mut journal, [Entry::LeaseGranted(grant(9, 60))]);
    commit(&mut journal, records.iter().cloned().map(Entry::Record));
    assert_same_records(&recover_again(journal, &mut open).records, &records);
    let mut journal = opened(&mut open);
    commit(&mut journal, [Entry::Record(record(6, [put("/x", "", 6)]))]);
    block_on(journal.compact(Revision(6))).expect("a compaction");
    assert_eq!(recover_again(journal, &mut open).base, [again.kv]);
}

/// A lease is there, with its whole time to live, until it ends.
pub fn leases_come_back_until_they_end<J: Journal>(mut open: impl FnMut() -> J) {
    let mut journal = opened(&mut open);
    commit(
        &mut journal,
        [
            Entry::LeaseGranted(grant(1, 1)),
            Entry::LeaseGranted(grant(i64::MAX, 9_000_000_000)),
        ],
    );
    let recovered = recover_again(journal, &mut open);
    assert_eq!(recovered.revision, Revision::INITIAL, "a lease is no revision");
    assert_eq!(
        sorted(recovered).leases,
        [grant(1, 1), grant(i64::MAX, 9_000_000_000)]
    );
    let mut journal = opened(&mut open);
    commit(&mut journal, [Entry::LeaseEnded(LeaseId(1))]);
    assert_eq!(
        recover_again(journal, &mut open).leases,
        [grant(i64::MAX, 9_000_000_000)]
    );
    let mut journal = opened(&mut open);
    commit(
        &mut journal,
        [
            Entry::LeaseEnded(LeaseId(i64::MAX)),
            Entry::LeaseGranted(grant(1, 5)),
        ],
    );
    assert_eq!(
        recover_again(journal, &mut open).leases,
        [grant(1, 5)],
        "a name can be used again"
    );
}

/// The end of a lease and the deletion of its keys are one group.
pub fn lease_and_keys_end_in_one_group<J: Journal>(mut open: impl FnMut() -> J) {
    let mut leased = put("/k", "v", 2);
    leased.kv.lease = Some(LeaseId(3));
    let records = [record(2, [leased]), record(3, [delete("/k", 3)])];
    let mut journal = opened(&mut open);
    let [written, deleted] = records.clone().map(Entry::Record);
    commit(&mut journal, [Entry::LeaseGranted(grant(3, 10)), written]);
    commit(&mut journal, [deleted, Entry::LeaseEnded(LeaseId(3))]);
    let recovered = recover_again(journal, &mut open);
    assert_same_records(&recovered.records, &records);
    assert_eq!(recovered.leases, []);
}

/// Compaction forgets records, but not what was there just before its revision.
pub fn compaction_leaves_a_base_and_the_records_from_there_on<J: Journal>(mut open: impl FnMut() -> J) {
    let mut second = put("/a", "2", 4);
    (second.kv.version, second.kv.create_revision) = (2, Revision(2));
    let records = [
        record(2, [put("/a", "1", 2), put("/b", "1", 2)]),
        record(3, [put("/gone", "1", 3)]),
        record(4, [second.clone()]),
        record(5, [delete("/gone", 5)]),
        record(6, [put("/c", "1", 6)]),
        record(7, [delete("/b", 7)]),
    ];
    let mut journal = opened(&mut open);
    commit(&mut journal, records.iter().cloned().map(Entry::Record));
    block_on(journal.compact(Revision(6))).expect("a compaction");
    let recovered = sorted(recover_again(journal, &mut open));
    assert_eq!((recovered.revision, recovered.oldest), (Revision(7), Revision(6)));
    assert_same_records(&recovered.records, &records[4..]);
    let b = put("/b", "1", 2).kv;
    assert_eq!(
        recovered.base,
        [second.kv, b],
        "/b is deleted later, /gone was before"
    );
}

/// What happened at the compaction revision itself is history that is kept.
pub fn a_deletion_at_the_compaction_revision_stays<J: Journal>(mut open: impl FnMut() -> J) {
    let records = [record(2, [put("/k", "v", 2)]), record(3, [delete("/k", 3)])];
    let mut journal = opened(&mut open);
    commit(&mut journal, records.iter().cloned().map(Entry::Record));
    block_on(journal.compact(Revision(3))).expect("a compaction");
    let recovered = recover_again(journal, &mut open);
    assert_same_records(&recovered.records, &records[1..]);
    assert_eq!(recovered.base, [put("/k", "v", 2).kv], "as it was just before");
}

/// Compacting again later, in another process too, adds to what is forgotten.
pub fn compaction_goes_on_where_it_was_after_a_restart<J: Journal>(mut open: impl FnMut() -> J) {
    let records: Vec<_> = (2..=9)
        .map(|at| record(at, [put(if at % 2 == 0 { "/even" } else { "/odd" }, "v", at)]))
        .collect();
    let mut journal = opened(&mut open);
    commit(&mut journal, records.iter().cloned().map(Entry::Record));
    for oldest in [3, 4, 8] {
        block_on(journal.compact(Revision(oldest))).expect("a compaction");
        let recovered = recover_again(journal, &mut open);
        assert_eq!(recovered.oldest, Revision(oldest));
        assert_same_records(
            &recovered.records,
            &records[usize::try_from(oldest).unwrap_or(0) - 2..],
        );
        let base: Vec<_> = sorted(recovered)
            .base
            .iter()
            .map(|kv| kv.mod_revision.0)
            .collect();
        let wanted: &[u64] = match oldest {
            3 => &[2],
            4 => &[2, 3],
            _ => &[6, 7],
        };
        assert_eq!(base, wanted, "compacted at {oldest}");
        journal = opened(&mut open);
    }
}

/// A compacted log takes further commits.
pub fn commits_go_on_after_a_compaction<J: Journal>(mut open: impl FnMut() -> J) {
    let records: Vec<_> = (2..=6).map(|at| record(at, [put("/k", "v", at)])).collect();
    let mut journal = opened(&mut open);
    commit(&mut journal, records[..3].iter().cloned().map(Entry::Record));
    block_on(journal.compact(Revision(4))).expect("a compaction");
    commit(&mut journal, records[3..].iter().cloned().map(Entry::Record));
    let recovered = recover_again(journal, &mut open);
    assert_eq!((recovered.revision, recovered.oldest), (Revision(6), Revision(4)));
    assert_same_records(&recovered.records, &records[2..]);
}

/// Random groups, compactions and restarts, compared with [`MemoryJournal`] at each restart.
pub fn any_history_comes_back_as_a_simple_log_remembers_it<J: Journal>(mut open: impl FnMut() -> J) {
    const STEPS: usize = 120;
    let seed = fastrand::u64(..);
    let mut random = Random::new(seed);
    let mut model = MemoryJournal::new();
    let mut journal = opened(&mut open);
    for step in 0..STEPS {
        match random.rng.u32(..10) {
            0 => {
                let recovered = sorted(recover_again(journal, &mut open));
                let mut wanted = sorted(recover(&mut model));
                wanted.keyspace = recovered.keyspace;
                assert_eq!(recovered, wanted, "seed {seed}, step {step}");
                journal = opened(&mut open);
            }
            1 if random.revision > random.oldest => {
                let oldest = random.rng.u64(random.oldest.0 + 1..=random.revision.0);
                random.oldest = Revision(oldest);
                block_on(journal.compact(Revision(oldest))).expect("a compaction");
                block_on(model.compact(Revision(oldest))).expect("a compaction");
            }
            _ => {
                let group = random.group();
                commit(&mut model, group.clone());
                commit(&mut journal, group);
            }
        }
    }
}

/// A keyspace on the journal, opened again, reads the same at every revision.
pub fn a_keyspace_comes_back_as_it_was<J: Journal>(mut open: impl FnMut() -> J) {
    let (before, lease) = with_keyspace(&mut open, async |ks| {
        let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
        for round in 0..4 {
            for name in ["/a", "/b", "/c"] {
                ks.put(name, format!("{name} {round}")).await?;
            }
            ks.txn(
                Txn::new()
                    .put(PutRequest::new("/leased", round.to_string()).lease(lease.id))
                    .delete(key("/b")?),
            )
            .await?;
        }
        ks.compact(Revision(6)).await?;
        Ok((image(&ks).await?, lease))
    });
    let (after, ended) = with_keyspace(&mut open, async |ks| {
        let image = image(&ks).await?;
        let (_, info) = ks.lease_info(lease.id).await?;
        assert_eq!(
            (info.granted, info.remaining),
            (lease.ttl, lease.ttl),
            "re-armed in full"
        );
        assert_eq!(info.keys, ["/leased"]);
        let compacted = ks
            .compact(Revision(6))
            .await
            .expect_err("it is compacted already");
        assert!(matches!(compacted, Error::Compacted { .. }), "{compacted}");
        let header = ks.lease_revoke(lease.id).await?;
        Ok((image, header.revision))
    });
    assert_eq!(after, before);
    with_keyspace(&mut open, async |ks| {
        assert_eq!(ks.get("/leased").await?, None);
        assert_eq!(ks.status().await?.revision, ended);
        let gone = ks.lease_info(lease.id).await.expect_err("it has ended");
        assert!(matches!(gone, Error::LeaseNotFound { .. }), "{gone}");
        Ok(())
    });
}

/// What was acknowledged is there after the driver was dropped at once, without a close.
pub fn what_a_keyspace_acknowledged_survives_its_driver<J: Journal>(mut open: impl FnMut() -> J) {
    let mut revision = Revision::INITIAL;
    for round in 0..5 {
        let name = format!("/round/{round}");
        let written = with_keyspace(&mut open, async |ks| {
            assert_eq!(ks.status().await?.revision, revision);
            ks.put(name, "acknowledged").await
        });
        assert_eq!(written, revision.next());
        revision = written;
    }
    let all = RangeRequest::new(KeyRange::all());
    let (_, response) = with_keyspace(&mut open, async |ks| ks.range(all.clone()).await);
    assert_eq!(response.count, 5);
}

fn put(key: &'static str, value: &'static str, revision: u64) -> Event {
    let kv = KeyValue {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    };
    Event::put(kv, None)
}

fn delete(key: &'static str, revision: u64) -> Event {
    Event::delete(Revision(revision), put(key, "", 0).kv)
}

/// A record committed at a time of its own, with milliseconds.
fn record(revision: u64, events: impl IntoIterator<Item = Event>) -> Arc<Record> {
    let since_epoch = Duration::from_millis(1_767_225_600_000 + 1_234 * revision);
    Arc::new(Record {
        revision: Revision(revision),
        time: Some(SystemTime::UNIX_EPOCH + since_epoch),
        events: events.into_iter().collect(),
    })
}

fn grant(id: i64, secs: u64) -> LeaseGrant {
    LeaseGrant {
        id: LeaseId(id),
        ttl: Duration::from_secs(secs),
    }
}

fn opened<J: Journal>(open: &mut impl FnMut() -> J) -> J {
    let mut journal = open();
    recover(&mut journal);
    journal
}

fn recover(journal: &mut impl Journal) -> Recovered {
    block_on(journal.recover()).expect("what was committed can be read back")
}

fn recover_again<J: Journal>(journal: J, open: &mut impl FnMut() -> J) -> Recovered {
    drop(journal);
    recover(&mut open())
}

fn commit(journal: &mut impl Journal, group: impl IntoIterator<Item = Entry>) {
    block_on(journal.commit(group.into_iter().collect())).expect("the group can be committed");
}

/// Without what a journal may leave open.
fn sorted(mut recovered: Recovered) -> Recovered {
    recovered.base.sort_by(|a, b| a.key.cmp(&b.key));
    recovered.leases.sort_by_key(|lease| lease.id);
    for record in &mut recovered.records {
        *record = without_prev(record);
    }
    recovered
}

fn assert_same_records(recovered: &[Record], committed: &[Arc<Record>]) {
    let recovered: Vec<_> = recovered.iter().map(without_prev).collect();
    let committed: Vec<_> = committed.iter().map(|record| without_prev(record)).collect();
    for event in recovered.iter().flat_map(|record| &record.events) {
        if event.kind == EventKind::Delete {
            assert!(event.kv.value.is_empty() && event.kv.version == 0, "{event:?}");
        }
    }
    assert_eq!(recovered, committed);
}

/// Opens a keyspace on the log, uses it, and drops it with its driver.
fn with_keyspace<J: Journal, T>(
    open: &mut impl FnMut() -> J,
    body: impl AsyncFnOnce(Keyspace) -> Result<T, Error>,
) -> T {
    block_on(async {
        let clock = Arc::new(ManualClock::new());
        let ks = Keyspace::builder().journal(open()).clock(clock).open().await?;
        drive(ks.driver(), body(ks.clone())).await
    })
    .expect("nothing of this fails")
}

/// All that can be read, revision by revision.
async fn image(ks: &Keyspace) -> Result<Vec<(Revision, Vec<KeyValue>)>, Error> {
    let status = ks.status().await?;
    let mut image = Vec::new();
    for revision in (status.oldest.0..=status.revision.0).map(Revision) {
        let request = RangeRequest {
            revision: Some(revision),
            ..RangeRequest::new(KeyRange::all())
        };
        let (_, response) = ks.range(request).await?;
        image.push((revision, response.kvs));
    }
    Ok(image)
}
