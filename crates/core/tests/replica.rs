//! A replica is, revision by revision, what the keyspace is that it follows.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tidewatch_core::conformance::{block_on, both, drive};
use tidewatch_core::history::Chunk;
use tidewatch_core::store::Listing;
use tidewatch_core::txn::{PutRequest, RangeRequest, Sort, SortBy, Txn};
use tidewatch_core::watch::{Archive, ArchiveReader, BatchKind, EventRef, Start, WatchRequest};
use tidewatch_core::{
    Batch, Clock as _, EndReason, Error, Event, HistoryWindow, KeyRange, KeyValue, Keyspace, KeyspaceId,
    ManualClock, Position, Record, Replica, Revision, Settings, Watch, key,
};

const KEYSPACE: KeyspaceId = KeyspaceId(7);

fn listing(revision: u64, entries: Vec<KeyValue>) -> Listing {
    Listing {
        keyspace: KEYSPACE,
        revision: Revision(revision),
        entries,
    }
}

fn replica_with(listing: Listing, archive: Option<Arc<dyn Archive>>, settings: Settings) -> Arc<Replica> {
    Replica::new(listing, archive, Arc::new(ManualClock::new()), settings).expect("a listing")
}

fn replica(listing: Listing) -> Arc<Replica> {
    replica_with(listing, None, Settings::default())
}

fn entry(name: &'static str, value: &'static str, revision: u64) -> KeyValue {
    KeyValue {
        key: name.into(),
        value: value.into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    }
}

fn put(name: &'static str, value: &'static str, revision: u64) -> Record {
    Record {
        revision: Revision(revision),
        time: None,
        events: [Event::put(entry(name, value, revision), None)].into(),
    }
}

fn watch_from(replica: &Arc<Replica>, after: u64) -> Watch {
    let mut request = WatchRequest::new([KeyRange::all()]);
    request.start = Start::At(Revision(after + 1));
    replica.watch(request).expect("room for a watch")
}

fn with_snapshot(replica: &Arc<Replica>) -> Watch {
    let mut request = WatchRequest::new([KeyRange::all()]);
    request.snapshot = true;
    replica.watch(request).expect("room for a watch")
}

/// What a watch says next, as a line.
async fn said(watch: &mut Watch) -> String {
    match watch.next().await {
        Ok(batch) => shown(&batch),
        Err(ended) => ended.reason.name().to_owned(),
    }
}

fn shown(batch: &Batch) -> String {
    let events: Vec<_> = batch
        .iter()
        .map(|event| format!("{}={}", event.key().escape_ascii(), event.value().escape_ascii()))
        .collect();
    format!("{:?} {} [{}]", batch.kind(), batch.revision(), events.join(" "))
}

#[test]
fn what_a_listing_shows_is_read_and_what_follows_is_watched() {
    let replica = replica(listing(5, vec![entry("/a", "1", 3)]));
    let body = async {
        let mut watch = watch_from(&replica, 5);
        replica.append(put("/b", "2", 8)).unwrap();
        replica.advance(Revision(11));
        assert_eq!(said(&mut watch).await, "Events 8 [/b=2]");
        let (header, response) = replica.range(RangeRequest::new(KeyRange::all())).await.unwrap();
        assert_eq!(
            (header.revision, header.keyspace, response.count),
            (Revision(11), KEYSPACE, 2)
        );
        let before = RangeRequest {
            revision: Some(Revision(7)),
            ..RangeRequest::new(KeyRange::all())
        };
        assert_eq!(replica.range(before).await.unwrap().1.count, 1);
    };
    block_on(drive(replica.run(), body));
}

