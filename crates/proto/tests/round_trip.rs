//! What goes over the wire comes back as it was, and what a hostile peer sends is refused, not fatal.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Header, Op, OpResponse, PutRequest, RangeRequest,
    RangeResponse, Sort, SortBy, Txn, TxnResponse,
};
use tidewatch_core::watch::{
    Batch, BatchKind, Batches, Delivery as CoreDelivery, EndReason, Ended, OnOverflow, Prev, Start, View,
    Watch, WatchDispatcher, WatchId, WatchRegistry, WatchRequest, WatchSource,
};
use tidewatch_core::{
    Error, Event, History, KeyRange, KeyValue, KeyspaceId, LeaseGrant, LeaseId, LeaseInfo, ManualClock,
    Position, Record, Revision, Status, WatchSettings, key, range,
};
use tidewatch_proto::watch::{
    Created, Delivery, MAX_RESPONSE_BYTES, NativeEvents, created, delivery, ended, one_by_one, responses,
};
use tidewatch_proto::{MAX_TXN_DEPTH, txn_depth, v1};

/// Through the encoded bytes, as a peer gets it.
fn wire<M: prost::Message + Default>(message: &M) -> M {
    M::decode(&message.encode_to_vec()[..]).unwrap()
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn a_key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..12).prop_map(Bytes::from)
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![0..20u64, any::<u64>()].prop_map(Revision)
}

fn lease() -> impl Strategy<Value = Option<LeaseId>> {
    option::of(
        any::<i64>()
            .prop_filter("0 is no lease", |id| *id != 0)
            .prop_map(LeaseId),
    )
}

fn a_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        a_key().prop_map(|name| key(name).unwrap()),
        bytes().prop_map(KeyRange::from_key),
        bytes().prop_map(KeyRange::starting_with),
        (bytes(), a_key()).prop_filter_map("inverted", |(start, end)| range(start, end).ok()),
    ]
}

