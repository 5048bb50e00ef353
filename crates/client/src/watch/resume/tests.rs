//! The reader's side of a watch against a model of a server whose connections break anywhere.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidewatch_core::check::{self, Observed, Truth};
use tidewatch_core::watch::WatchId;
use tidewatch_core::{Event, KeyRange, KeyValue, KeyspaceId, Record, prefix};

use super::*;

const KEYSPACE: KeyspaceId = KeyspaceId(7);

fn at(revision: u64) -> Position {
    Position {
        keyspace: KEYSPACE,
        revision: Revision(revision),
    }
}

fn created(revision: u64) -> Created {
    Created {
        id: WatchId(1),
        boundary: at(revision),
        resumable: true,
    }
}

fn put(key: &str, revision: u64) -> Event {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"v"),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    };
    Event::put(kv, None)
}

/// A batch with an event for each of the keys.
fn events(revision: u64, keys: &[&str], partial: bool) -> Delivery {
    let events = keys.iter().map(|key| put(key, revision)).collect();
    Delivery::Batch(Batch::events(
        Revision(revision),
        None,
        events,
        View::default(),
        partial,
    ))
}

fn progress(revision: u64) -> Delivery {
    Delivery::Batch(Batch::progress(Revision(revision)))
}

fn ended(reason: EndReason) -> Delivery {
    Delivery::Ended(Ended {
        reason,
        last_delivered: None,
        resume: None,
    })
}

fn request() -> WatchRequest {
    WatchRequest::new([KeyRange::all()])
}

/// A watch that began now, at revision 5.
fn watch() -> Resume {
    Resume::new(request(), &created(5))
}

fn keys(step: Step<Batch>) -> Vec<String> {
    let Step::Deliver(batch) = step else {
        panic!("nothing is delivered: {step:?}");
    };
    let name = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    batch.iter().map(|event| name(event.key())).collect()
}

fn end(step: Step<Batch>) -> Ended {
    match step {
        Step::End(ended) => ended,
        other => panic!("it goes on: {other:?}"),
    }
}

fn refused(step: Step<Batch>) -> String {
    let ended = end(step);
    assert!(matches!(
        ended.reason,
        EndReason::Failed(Error::Unsupported { .. })
    ));
    ended.reason.to_string()
}

#[test]
fn a_watch_that_began_now_goes_on_after_its_boundary() {
    assert_eq!(watch().reopen().start, Start::After(at(5)));
}

#[test]
fn a_watch_goes_on_after_the_last_whole_revision() {
    let mut watch = watch();
    assert_eq!(keys(watch.deliver(events(6, &["a"], false))), ["a"]);
    assert_eq!(keys(watch.deliver(events(7, &["a", "b"], true))), ["a", "b"]);
    assert_eq!(watch.reopen().start, Start::After(at(6)));
    assert_eq!(watch.end(EndReason::Canceled).last_delivered, Some(Revision(6)));
    assert_eq!(watch.end(EndReason::Canceled).resume, Some(at(6)));
}

#[test]
fn progress_moves_the_place_to_go_on_whether_the_reader_asked_for_it_or_not() {
    let mut silent = watch();
    assert!(matches!(silent.deliver(progress(9)), Step::Ignore));
    assert_eq!(silent.reopen().start, Start::After(at(9)));
    assert!(silent.reopen().progress_interval.is_some());

    let mut asked = request();
    asked.progress_interval = Some(Duration::from_secs(1));
    let mut asked = Resume::new(asked, &created(5));
    assert!(matches!(asked.deliver(progress(9)), Step::Deliver(_)));
    assert_eq!(asked.end(EndReason::Canceled).last_delivered, None);
}

#[test]
fn what_was_seen_of_a_revision_is_left_out_however_it_is_cut_the_second_time() {
    for pieces in [
        vec![events(6, &["a", "b", "c", "d"], false)],
        vec![
            events(6, &["a"], true),
            events(6, &["b", "c"], true),
            events(6, &["d"], false),
        ],
        vec![events(6, &["a", "b", "c"], true), events(6, &["d"], false)],
    ] {
        let mut watch = watch();
        assert_eq!(keys(watch.deliver(events(6, &["a", "b"], true))), ["a", "b"]);
        watch.reopen();
        assert!(matches!(
            watch.deliver(Delivery::Created(created(5))),
            Step::Resumed
        ));
        let delivered: Vec<_> = pieces
            .into_iter()
            .map(|piece| watch.deliver(piece))
            .filter(|step| !matches!(step, Step::Ignore))
            .flat_map(keys)
            .collect();
        assert_eq!(delivered, ["c", "d"]);
        assert_eq!(watch.position(), Some(at(6)));
    }
}

