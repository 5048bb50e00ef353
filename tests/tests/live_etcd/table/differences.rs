//! What is meant to differ. Each names the row of `docs/etcd-compatibility.md` that tells of it, and fails when there is
//! no difference any more.

use tidewatch_proto::etcdserverpb as pb;

use crate::scenario::{Call, Scenario, Watch, all, delete, get, op, put, steps, txn, watch};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::differs("long keys", "a key may be as long as a request", |_| {
        steps![put(&"k".repeat(5000), "1"), get(&"k".repeat(5000))]
    }),
    Scenario::differs(
        "large values",
        "a value may be as large as a request, 1.5 MiB",
        |_| {
            steps![pb::PutRequest {
                value: vec![b'x'; 1_200_000].into(),
                ..put("a", "")
            }]
        },
    ),
    Scenario::differs(
        "requests beyond the bound of etcd's server",
        "a request beyond 2 MiB is RESOURCE_EXHAUSTED",
        |_| {
            steps![pb::PutRequest {
                value: vec![b'x'; 3_000_000].into(),
                ..put("a", "")
            }]
        },
    ),
    Scenario::differs(
        "operations of nested transactions",
        "nested transactions multiply 128 operations with each level",
        |_| {
            let many = |prefix: &str| txn((0..118).map(|at| op(get(&format!("{prefix}{at}")))).collect());
            steps![txn((0..8)
                .map(|at| op(many(&at.to_string())))
                .chain([op(many("x"))])
                .collect())]
        },
    ),
    Scenario::differs(
        "orders that are not asked for",
        "sorting by another target than the key, without an order, sorts only what the limit left",
        |_| {
            steps![
                put("a", "3"),
                put("b", "2"),
                put("c", "1"),
                pb::RangeRequest {
                    sort_target: pb::range_request::SortTarget::Value.into(),
                    limit: 1,
                    ..all()
                },
            ]
        },
    ),
    Scenario::differs(
        "orders that there are not",
        "an order that there is not counts as none",
        |_| {
            // A target that there is not ends the process of etcd 3.4.
            steps![pb::RangeRequest {
                sort_order: 3,
                ..all()
            }]
        },
    ),
    Scenario::differs(
        "keys that are written twice",
        "a deletion up to the end (`range_end` of one zero byte), or in one nested transaction",
        |_| steps![txn(vec![op(put("b", "1")), op(delete("a", "\0"))])],
    ),
    Scenario::differs(
        "two mistakes in a transaction",
        "of two mistakes in a transaction",
        |base| {
            let future = pb::RangeRequest {
                revision: base + 100,
                ..get("a")
            };
            let absent = pb::PutRequest {
                ignore_value: true,
                ..put("absent", "")
            };
            steps![txn(vec![op(future), op(absent)])]
        },
    ),
    Scenario::differs("negative leases", "ids of leases may be negative", |_| {
        steps![Call::Grant { id: -5, ttl: 100 }]
    }),
    Scenario::differs(
        "the order of leases",
        "`LeaseLeases` in the order in which they expire",
        |_| {
            steps![
                Call::Grant { id: 9, ttl: 100 },
                Call::Grant { id: 5, ttl: 1000 },
                Call::Leases,
            ]
        },
    ),
    Scenario::differs(
        "a watch from before the beginning",
        "a watch from a negative revision",
        |_| {
            steps![Watch {
                creates: vec![watch("a", "", -1)],
                ..Watch::default()
            }]
        },
    ),
    Scenario::differs(
        "deletions at the compacted revision",
        "a watch from the compacted revision misses the deletions of that revision",
        |base| {
            steps![
                put("a", "1"),
                delete("a", ""),
                put("b", "1"),
                Call::Compact(base + 2),
                Watch {
                    creates: vec![watch("\0", "\0", base + 2)],
                    items: 1,
                    ..Watch::default()
                },
            ]
        },
    ),
    Scenario::differs(
        "the watch that is none",
        "a watch may be called -1, or be given any other negative id",
        |_| {
            steps![Watch {
                creates: vec![pb::WatchCreateRequest {
                    watch_id: -1,
                    ..watch("a", "", 0)
                }],
                ..Watch::default()
            }]
        },
    ),
];