fn key_value() -> impl Strategy<Value = KeyValue> {
    (a_key(), bytes(), revision(), revision(), any::<u64>(), lease()).prop_map(
        |(key, value, create_revision, mod_revision, version, lease)| KeyValue {
            key,
            value,
            create_revision,
            mod_revision,
            version,
            lease,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    (key_value(), option::of(key_value()), any::<bool>()).prop_map(|(kv, prev, delete)| match prev {
        Some(prev) if delete => Event::delete(kv.mod_revision, prev),
        prev => Event::put(kv, prev),
    })
}

fn view() -> impl Strategy<Value = View> {
    any::<[bool; 4]>().prop_map(|[prev_kv, keys_only, no_put, no_delete]| View {
        prev_kv,
        keys_only,
        no_put,
        no_delete,
    })
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    let by = prop_oneof![
        Just(SortBy::Key),
        Just(SortBy::Version),
        Just(SortBy::Create),
        Just(SortBy::Mod),
        Just(SortBy::Value)
    ];
    let sort = option::of((by, any::<bool>()).prop_map(|(by, descending)| Sort { by, descending }));
    let bounds = vec(option::of(revision()), 5);
    (
        a_range(),
        option::of(any::<usize>()),
        sort,
        any::<[bool; 3]>(),
        bounds,
    )
        .prop_map(
            |(range, limit, sort, [keys_only, count_only, serializable], bounds)| RangeRequest {
                revision: bounds[0],
                limit,
                sort,
                keys_only,
                count_only,
                min_mod_revision: bounds[1],
                max_mod_revision: bounds[2],
                min_create_revision: bounds[3],
                max_create_revision: bounds[4],
                serializable,
                ..RangeRequest::new(range)
            },
        )
}

fn put_request() -> impl Strategy<Value = PutRequest> {
    (bytes(), bytes(), option::of(any::<i64>()), any::<[bool; 3]>()).prop_map(
        |(key, value, lease, [prev_kv, ignore_value, ignore_lease])| PutRequest {
            key,
            value,
            lease: lease.map(LeaseId),
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop_oneof![
        Just(CompareOp::Equal),
        Just(CompareOp::Greater),
        Just(CompareOp::Less),
        Just(CompareOp::NotEqual)
    ];
    let target = prop_oneof![
        any::<u64>().prop_map(CompareTarget::Version),
        revision().prop_map(CompareTarget::Create),
        revision().prop_map(CompareTarget::Mod),
        bytes().prop_map(CompareTarget::Value),
        lease().prop_map(CompareTarget::Lease),
    ];
    (a_range(), op, target).prop_map(|(range, op, target)| Compare { range, op, target })
}

fn txn() -> impl Strategy<Value = Txn> {
    let delete = (a_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRequest { range, prev_kv });
    let op = prop_oneof![
        put_request().prop_map(Op::Put),
        delete.prop_map(Op::Delete),
        range_request().prop_map(Op::Range),
    ];
    let op = op.prop_recursive(4, 24, 3, |op| branches(op).prop_map(Op::Txn));
    branches(op)
}

fn branches(op: impl Strategy<Value = Op> + Clone) -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..3), vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(|(compares, then, otherwise)| Txn {
        compares,
        then,
        otherwise,
    })
}

fn range_response() -> impl Strategy<Value = RangeResponse> {
    (vec(key_value(), 0..3), any::<bool>(), any::<u64>()).prop_map(|(kvs, more, count)| RangeResponse {
        kvs,
        more,
        count,
    })
}

fn txn_response() -> impl Strategy<Value = TxnResponse> {
    let response = prop_oneof![
        option::of(key_value()).prop_map(|prev| OpResponse::Put { prev }),
        (any::<u64>(), vec(key_value(), 0..3))
            .prop_map(|(deleted, prev)| OpResponse::Delete { deleted, prev }),
        range_response().prop_map(OpResponse::Range),
    ];
    let response = response.prop_recursive(4, 24, 3, |response| {
        (any::<bool>(), vec(response, 0..3))
            .prop_map(|(succeeded, responses)| OpResponse::Txn { succeeded, responses })
    });
    (header(), any::<bool>(), vec(response, 0..3)).prop_map(|(header, succeeded, responses)| TxnResponse {
        header,
        succeeded,
        responses,
    })
}

fn header() -> impl Strategy<Value = Header> {
    position().prop_map(|Position { keyspace, revision }| Header { keyspace, revision })
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), revision()).prop_map(|(keyspace, revision)| Position {
        keyspace: KeyspaceId(keyspace),
        revision,
    })
}

fn watch_request() -> impl Strategy<Value = WatchRequest> {
    let start = prop_oneof![
        Just(Start::Now),
        (1..u64::MAX).prop_map(|revision| Start::At(Revision(revision))),
        position().prop_map(Start::After),
    ];
    (
        vec(a_range(), 1..4),
        start,
        view(),
        option::of(100..100_000u64),
        any::<bool>(),
        option::of(1..u32::MAX),
    )
        .prop_map(|(ranges, start, view, interval, cancel, room)| WatchRequest {
            start,
            snapshot: start == Start::Now && cancel,
            view,
            progress_interval: interval.map(Duration::from_millis),
            on_overflow: if cancel {
                OnOverflow::Cancel
            } else {
                OnOverflow::CatchUp
            },
            room: room.map(|room| room as usize),
            ..WatchRequest::new(ranges)
        })
}

fn end() -> impl Strategy<Value = Ended> {
    let reason = prop_oneof![
        Just(EndReason::Canceled),
        Just(EndReason::Overflow),
        (revision(), revision()).prop_map(|(requested, oldest)| EndReason::Compacted { requested, oldest }),
        position().prop_map(|Position { keyspace, revision }| EndReason::KeyspaceChanged {
            actual: keyspace,
            current: revision
        }),
        (0..u64::MAX).prop_map(|ms| EndReason::Draining {
            retry_after: Duration::from_millis(ms)
        }),
        Just(EndReason::Closed),
        ".{0,20}".prop_map(|reason| EndReason::Failed(Error::PermissionDenied { reason })),
    ];
    let last = option::of((1..u64::MAX).prop_map(Revision));
    (reason, last, option::of(position())).prop_map(|(reason, last_delivered, resume)| Ended {
        reason,
        last_delivered,
        resume,
    })
}