#[test]
fn a_revision_may_break_off_again_and_again() {
    let mut watch = watch();
    for n in 1..4 {
        let all = ["a", "b", "c", "d"];
        assert_eq!(keys(watch.deliver(events(6, &all[..n], true))), [all[n - 1]]);
        watch.reopen();
        assert!(matches!(
            watch.deliver(Delivery::Created(created(5))),
            Step::Resumed
        ));
    }
    assert_eq!(
        keys(watch.deliver(events(6, &["a", "b", "c", "d"], false))),
        ["d"]
    );
}

#[test]
fn a_start_in_the_future_is_asked_for_again_until_it_is_reached() {
    let mut request = request();
    request.start = Start::At(Revision(100));
    let future = Created {
        resumable: false,
        ..created(99)
    };
    let mut watch = Resume::new(request, &future);
    assert_eq!(watch.position(), None);
    assert_eq!(watch.silence(), None);
    assert_eq!(watch.reopen().start, Start::At(Revision(100)));
    assert!(watch.silence().is_some(), "it has to be created again soon");
    assert!(matches!(watch.deliver(Delivery::Created(future)), Step::Resumed));
    assert_eq!(watch.silence(), None);
    assert_eq!(keys(watch.deliver(events(100, &["a"], true))), ["a"]);
    assert_eq!(watch.reopen().start, Start::At(Revision(100)));
    assert!(matches!(
        watch.deliver(Delivery::Created(created(99))),
        Step::Resumed
    ));
    assert_eq!(keys(watch.deliver(events(100, &["a", "b"], false))), ["b"]);
    assert_eq!(watch.reopen().start, Start::After(at(100)));
    assert!(watch.silence().is_some());
}

fn snapshot_request() -> WatchRequest {
    WatchRequest {
        snapshot: true,
        ..request()
    }
}

fn snapshot_created(revision: u64) -> Created {
    Created {
        resumable: false,
        ..created(revision)
    }
}

#[test]
fn a_snapshot_that_was_interrupted_begins_anew() {
    let mut watch = Resume::new(snapshot_request(), &snapshot_created(5));
    let begin = |revision| Delivery::Batch(Batch::snapshot_begin(Revision(revision)));
    let items = |revision| {
        let kvs = vec![put("a", 3).kv];
        Delivery::Batch(Batch::snapshot(Revision(revision), kvs, View::default()))
    };
    assert!(matches!(watch.deliver(begin(5)), Step::Deliver(_)));
    assert!(matches!(watch.deliver(items(5)), Step::Deliver(_)));
    assert_eq!(watch.end(EndReason::Canceled).resume, None);

    let again = watch.reopen();
    assert!(again.snapshot && again.start == Start::Now);
    assert!(matches!(
        watch.deliver(Delivery::Created(snapshot_created(8))),
        Step::Resumed
    ));
    assert!(matches!(watch.deliver(begin(8)), Step::Deliver(_)));
    assert!(matches!(watch.deliver(items(8)), Step::Deliver(_)));
    let end = Delivery::Batch(Batch::snapshot_end(Revision(8)));
    assert!(matches!(watch.deliver(end), Step::Deliver(_)));

    let rest = watch.reopen();
    assert!(!rest.snapshot);
    assert_eq!(rest.start, Start::After(at(8)));
}

#[test]
fn another_keyspace_ends_the_watch() {
    let foreign = KeyspaceId(8);
    let other = Created {
        boundary: Position {
            keyspace: foreign,
            revision: Revision(2),
        },
        ..created(2)
    };
    // The server says so itself, and what it has.
    let mut watch = watch();
    watch.reopen();
    assert!(matches!(watch.deliver(Delivery::Created(other)), Step::Ignore));
    let current = Revision(40);
    let told = end(watch.deliver(ended(EndReason::KeyspaceChanged {
        actual: foreign,
        current,
    })));
    assert!(
        matches!(told.reason, EndReason::KeyspaceChanged { actual, current } if actual == foreign && current == Revision(40))
    );
    assert_eq!(told.resume, None);

    // It does not, because it was not asked for a position; or it should have, and did not.
    let mut snapshot = Resume::new(snapshot_request(), &snapshot_created(5));
    snapshot.reopen();
    let mut careless = Resume::new(request(), &created(5));
    careless.reopen();
    assert!(matches!(careless.deliver(Delivery::Created(other)), Step::Ignore));
    for step in [
        snapshot.deliver(Delivery::Created(other)),
        careless.deliver(events(6, &["a"], false)),
    ] {
        assert!(matches!(
            end(step).reason,
            EndReason::KeyspaceChanged { actual, .. } if actual == foreign
        ));
    }
}