#[test]
fn what_was_before_the_listing_is_neither_read_nor_watched() {
    let replica = replica(listing(5, vec![entry("/a", "1", 3)]));
    let body = async {
        let request = RangeRequest {
            revision: Some(Revision(4)),
            ..RangeRequest::new(KeyRange::all())
        };
        let error = replica.range(request).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Compacted {
                    oldest: Revision(5),
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(said(&mut watch_from(&replica, 4)).await, "compacted");
    };
    block_on(drive(replica.run(), body));
}

#[test]
fn what_cannot_follow_is_refused_and_mended_by_a_listing() {
    let replica = replica(listing(5, vec![entry("/a", "1", 3)]));
    let deletion = Record {
        revision: Revision(6),
        time: None,
        events: [Event::delete(Revision(6), entry("/none", "", 2))].into(),
    };
    replica.append(deletion).unwrap_err();
    replica.append(put("/b", "2", 6)).unwrap_err();
    assert_eq!(replica.position().revision, Revision(5));
    replica.install(listing(5, vec![entry("/a", "1", 3)])).unwrap();
    replica.append(put("/b", "2", 6)).unwrap();
    assert_eq!(replica.extent().keys, 2);
    for twice in [
        vec![entry("/a", "1", 3), entry("/a", "1", 4)],
        vec![entry("/a", "1", 99)],
    ] {
        Replica::new(
            listing(9, twice),
            None,
            Arc::new(ManualClock::new()),
            Settings::default(),
        )
        .unwrap_err();
    }
}

#[test]
fn what_is_told_again_is_left_out() {
    let replica = replica(listing(5, vec![]));
    replica.append(put("/a", "1", 6)).unwrap();
    replica.append(put("/a", "1", 6)).unwrap();
    replica.advance(Revision(2));
    replica.install(listing(3, vec![])).unwrap();
    assert_eq!(
        (replica.position().revision, replica.extent().keys),
        (Revision(6), 1)
    );
}

#[test]
fn a_gap_ends_watches_that_had_not_read_up_to_it_and_leaves_the_state_right() {
    let replica = replica(listing(5, vec![entry("/a", "1", 3)]));
    let body = async {
        let mut idle = watch_from(&replica, 5);
        let mut before = with_snapshot(&replica);
        assert_eq!(said(&mut before).await, "SnapshotBegin 5 []");
        replica.install(listing(20, vec![entry("/b", "2", 18)])).unwrap();
        assert_eq!(said(&mut idle).await, "compacted");
        assert_eq!(said(&mut before).await, "SnapshotBegin 20 []", "it begins anew");
        assert_eq!(said(&mut before).await, "Snapshot 20 [/b=2]");
        assert_eq!(said(&mut before).await, "SnapshotEnd 20 []");
        let mut after = watch_from(&replica, 20);
        replica.append(put("/c", "3", 22)).unwrap();
        assert_eq!(said(&mut after).await, "Events 22 [/c=3]");
        assert_eq!(said(&mut before).await, "Events 22 [/c=3]");
    };
    block_on(drive(replica.run(), body));
}

#[test]
fn another_keyspace_is_a_new_snapshot_for_those_who_had_one_and_the_end_for_others() {
    let replica = replica(listing(50, vec![entry("/a", "1", 3)]));
    let body = async {
        let (mut with, mut without) = (with_snapshot(&replica), watch_from(&replica, 50));
        while said(&mut with).await != "SnapshotEnd 50 []" {}
        let waiting = replica.reached(Position {
            keyspace: KEYSPACE,
            revision: Revision(51),
        });
        let replace = async {
            let other = Listing {
                keyspace: KeyspaceId(8),
                revision: Revision(4),
                entries: vec![entry("/b", "2", 4)],
            };
            replica.install(other).unwrap();
        };
        let (waited, ()) = both(waiting, replace).await;
        assert!(matches!(waited, Err(Error::KeyspaceChanged { .. })), "{waited:?}");
        assert_eq!(said(&mut without).await, "keyspace_changed");
        assert_eq!(said(&mut with).await, "SnapshotBegin 4 []");
        assert_eq!(said(&mut with).await, "Snapshot 4 [/b=2]");
        assert_eq!(with.position(), None);
        assert_eq!(said(&mut with).await, "SnapshotEnd 4 []");
        let position = with.position().unwrap();
        assert_eq!(
            (position.keyspace, position.revision),
            (KeyspaceId(8), Revision(4))
        );
        replica.append(put("/b", "3", 5)).unwrap();
        assert_eq!(said(&mut with).await, "Events 5 [/b=3]");
        replica.close(EndReason::Closed);
        assert_eq!(said(&mut with).await, "closed");
    };
    block_on(drive(replica.run(), body));
}

#[test]
fn who_waits_for_a_revision_is_told_when_it_is_there() {
    let replica = replica(listing(5, vec![]));
    let at = |revision| Position {
        keyspace: KEYSPACE,
        revision: Revision(revision),
    };
    block_on(async {
        replica.reached(at(5)).await.unwrap();
        let (reached, ()) = both(replica.reached(at(8)), async {
            replica.append(put("/a", "1", 7)).unwrap();
            replica.advance(Revision(9));
        })
        .await;
        reached.unwrap();
        let foreign = Position {
            keyspace: KeyspaceId(1),
            revision: Revision(1),
        };
        assert!(matches!(
            replica.reached(foreign).await,
            Err(Error::KeyspaceChanged { .. })
        ));
    });
}

#[test]
fn the_history_stays_within_its_window() {
    let history = HistoryWindow {
        max_revisions: Some(16),
        ..HistoryWindow::default()
    };
    let settings = Settings {
        history,
        ..Settings::default()
    };
    let replica = replica_with(listing(5, vec![]), None, settings);
    let body = async {
        for revision in 6..106 {
            replica.append(put("/a", "1", revision)).unwrap();
        }
        let mut watch = watch_from(&replica, 105);
        replica.append(put("/a", "1", 106)).unwrap();
        said(&mut watch).await;
    };
    block_on(drive(replica.run(), body));
    assert!(
        replica.extent().watchable > Revision(80),
        "{:?}",
        replica.extent()
    );
}

/// Has revisions 1 to 9, each a write of `/old`, but compacted up to 3; and lets readers wait once for each.
struct Attic;

struct AtticReader {
    has_waited: bool,
}

impl Archive for Attic {
    fn open(&self, after: Position) -> Box<dyn ArchiveReader> {
        assert_eq!(after.keyspace, KEYSPACE);
        Box::new(AtticReader { has_waited: false })
    }
}

impl ArchiveReader for AtticReader {
    fn poll_read(
        &mut self,
        after: Revision,
        _: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Chunk, EndReason>> {
        self.has_waited = !self.has_waited;
        if self.has_waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let revision = after.next();
        if revision < Revision(3) {
            let (requested, oldest) = (revision, Revision(3));
            return Poll::Ready(Err(EndReason::Compacted { requested, oldest }));
        }
        assert!(revision < Revision(10), "the rest is in the history");
        Poll::Ready(Ok(Chunk {
            records: vec![Arc::new(put("/old", "1", revision.0))],
            through: revision,
        }))
    }
}

#[test]
fn what_is_older_than_the_history_is_read_in_the_archive() {
    let replica = replica_with(
        listing(9, vec![entry("/old", "1", 9)]),
        Some(Arc::new(Attic)),
        Settings::default(),
    );
    let body = async {
        replica.append(put("/new", "2", 12)).unwrap();
        let mut watch = watch_from(&replica, 6);
        for wanted in [
            "Events 7 [/old=1]",
            "Events 8 [/old=1]",
            "Events 9 [/old=1]",
            "Events 12 [/new=2]",
        ] {
            assert_eq!(said(&mut watch).await, wanted);
        }
        assert_eq!(said(&mut watch_from(&replica, 1)).await, "compacted");
    };
    block_on(drive(replica.run(), body));
}

/// Never has anything.
struct Void;

impl Archive for Void {
    fn open(&self, _: Position) -> Box<dyn ArchiveReader> {
        Box::new(Self)
    }
}

impl ArchiveReader for Void {
    fn poll_read(&mut self, _: Revision, _: usize, _: &mut Context<'_>) -> Poll<Result<Chunk, EndReason>> {
        Poll::Pending
    }
}

#[test]
fn an_operator_ends_a_watch_that_waits_for_the_archive() {
    let replica = replica_with(listing(9, vec![]), Some(Arc::new(Void)), Settings::default());
    let body = async {
        let mut watch = watch_from(&replica, 3);
        let id = watch.id();
        let (said, ()) = both(said(&mut watch), async {
            assert!(replica.registry().cancel(id));
        })
        .await;
        assert_eq!(said, "canceled");
    };
    block_on(drive(replica.run(), body));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Both(u8, u8),
    DeleteAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u8, any::<u8>()).prop_map(|(name, value)| Step::Put(name, value)),
        2 => (0..5_u8).prop_map(Step::Delete),
        1 => (0..5_u8, 5..8_u8).prop_map(|(one, other)| Step::Both(one, other)),
        1 => Just(Step::DeleteAll),
    ]
}

