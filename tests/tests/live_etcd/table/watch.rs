//! Watches of every kind.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_create_request::FilterType;

use crate::scenario::{Ask, Call, Scenario, Watch, delete, op, put, steps, txn, watch};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::same("what happens from now on", |_| {
        steps![
            put("a", "before"),
            Watch {
                creates: vec![watch("a", "", 0)],
                then: changes(),
                items: 3,
                after: vec![Ask::Progress, Ask::Cancel(0)],
            },
        ]
    }),
    Scenario::same("ranges", |_| {
        let mut steps = Vec::new();
        for (from, to, items) in [
            ("a", "b", 4),
            ("a", "c", 5),
            ("b", "\0", 2),
            ("\0", "\0", 6),
            ("", "\0", 6),
            ("x", "z", 0),
        ] {
            steps.extend(steps![
                Watch {
                    creates: vec![watch(from, to, 0)],
                    then: changes(),
                    items,
                    ..Watch::default()
                },
                delete("\0", "\0"),
            ]);
        }
        steps
    }),
    Scenario::same("what is no range", |_| {
        let mut steps = Vec::new();
        for (from, to) in [("b", "a"), ("b", "b"), ("", ""), ("", "a")] {
            steps.extend(steps![Watch {
                creates: vec![watch(from, to, 0), watch("a", "", 0)],
                then: changes(),
                items: 3,
                ..Watch::default()
            }]);
            steps.extend(steps![delete("\0", "\0")]);
        }
        steps
    }),
    Scenario::same("from the past and from the future", |base| {
        let mut steps = changes().into_iter().map(Into::into).collect::<Vec<_>>();
        for (start, items) in [(1, 6), (2, 5), (4, 3), (6, 0)] {
            steps.extend(steps![Watch {
                creates: vec![watch("\0", "\0", base + start)],
                items,
                after: vec![Ask::Cancel(0)],
                ..Watch::default()
            }]);
        }
        steps.extend(steps![Watch {
            // Four sentinels were written meanwhile.
            creates: vec![watch("\0", "\0", base + 12)],
            then: changes(),
            items: 4,
            after: vec![Ask::Cancel(0)],
        }]);
        steps
    }),
    Scenario::same("filters and previous entries", |base| {
        let mut steps = changes().into_iter().map(Into::into).collect::<Vec<_>>();
        let (no_put, no_delete) = (FilterType::Noput as i32, FilterType::Nodelete as i32);
        let mut runs = 1;
        for (filters, items) in [
            (vec![no_put], 1),
            (vec![no_delete], 5),
            (vec![no_put, no_delete], 0),
            (vec![no_put, no_put], 1),
            (vec![9], 6),
        ] {
            for prev_kv in [false, true] {
                let create = |start_revision| pb::WatchCreateRequest {
                    filters: filters.clone(),
                    prev_kv,
                    ..watch("\0", "\0", start_revision)
                };
                steps.extend(steps![
                    Watch {
                        creates: vec![create(base + 1)],
                        items: items * runs,
                        ..Watch::default()
                    },
                    Watch {
                        creates: vec![create(0)],
                        then: changes(),
                        items,
                        ..Watch::default()
                    },
                ]);
                runs += 1;
            }
        }
        steps
    }),
    Scenario::same("many on a stream", |base| {
        let with_id =
            |watch_id, create: pb::WatchCreateRequest| pb::WatchCreateRequest { watch_id, ..create };
        steps![
            put("a", "before"),
            Watch {
                creates: vec![
                    watch("a", "", 0),
                    with_id(7, watch("a", "c", 0)),
                    with_id(7, watch("b", "", 0)),
                    with_id(2, watch("b", "", 0)),
                    watch("\0", "\0", base + 1),
                    watch("c", "", 0),
                    watch("c", "", 0),
                    watch("c", "a", 0),
                ],
                then: changes(),
                items: 19,
                after: vec![
                    Ask::Cancel(7),
                    Ask::Progress,
                    Ask::Cancel(0),
                    Ask::Cancel(2),
                    Ask::Progress,
                ],
            },
        ]
    }),
    Scenario::same("an id is free again when its watch is gone", |_| {
        steps![Watch {
            creates: vec![watch("a", "", 0), watch("b", "", 0)],
            then: changes(),
            items: 4,
            after: vec![Ask::Cancel(1), Ask::Cancel(0), Ask::Progress],
        }]
    }),
    Scenario::same("a transaction is whole", |base| {
        steps![
            put("a", "1"),
            txn(vec![
                op(put("a", "2")),
                op(put("b", "2")),
                op(delete("c", "d")),
                op(put("d", "2"))
            ]),
            txn(vec![op(delete("a", "c")), op(put("c", "3"))]),
            Watch {
                creates: vec![
                    pb::WatchCreateRequest {
                        prev_kv: true,
                        ..watch("a", "e", base + 1)
                    },
                    watch("b", "d", base + 1),
                    watch("b", "d", base + 3),
                ],
                items: 12,
                ..Watch::default()
            },
        ]
    }),
    Scenario::same("responses that are too large are cut", |base| {
        let large = |key: &str, size: usize| -> Call {
            pb::PutRequest {
                value: vec![b'x'; size].into(),
                ..put(key, "")
            }
            .into()
        };
        let create = |prev_kv| pb::WatchCreateRequest {
            fragment: true,
            prev_kv,
            ..watch("\0", "\0", base + 1)
        };
        steps![
            large("a", 700_000),
            large("a", 600_000),
            large("b", 500_000),
            large("a", 900_000),
            put("a", "small"),
            Watch {
                creates: vec![create(false), create(true)],
                items: 10,
                ..Watch::default()
            },
        ]
    }),
];

/// Six events at five revisions: three of `a`, and one each of `aa`, `b`, `c`.
fn changes() -> Vec<Call> {
    vec![
        put("a", "1").into(),
        put("aa", "1").into(),
        put("a", "2").into(),
        txn(vec![op(put("b", "1")), op(put("c", "1"))]).into(),
        delete("a", "").into(),
    ]
}
