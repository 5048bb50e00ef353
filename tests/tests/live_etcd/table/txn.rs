//! Transactions.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};

use crate::scenario::{
    Call, Scenario, Step, all, bytes, delete, get, op, put, put_leased, range, steps, txn,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::same("every compare", |base| {
        let mut steps = steps![
            Call::Grant { id: 7, ttl: 100 },
            put("a", "1"),
            put_leased("b", "2", 7),
            put("b", "3"),
            put_leased("b", "4", 7),
        ];
        for key in ["a", "b", "absent"] {
            for result in -1..=4 {
                for union in unions(base) {
                    steps.push(decide(compare(key, "", result, union)));
                }
            }
        }
        steps
    }),
    Scenario::same("compares of ranges", |base| {
        let mut steps = steps![put("a", "1"), put("b", "1"), put("b", "2"), put("c", "3")];
        for (from, to) in [
            ("a", "c"),
            ("a", "\0"),
            ("\0", "\0"),
            ("x", "z"),
            ("c", "a"),
            ("", "c"),
            ("", ""),
        ] {
            for result in 0..=3 {
                for union in [
                    TargetUnion::Version(0),
                    TargetUnion::Version(1),
                    TargetUnion::ModRevision(base + 2),
                    TargetUnion::Value(bytes("1")),
                ] {
                    steps.push(decide(compare(from, to, result, union)));
                }
            }
        }
        steps
    }),
    Scenario::same("compares that make little sense", |_| {
        let odd = |target, union| pb::Compare {
            target,
            target_union: union,
            ..compare("a", "", 0, TargetUnion::Version(0))
        };
        steps![
            put("a", "1"),
            decide(odd(0, None)),
            decide(odd(3, None)),
            decide(odd(CompareTarget::Mod.into(), Some(TargetUnion::Version(1)))),
            decide(odd(CompareTarget::Value.into(), Some(TargetUnion::Lease(1)))),
            decide(odd(9, Some(TargetUnion::Version(1)))),
            pb::TxnRequest::default(),
        ]
    }),
    Scenario::same("what a transaction does is seen by what follows in it", |base| {
        let old = pb::RangeRequest {
            revision: base + 1,
            ..get("a")
        };
        let unknown = pb::RangeRequest {
            revision: base + 100,
            ..get("a")
        };
        steps![
            put("a", "1"),
            put("b", "1"),
            txn(vec![
                op(get("a")),
                op(put("a", "2")),
                op(get("a")),
                op(old),
                op(delete("b", "")),
                op(all()),
                op(put("c", "1")),
                op(pb::PutRequest {
                    prev_kv: true,
                    ..put("d", "1")
                }),
                op(all()),
            ]),
            all(),
            txn(vec![op(put("a", "3")), op(unknown)]),
            all(),
            txn(vec![op(get("a")), op(delete("x", ""))]),
            txn(vec![op(delete("a", "c")), op(range("a", "c"))]),
            txn(vec![op(put_leased("a", "1", 404))]),
            txn(vec![
                op(put("z", "1")),
                op(pb::PutRequest {
                    ignore_value: true,
                    ..put("absent", "")
                }),
            ]),
            all(),
        ]
    }),
    Scenario::same("nested transactions", |_| {
        let inner = pb::TxnRequest {
            compare: vec![compare("a", "", 0, TargetUnion::Value(bytes("2")))],
            success: vec![op(put("b", "then")), op(get("b"))],
            failure: vec![op(put("b", "else")), op(get("b"))],
        };
        let deeper = txn(vec![op(inner.clone()), op(txn(vec![op(get("b"))]))]);
        steps![
            txn(vec![op(put("a", "2")), op(inner.clone()), op(get("b"))]),
            all(),
            put("a", "2"),
            txn(vec![op(get("a")), op(inner.clone()), op(get("b"))]),
            txn(vec![op(deeper.clone()), op(delete("c", "\0"))]),
            txn(vec![op(pb::TxnRequest::default())]),
            pb::TxnRequest {
                failure: vec![op(inner)],
                ..pb::TxnRequest::default()
            },
            all(),
        ]
    }),
    Scenario::same("malformed transactions", |_| {
        let many = |count: usize| (0..count).map(|at| op(put(&format!("k{at:03}"), ""))).collect();
        let compares = |count| pb::TxnRequest {
            compare: vec![compare("a", "", 0, TargetUnion::Version(0)); count],
            ..pb::TxnRequest::default()
        };
        steps![
            txn(many(129)),
            pb::TxnRequest {
                failure: many(129),
                ..pb::TxnRequest::default()
            },
            compares(128),
            compares(129),
            txn(many(128)),
            txn(vec![op(put("a", "1")), op(put("a", "2"))]),
            txn(vec![op(put("a", "1")), op(delete("a", ""))]),
            txn(vec![op(delete("a", "")), op(put("a", "1"))]),
            txn(vec![op(put("b", "1")), op(delete("a", "c"))]),
            txn(vec![op(delete("a", "c")), op(delete("a", "b"))]),
            txn(vec![op(put("a", "1")), op(txn(vec![op(put("a", "2"))]))]),
            txn(vec![
                op(txn(vec![op(put("a", "1"))])),
                op(txn(vec![op(put("a", "2"))]))
            ]),
            pb::TxnRequest {
                success: vec![op(put("a", "1"))],
                failure: vec![op(put("a", "2"))],
                ..pb::TxnRequest::default()
            },
            txn(vec![pb::RequestOp { request: None }]),
            txn(vec![op(put("", "1"))]),
            txn(vec![op(get(""))]),
            txn(vec![op(delete("", ""))]),
            txn(vec![op(pb::PutRequest {
                ignore_value: true,
                ..put("a", "1")
            })]),
            decide(compare("", "", 0, TargetUnion::Version(0))),
            pb::RangeRequest {
                count_only: true,
                ..all()
            },
        ]
    }),
];

/// The constants that are worth comparing with, of every kind.
fn unions(base: i64) -> Vec<TargetUnion> {
    let mut unions = Vec::new();
    for number in [-1, 0, 1, 3] {
        unions.push(TargetUnion::Version(number));
    }
    for revision in [0, base + 1, base + 2, base + 4] {
        unions.push(TargetUnion::CreateRevision(revision));
        unions.push(TargetUnion::ModRevision(revision));
    }
    for value in ["", "1", "4"] {
        unions.push(TargetUnion::Value(bytes(value)));
    }
    for lease in [-1, 0, 7, 8] {
        unions.push(TargetUnion::Lease(lease));
    }
    unions
}

/// A comparison, whose target is the one that it has a value for.
pub(crate) fn compare(key: &str, end: &str, result: i32, union: TargetUnion) -> pb::Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        key: bytes(key),
        range_end: bytes(end),
        result,
        target: target.into(),
        target_union: Some(union),
    }
}

/// A transaction that only tells which way the compare went.
fn decide(compare: pb::Compare) -> Step {
    pb::TxnRequest {
        compare: vec![compare],
        ..pb::TxnRequest::default()
    }
    .into()
}
