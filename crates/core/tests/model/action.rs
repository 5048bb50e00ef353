//! What is done to the keyspace.

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::Index;
use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Op, PutRequest, RangeRequest, Sort, SortBy, Txn,
};
use tidewatch_core::{KeyRange, LeaseId, Revision, key, prefix, range};

use super::reader::{Asked, asked};

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Txn(Txn),
    Read(RangeRequest),
    Grant(LeaseId, u64),
    Revoke(LeaseId),
    KeepAlive(LeaseId),
    /// Moves time on by so many seconds.
    Advance(u64),
    /// Compacts at this share of what can be compacted, or a little beside it.
    Compact(Index),
    Watch(Asked),
    /// Lets one watcher read so many batches.
    Follow(Index, usize),
    /// With a journal: the next commit fails.
    FailNextCommit,
    /// With a journal: everything in memory is lost.
    Restart,
}

const KEYS: [&str; 5] = ["/a", "/b", "/b/x", "/b/y", "/c"];

pub(crate) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => put().prop_map(|put| Action::Txn(put.into())),
        2 => delete().prop_map(|delete| Action::Txn(delete.into())),
        5 => txn(op()).prop_map(Action::Txn),
        3 => read().prop_map(Action::Read),
        2 => (lease(), 1..20_u64).prop_map(|(id, secs)| Action::Grant(id, secs)),
        1 => lease().prop_map(Action::Revoke),
        1 => lease().prop_map(Action::KeepAlive),
        2 => (1..12_u64).prop_map(Action::Advance),
        1 => any::<Index>().prop_map(Action::Compact),
        2 => asked().prop_map(Action::Watch),
        3 => (any::<Index>(), 1..4_usize).prop_map(|(at, count)| Action::Follow(at, count)),
        1 => Just(Action::FailNextCommit),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..50)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1..=4_i64).prop_map(LeaseId)
}

fn revision() -> impl Strategy<Value = Revision> {
    (1..30_u64).prop_map(Revision)
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["", "1", "22", "a longer one"][..])
}

fn ranges() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => name().prop_map(|name| key(name).unwrap()),
        1 => Just(prefix("/b/").unwrap()),
        1 => Just(KeyRange::starting_with("/b")),
        1 => Just(range("/b", "/c").unwrap()),
        1 => Just(KeyRange::from_key("/b/y")),
        1 => Just(KeyRange::all()),
        1 => Just(prefix("/none/").unwrap()),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (name(), value(), weighted(0.3, lease()), any::<bool>(), 0..8_u8).prop_map(
        |(name, value, lease, prev_kv, keep)| {
            let (ignore_value, ignore_lease) = (keep == 0, keep == 1);
            PutRequest {
                lease: lease.filter(|_| !ignore_lease),
                prev_kv,
                ignore_value,
                ignore_lease,
                ..PutRequest::new(name, if ignore_value { "" } else { value })
            }
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRequest> {
    (ranges(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRequest {
        prev_kv,
        ..DeleteRequest::new(range)
    })
}

fn read() -> impl Strategy<Value = RangeRequest> {
    let filters = (
        weighted(0.1, revision()),
        weighted(0.1, revision()),
        weighted(0.1, revision()),
        weighted(0.1, revision()),
    );
    let by = prop::sample::select(vec![
        SortBy::Key,
        SortBy::Version,
        SortBy::Create,
        SortBy::Mod,
        SortBy::Value,
    ]);
    let sort = (by, any::<bool>()).prop_map(|(by, descending)| Sort { by, descending });
    let shape = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (
        ranges(),
        weighted(0.3, revision()),
        weighted(0.4, 1..4_usize),
        weighted(0.4, sort),
        shape,
        filters,
    )
        .prop_map(|(range, revision, limit, sort, shape, filters)| RangeRequest {
            revision,
            limit,
            sort,
            keys_only: shape.0,
            count_only: shape.1,
            min_mod_revision: filters.0,
            max_mod_revision: filters.1,
            min_create_revision: filters.2,
            max_create_revision: filters.3,
            ..RangeRequest::new(range)
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop::sample::select(vec![
        CompareOp::Equal,
        CompareOp::Greater,
        CompareOp::Less,
        CompareOp::NotEqual,
    ]);
    let target = prop_oneof![
        (0..4_u64).prop_map(CompareTarget::Version),
        (0..20_u64).prop_map(|at| CompareTarget::Create(Revision(at))),
        (0..20_u64).prop_map(|at| CompareTarget::Mod(Revision(at))),
        value().prop_map(|value| CompareTarget::Value(value.into())),
        weighted(0.7, lease()).prop_map(CompareTarget::Lease),
    ];
    (ranges(), op, target).prop_map(|(range, op, target)| Compare { range, op, target })
}

fn op() -> BoxedStrategy<Op> {
    let simple = || {
        prop_oneof![
            4 => put().prop_map(Op::Put),
            2 => delete().prop_map(Op::Delete),
            2 => read().prop_map(Op::Range),
        ]
    };
    prop_oneof![
        6 => simple(),
        1 => txn(simple().boxed()).prop_map(Op::Txn),
    ]
    .boxed()
}

fn txn(op: BoxedStrategy<Op>) -> impl Strategy<Value = Txn> {
    (
        prop::collection::vec(compare(), 0..2),
        prop::collection::vec(op.clone(), 0..4),
        prop::collection::vec(op, 0..3),
    )
        .prop_map(|(compares, then, otherwise)| Txn {
            compares,
            then,
            otherwise,
        })
}