#[test]
fn the_end_says_where_to_go_on_unless_that_cannot_be() {
    let compacted = EndReason::Compacted {
        requested: Revision(6),
        oldest: Revision(9),
    };
    let lost = end(watch().deliver(ended(compacted)));
    assert!(matches!(lost.reason, EndReason::Compacted { .. }));
    assert_eq!(lost.resume, None);
    for reason in [
        EndReason::Canceled,
        EndReason::Overflow,
        EndReason::Failed(Error::PermissionDenied {
            reason: String::new(),
        }),
    ] {
        assert_eq!(end(watch().deliver(ended(reason))).resume, Some(at(5)));
    }
}

#[test]
fn a_server_that_goes_away_is_no_end() {
    let pause = Duration::from_secs(3);
    let draining = watch().deliver(ended(EndReason::Draining { retry_after: pause }));
    assert!(matches!(draining, Step::Interrupted(_, at_least) if at_least == pause));
    for reason in [
        EndReason::Closed,
        EndReason::Failed(Error::Closed),
        EndReason::Failed(Error::Unavailable(tidewatch_proto::error::cause("etcd is away"))),
    ] {
        assert!(matches!(
            watch().deliver(ended(reason)),
            Step::Interrupted(_, Duration::ZERO)
        ));
    }
}

#[test]
fn a_server_that_breaks_a_promise_is_found_out() {
    let refuse = |deliveries: Vec<Delivery>| {
        let mut watch = watch();
        let mut last = None;
        for delivery in deliveries {
            last = Some(watch.deliver(delivery));
        }
        refused(last.expect("a delivery"))
    };
    let repeated = refuse(vec![events(6, &["a"], false), events(6, &["a"], false)]);
    assert!(repeated.ends_with("it repeats a revision"), "{repeated}");
    refuse(vec![events(5, &["a"], false)]);
    refuse(vec![events(6, &["a"], true), events(7, &["a"], false)]);
    refuse(vec![events(6, &["a"], true), progress(6)]);
    refuse(vec![Delivery::Created(created(5))]);
    refuse(vec![Delivery::Batch(Batch::snapshot_begin(Revision(6)))]);
    refuse(vec![Delivery::Batch(Batch::snapshot_end(Revision(6)))]);

    let mut shrunk = watch();
    assert_eq!(keys(shrunk.deliver(events(6, &["a", "b"], true))), ["a", "b"]);
    shrunk.reopen();
    shrunk.deliver(Delivery::Created(created(5)));
    refused(shrunk.deliver(events(6, &["a", "b"], false)));
}

/// What a right server would say to `request` when its history has reached `current` at first and
/// `truth.len() + 1` at last, each revision cut into pieces of at most `cut` events.
fn script(truth: &[Arc<Record>], request: &WatchRequest, current: u64, cut: usize) -> Vec<Delivery> {
    let shows = |event: &&Event| {
        let in_range = request.ranges.iter().any(|range| range.contains(&event.kv.key));
        in_range && request.view.shows(event.kind)
    };
    let boundary = match request.start {
        Start::Now => current,
        Start::At(revision) => revision.0 - 1,
        Start::After(position) => position.revision.0,
    };
    let mut said = vec![Delivery::Created(Created {
        resumable: !request.snapshot && boundary <= current,
        ..created(boundary)
    })];
    let mut say = |batch| said.push(Delivery::Batch(batch));
    if request.snapshot {
        let revision = Revision(boundary);
        say(Batch::snapshot_begin(revision));
        let mut state = std::collections::BTreeMap::new();
        for record in truth.iter().take_while(|record| record.revision <= revision) {
            for event in &record.events {
                match event.kind {
                    tidewatch_core::EventKind::Put => state.insert(event.kv.key.clone(), event.kv.clone()),
                    tidewatch_core::EventKind::Delete => state.remove(&event.kv.key),
                };
            }
        }
        let kvs: Vec<_> = state
            .into_values()
            .filter(|kv| request.ranges.iter().any(|range| range.contains(&kv.key)))
            .collect();
        for piece in kvs.chunks(cut) {
            say(Batch::snapshot(revision, piece.to_vec(), request.view));
        }
        say(Batch::snapshot_end(revision));
    }
    for record in truth.iter().filter(|record| record.revision.0 > boundary) {
        let matching: Vec<_> = record.events.iter().filter(shows).cloned().collect();
        let mut pieces = matching.chunks(cut).peekable();
        if matching.is_empty() {
            say(Batch::progress(record.revision));
        }
        while let Some(piece) = pieces.next() {
            let partial = pieces.peek().is_some();
            say(Batch::events(
                record.revision,
                None,
                piece.to_vec(),
                request.view,
                partial,
            ));
        }
    }
    said
}