fn name(number: u8) -> String {
    format!("/k/{number}")
}

async fn make(ks: &Keyspace, step: &Step) {
    let txn: Txn = match step {
        Step::Put(number, value) => PutRequest::new(name(*number), vec![*value]).into(),
        Step::Delete(number) => Txn::new().delete(key(name(*number)).expect("a name")),
        Step::Both(one, other) => Txn::new()
            .put(PutRequest::new(name(*one), "1"))
            .put(PutRequest::new(name(*other), "2")),
        Step::DeleteAll => Txn::new().delete(KeyRange::all()),
    };
    ks.txn(txn).await.expect("it can be done");
}

/// The record of a batch, without what was there before, which a replica finds out for itself.
fn record(batch: &Batch) -> Record {
    let event = |event: EventRef<'_>| Event {
        prev: None,
        ..event.to_owned()
    };
    Record {
        revision: batch.revision(),
        time: None,
        events: batch.iter().map(event).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_replica_answers_as_the_keyspace_that_it_follows(
        before in prop::collection::vec(step(), 0..8),
        after in prop::collection::vec(step(), 1..24),
    ) {
        let clock = Arc::new(ManualClock::new());
        let ks = block_on(Keyspace::builder().clock(clock).open()).unwrap();
        let body = async {
            for step in &before {
                make(&ks, step).await;
            }
            let mut upstream = ks.watch(KeyRange::all()).start().await.unwrap();
            let mut theirs = ks.watch(KeyRange::all()).with_prev_kv().start().await.unwrap();
            let (header, listed) = ks.range(RangeRequest::new(KeyRange::all())).await.unwrap();
            let replica = replica(Listing {
                keyspace: header.keyspace,
                revision: header.revision,
                entries: listed.kvs,
            });
            let mut request = WatchRequest::new([KeyRange::all()]);
            request.view.prev_kv = true;
            let mut ours = replica.watch(request).unwrap();
            for step in &after {
                make(&ks, step).await;
            }
            let last = ks.status().await.unwrap().revision;
            let follow = async {
                while replica.position().revision < last {
                    let batch = upstream.next().await.unwrap();
                    replica.append(record(&batch)).unwrap();
                }
                let mut shown = header.revision;
                while shown < last {
                    let (a, b) = (ours.next().await.unwrap(), theirs.next().await.unwrap());
                    assert_eq!(events(&a), events(&b));
                    shown = a.revision();
                }
                for revision in header.revision.0..=last.0 {
                    let request = RangeRequest {
                        revision: Some(Revision(revision)),
                        sort: Some(Sort { by: SortBy::Mod, descending: true }),
                        ..RangeRequest::new(KeyRange::all())
                    };
                    let (a, b) = (replica.range(request.clone()).await.unwrap(), ks.range(request).await.unwrap());
                    assert_eq!(a, b);
                }
            };
            drive(replica.run(), follow).await;
        };
        block_on(drive(ks.driver(), body));
    }
}