/// What a reader sees of a batch.
fn seen(batches: &[Batch]) -> Vec<(BatchKind, Revision, Option<SystemTime>, String)> {
    let events = batches.iter().flat_map(|batch| {
        batch.iter().map(|event| {
            let asked = event.prev() != Prev::NotRequested;
            let shown = format!("{:?} {asked}", event.to_owned());
            (batch.kind(), batch.revision(), batch.time(), shown)
        })
    });
    events.collect()
}

fn deliver(messages: &[v1::WatchResponse], view: View) -> Vec<Batch> {
    let read = |message| match delivery(wire(message), view).unwrap() {
        Delivery::Batch(batch) => batch,
        other => panic!("{other:?}"),
    };
    messages.iter().map(read).collect()
}

proptest! {
    #[test]
    fn a_range_survives(range in a_range()) {
        prop_assert_eq!(KeyRange::try_from(wire(&v1::KeyRange::from(&range))).unwrap(), range);
    }

    #[test]
    fn a_read_survives(request in range_request(), response in range_response(), header in header()) {
        prop_assert_eq!(RangeRequest::try_from(wire(&v1::RangeRequest::from(&request))).unwrap(), request);
        let message = wire(&v1::RangeResponse::from((header, response.clone())));
        prop_assert_eq!(tidewatch_proto::header(message.header).unwrap(), header);
        prop_assert_eq!(RangeResponse::from(message), response);
    }

    #[test]
    fn a_transaction_survives(txn in txn(), response in txn_response()) {
        prop_assert_eq!(Txn::try_from(wire(&v1::TxnRequest::from(&txn))).unwrap(), txn);
        prop_assert_eq!(TxnResponse::try_from(wire(&v1::TxnResponse::from(&response))).unwrap(), response);
    }

    #[test]
    fn leases_survive(header in header(), id in any::<i64>(), granted in any::<u64>(), left in any::<u64>(), keys in vec(bytes(), 0..3)) {
        let (id, granted, remaining) = (LeaseId(id), Duration::from_millis(granted), Duration::from_millis(left));
        let grant = LeaseGrant { id, ttl: granted };
        prop_assert_eq!(LeaseGrant::from(wire(&v1::LeaseGrantResponse::from((header, grant)))), grant);
        let info = LeaseInfo { id, granted, remaining, keys };
        prop_assert_eq!(LeaseInfo::from(wire(&v1::LeaseTimeToLiveResponse::from((header, info.clone())))), info);
    }

    #[test]
    fn a_status_survives(header in header(), n in any::<[u64; 8]>()) {
        let status = Status {
            keyspace: header.keyspace, revision: header.revision, oldest: Revision(n[0]), backend: "remote", keys: n[1],
            bytes: n[2], quota: n[3], history_bytes: n[4], leases: n[5], watchers: n[6], dispatched: Revision(n[7]),
        };
        prop_assert_eq!(Status::try_from(&wire(&v1::StatusResponse::from(&status))).unwrap(), status);
    }

    #[test]
    fn what_a_watch_asks_for_survives(request in watch_request()) {
        prop_assert_eq!(WatchRequest::try_from(wire(&v1::WatchRequest::from(&request))).unwrap(), request);
    }

    #[test]
    fn the_end_of_a_watch_survives(end in end()) {
        let Delivery::Ended(back) = delivery(wire(&ended(&end)), View::default()).unwrap() else {
            panic!("not an end");
        };
        prop_assert_eq!(format!("{back:?}"), format!("{end:?}"));
    }

    #[test]
    fn a_reader_far_away_sees_the_events_a_reader_here_sees(
        events in vec(event(), 1..8), view in view(), partial in any::<bool>(), nanos in any::<u32>(), max in 1..200usize
    ) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.into());
        let batch = Batch::events(Revision(7), Some(time), events, view, partial);
        let messages = responses(&batch, max);
        let arrived = deliver(&messages, view);
        prop_assert_eq!(seen(&arrived), seen(&[batch]));
        let (last, before) = arrived.split_last().unwrap();
        prop_assert_eq!(last.is_partial(), partial);
        prop_assert!(before.iter().all(Batch::is_partial));
        for (batch, message) in arrived.iter().zip(&messages) {
            prop_assert!(batch.len() <= 1 || message.encoded_len() <= max + 64);
        }
    }

    #[test]
    fn a_reader_far_away_sees_the_snapshot_a_reader_here_sees(
        kvs in vec(key_value(), 0..8), view in view(), max in 1..200usize
    ) {
        let batches = [Batch::snapshot_begin(Revision(7)), Batch::snapshot(Revision(7), kvs, view), Batch::snapshot_end(Revision(7)), Batch::progress(Revision(8))];
        let messages: Vec<_> = batches.iter().flat_map(|batch| responses(batch, max)).collect();
        let arrived = deliver(&messages, view);
        prop_assert_eq!(seen(&arrived), seen(&batches));
        prop_assert_eq!(arrived[0].kind(), BatchKind::SnapshotBegin);
        let end: Vec<_> = arrived[arrived.len() - 2..].iter().map(|batch| (batch.kind(), batch.revision())).collect();
        prop_assert_eq!(end, [(BatchKind::SnapshotEnd, Revision(7)), (BatchKind::Progress, Revision(8))]);
    }

    #[test]
    fn garbage_is_refused_and_not_fatal(garbage in vec(any::<u8>(), 0..200), view in view()) {
        if let Ok(message) = v1::TxnRequest::decode(&garbage[..]) {
            let _ = Txn::try_from(message);
        }
        if let Ok(message) = v1::WatchRequest::decode(&garbage[..]) {
            let _ = WatchRequest::try_from(message);
        }
        if let Ok(message) = v1::WatchResponse::decode(&garbage[..]) {
            let _ = delivery(message, view);
        }
        if let Ok(message) = v1::TxnResponse::decode(&garbage[..]) {
            let _ = TxnResponse::try_from(message);
        }
        let _ = tidewatch_proto::error::from_status(&tonic::Status::with_details(tonic::Code::Unknown, "", garbage.into()));
    }
}