/// A history in which each revision writes or deletes some of five keys.
fn history() -> impl Strategy<Value = Vec<Arc<Record>>> {
    vec(vec(any::<bool>(), 5), 1..20).prop_map(|plan| {
        let names = ["/a/1", "/a/2", "/a/3", "/b/1", "/b/2"];
        let mut state: Vec<Option<KeyValue>> = vec![None; names.len()];
        let mut records: Vec<Arc<Record>> = Vec::new();
        for touched in plan {
            let revision = records.len() as u64 + 2;
            let mut events = Vec::new();
            for (at, name) in names.iter().enumerate().filter(|(at, _)| touched[*at]) {
                let prev = state[at].take();
                match prev {
                    Some(prev) if revision.is_multiple_of(3) => {
                        events.push(Event::delete(Revision(revision), prev));
                    }
                    prev => {
                        let mut event = put(name, revision);
                        event.prev = prev;
                        state[at] = Some(event.kv.clone());
                        events.push(event);
                    }
                }
            }
            if events.is_empty() {
                events.push(put("/other", revision));
            }
            records.push(Arc::new(Record {
                revision: Revision(revision),
                time: None,
                events: events.into(),
            }));
        }
        records
    })
}

fn any_request() -> impl Strategy<Value = WatchRequest> {
    let ranges = prop_oneof![
        Just(vec![KeyRange::all()]),
        Just(vec![prefix("/a/").unwrap()]),
        Just(vec![prefix("/b/").unwrap(), prefix("/a/").unwrap()]),
    ];
    let start = prop_oneof![
        Just(Start::Now),
        (1..25u64).prop_map(|revision| Start::At(Revision(revision)))
    ];
    (ranges, start, any::<[bool; 5]>()).prop_map(|(ranges, start, flags)| {
        let [snapshot, prev_kv, no_put, no_delete, progress] = flags;
        WatchRequest {
            start,
            snapshot: snapshot && start == Start::Now,
            view: View {
                prev_kv,
                keys_only: false,
                no_put,
                no_delete: no_delete && !no_put,
            },
            progress_interval: progress.then_some(Duration::from_secs(1)),
            ..WatchRequest::new(ranges)
        }
    })
}

proptest! {
    /// Wherever its connections break, and however the server cuts its messages each time: the reader
    /// gets what it was promised.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        history in history(), request in any_request(), begin in 0..100u64,
        breaks in vec((1..12usize, 1..4usize, 0..100u64), 0..10)
    ) {
        let last = history.len() as u64 + 1;
        let mut current = 1 + begin * (last - 1) / 100;
        let script_of = |request: &WatchRequest, current, cut| script(&history, request, current, cut);
        let mut said = script_of(&asked(&request), current, 2).into_iter();
        let Some(Delivery::Created(first)) = said.next() else { panic!("not created") };
        let mut watch = Resume::new(request.clone(), &first);
        let mut observed = Observed::new(request, first.boundary);
        for (lives_for, cut, grows) in breaks.into_iter().map(Some).chain([None]).map(|it| it.unwrap_or((usize::MAX, 3, 100))) {
            for delivery in said.by_ref().take(lives_for) {
                match watch.deliver(delivery) {
                    Step::Deliver(batch) => observed.see(batch),
                    Step::Ignore | Step::Resumed => {}
                    other => panic!("{other:?}"),
                }
            }
            current += grows * (last - current) / 100;
            // A server is never behind what it has sent.
            current = current.max(watch.position().map_or(0, |at| at.revision.0));
            let again = watch.reopen();
            said = script_of(&again, current, cut).into_iter();
        }
        for delivery in said {
            match watch.deliver(delivery) {
                Step::Deliver(batch) => observed.see(batch),
                Step::Ignore | Step::Resumed => {}
                other => panic!("{other:?}"),
            }
        }
        observed.end(watch.end(EndReason::Canceled));
        let truth = Truth::new(history);
        check::all(&observed, &truth).map_err(|violation| TestCaseError::fail(violation.to_string()))?;
        let resume = watch.position();
        prop_assert!(resume.is_none_or(|at| at.revision.0 >= last));
    }
}