fn events(batch: &Batch) -> Vec<Event> {
    assert_eq!(batch.kind(), BatchKind::Events);
    batch.iter().map(EventRef::to_owned).collect()
}

#[test]
fn a_window_of_age_forgets_what_is_too_old() {
    let clock = ManualClock::new();
    let history = HistoryWindow {
        max_age: Duration::from_secs(60),
        ..HistoryWindow::default()
    };
    let settings = Settings {
        history,
        ..Settings::default()
    };
    let replica = Replica::new(listing(5, vec![]), None, Arc::new(clock.clone()), settings).unwrap();
    let body = async {
        let timed = |revision| Record {
            time: Some(clock.system_time()),
            ..put("/a", "1", revision)
        };
        // What was caught up with says nothing of its time.
        replica.append(put("/a", "1", 6)).unwrap();
        replica.append(timed(7)).unwrap();
        clock.advance(Duration::from_secs(90));
        let mut watch = watch_from(&replica, 7);
        replica.append(timed(8)).unwrap();
        said(&mut watch).await;
    };
    block_on(drive(replica.run(), body));
    assert_eq!(replica.extent().watchable, Revision(8));
}

#[test]
fn the_name_of_a_watch_is_not_given_again_in_another_keyspace() {
    let replica = replica(listing(5, vec![]));
    let first = watch_from(&replica, 5).id();
    let other = Listing {
        keyspace: KeyspaceId(8),
        ..listing(5, vec![])
    };
    replica.install(other).unwrap();
    assert!(watch_from(&replica, 5).id() > first);
}

#[test]
fn a_compaction_ahead_of_the_replica_leaves_what_is_there_now() {
    let replica = replica(listing(5, vec![entry("/a", "1", 3)]));
    let body = async {
        replica.compact(Revision(9)).await;
        let (_, response) = replica.range(RangeRequest::new(KeyRange::all())).await.unwrap();
        assert_eq!(response.count, 1);
        let mut watch = with_snapshot(&replica);
        for expected in ["SnapshotBegin 5 []", "Snapshot 5 [/a=1]", "SnapshotEnd 5 []"] {
            assert_eq!(said(&mut watch).await, expected);
        }
    };
    block_on(drive(replica.run(), body));
}

#[test]
fn who_waits_for_a_revision_is_told_of_the_end() {
    let replica = replica(listing(5, Vec::new()));
    let at = |revision| Position {
        keyspace: KEYSPACE,
        revision: Revision(revision),
    };
    let mut waits = Box::pin(replica.reached(at(6)));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    replica.close(EndReason::Closed);
    assert!(matches!(
        waits.as_mut().poll(&mut cx),
        Poll::Ready(Err(Error::Closed))
    ));
    let later = Box::pin(replica.reached(at(6))).as_mut().poll(&mut cx);
    assert!(matches!(later, Poll::Ready(Err(Error::Closed))));
    block_on(replica.reached(at(5))).unwrap();
}