fn nested(depth: usize) -> Txn {
    (1..depth).fold(Txn::new(), |txn, _| Txn::new().and_then(Op::Txn(txn)))
}

struct Silent;

impl WatchSource for Silent {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<CoreDelivery, Ended>> {
        Poll::Pending
    }
}

#[test]
fn the_boundary_survives_and_whether_one_can_resume_from_it() {
    let boundary = Position {
        keyspace: KeyspaceId(u64::MAX),
        revision: Revision(7),
    };
    for resumable in [true, false] {
        let watch = Watch::new(WatchId(3), boundary, resumable, Box::new(Silent));
        let Delivery::Created(told) = delivery(wire(&created(&watch)), View::default()).unwrap() else {
            panic!("not created");
        };
        assert_eq!(
            told,
            Created {
                id: WatchId(3),
                boundary,
                resumable
            }
        );
    }
}

#[test]
fn transactions_nest_as_deep_as_is_promised_and_no_deeper() {
    let deepest = nested(MAX_TXN_DEPTH);
    assert_eq!(txn_depth(&deepest), MAX_TXN_DEPTH);
    assert_eq!(
        Txn::try_from(wire(&v1::TxnRequest::from(&deepest))).unwrap(),
        deepest
    );

    let too_deep = v1::TxnRequest::from(&nested(MAX_TXN_DEPTH + 1));
    let error = Txn::try_from(wire(&too_deep)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid transaction: it nests more than 32 deep"
    );

    let hostile = v1::TxnRequest::from(&nested(120)).encode_to_vec();
    assert!(v1::TxnRequest::decode(&hostile[..]).is_err());
}

