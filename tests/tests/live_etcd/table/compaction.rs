//! Compaction, and what asks for what it took away.

use tidewatch_proto::etcdserverpb as pb;

use crate::scenario::{Call, Scenario, Watch, all, delete, get, op, put, steps, txn, watch};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::same("compaction", |base| {
    let at = |revision| pb::RangeRequest { revision, ..all() };
    let watching = |creates| Watch {
        creates,
        items: 1,
        ..Watch::default()
    };
    let mut steps = steps![
        put("a", "1"),
        put("a", "2"),
        delete("a", ""),
        put("b", "1"),
        put("c", "1"),
        Call::Compact(base + 100),
        Call::Compact(base + 4),
    ];
    for revision in base..=base + 6 {
        steps.push(at(revision).into());
    }
    steps.extend(steps![
        txn(vec![op(at(base + 2))]),
        txn(vec![op(put("never", "1")), op(at(base + 2))]),
        get("never"),
        Call::Compact(base + 4),
        Call::Compact(base + 2),
        Call::Compact(0),
        Call::Compact(1),
        Call::Compact(-1),
        watching(vec![watch("a", "", 1)]),
        watching(vec![watch("a", "", base + 3)]),
        Watch {
            creates: vec![watch("\0", "\0", base + 4)],
            items: 2,
            ..Watch::default()
        },
        Watch {
            creates: vec![
                watch("c", "", 0),
                watch("a", "", base + 1),
                watch("\0", "\0", base + 5)
            ],
            then: vec![put("c", "2").into()],
            items: 4,
            ..Watch::default()
        },
        Call::Compact(base + 5),
        all(),
    ]);
    steps
})];