#[test]
fn a_request_that_makes_no_sense_is_told_what_is_wrong() {
    let refused = |error: Error| {
        assert!(error.is_invalid_argument(), "{error}");
        error.to_string()
    };
    let range = v1::KeyRange::from(&KeyRange::all());
    let unknown_sort = v1::RangeRequest {
        range: Some(range.clone()),
        sort_by: 77,
        ..Default::default()
    };
    assert_eq!(
        refused(RangeRequest::try_from(unknown_sort).unwrap_err()),
        "invalid sort_by: 77 is not a value this server knows"
    );
    assert_eq!(
        refused(RangeRequest::try_from(v1::RangeRequest::default()).unwrap_err()),
        "invalid range: it is missing"
    );
    let no_target = v1::Compare {
        range: Some(range),
        op: v1::CompareOp::Less.into(),
        target: None,
    };
    assert_eq!(
        refused(Compare::try_from(no_target).unwrap_err()),
        "invalid compare: its target is missing"
    );
    let empty_op = v1::TxnRequest {
        then: vec![v1::Op { op: None }],
        ..Default::default()
    };
    assert_eq!(
        refused(Txn::try_from(empty_op).unwrap_err()),
        "invalid transaction: its op is missing"
    );
    let empty_key = v1::KeyRange::default();
    assert_eq!(
        refused(KeyRange::try_from(empty_key).unwrap_err()),
        "invalid key \"\": it is empty"
    );
    assert_eq!(
        refused(WatchRequest::try_from(v1::WatchRequest::default()).unwrap_err()),
        "invalid watch: it has no range"
    );
}

#[test]
fn an_event_that_hides_what_was_before_is_no_answer_to_a_watch_that_asked() {
    let event = v1::Event {
        kv: Some(v1::KeyValue::default()),
        ..Default::default()
    };
    let message = v1::WatchResponse {
        response: None,
        events: vec![v1::WatchEvents {
            revision: 7,
            events: vec![event],
            ..Default::default()
        }],
    };
    assert!(delivery(message.clone(), View::default()).is_ok());
    let asked = View {
        prev_kv: true,
        ..View::default()
    };
    assert!(delivery(message, asked).is_err());
}

/// The batches of two revisions, as a watch delivers them to those who send them on.
fn prepared(size: usize) -> Batches {
    let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
    let clock = Arc::new(ManualClock::new());
    let registry = WatchRegistry::new(Arc::clone(&history), None, clock, WatchSettings::default());
    let mut watch = registry.watch(WatchRequest::new([key("/a").unwrap()])).unwrap();
    for revision in [2, 3].map(Revision) {
        let kv = KeyValue {
            key: "/a".into(),
            value: vec![b'v'; size].into(),
            create_revision: Revision(2),
            mod_revision: revision,
            version: revision.0 - 1,
            lease: None,
        };
        let twice = [Event::put(kv.clone(), None), Event::put(kv, None)];
        history.append([Arc::new(Record {
            revision,
            time: None,
            events: twice.into(),
        })]);
    }
    // Nobody dispatches, and it does not matter: the watch reads the history.
    registry.close(EndReason::Closed);
    let mut dispatcher = pin!(WatchDispatcher::new(Arc::clone(&registry)).run());
    let mut cx = Context::from_waker(Waker::noop());
    while dispatcher.as_mut().poll(&mut cx).is_pending() {}
    match watch.poll_next_delivery(&mut cx) {
        Poll::Ready(Ok(CoreDelivery::Batches(batches))) => batches,
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_revisions_are_one_message_and_come_back_one_by_one() {
    let batches = prepared(8);
    let encoded = batches.encoded::<NativeEvents>();
    let [message] = encoded.as_slice() else {
        panic!("{encoded:?}");
    };
    assert_eq!(message.events, 4);
    let message = v1::WatchResponse::decode(message.bytes.clone()).unwrap();
    let back = one_by_one(message).map(|response| match delivery(response, View::default()).unwrap() {
        Delivery::Batch(batch) => (batch.revision(), batch.is_partial(), batch.len()),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        back.collect::<Vec<_>>(),
        [(Revision(2), false, 2), (Revision(3), false, 2)]
    );
}

#[test]
fn what_is_larger_than_a_message_travels_in_pieces() {
    let batches = prepared(MAX_RESPONSE_BYTES * 3 / 4);
    let encoded = batches.encoded::<NativeEvents>();
    let mut back = Vec::new();
    for message in encoded.iter() {
        assert!(message.bytes.len() <= MAX_RESPONSE_BYTES);
        let message = v1::WatchResponse::decode(message.bytes.clone()).unwrap();
        back.extend(
            message
                .events
                .iter()
                .map(|events| (events.revision, events.partial)),
        );
    }
    assert_eq!(
        back,
        [(2, true), (2, false)],
        "a large revision is a run of its own"
    );
}
