//! Puts and deletes.

use tidewatch_proto::etcdserverpb as pb;

use crate::scenario::{Call, Scenario, Watch, all, delete, get, put, put_leased, range, steps, watch};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::same("puts", |_| {
        steps![
            put("a", "1"),
            with(put("a", "2"), |it| it.prev_kv = true),
            with(put("b", "1"), |it| it.prev_kv = true),
            put("a", ""),
            get("a"),
            put("", "1"),
            with(put("", ""), |it| it.ignore_value = true),
            put_leased("a", "1", 404),
            get("a"),
            with(put("a", ""), |it| it.value = vec![b'x'; 1_000_000].into()),
            with(put("a", ""), |it| it.value = vec![b'x'; 1_700_000].into()),
            pb::RangeRequest {
                keys_only: true,
                ..range("a", "b")
            },
        ]
    }),
    Scenario::same("what a put keeps", |_| {
        steps![
            Call::Grant { id: 7, ttl: 100 },
            put_leased("a", "1", 7),
            get("a"),
            with(put("a", ""), |it| it.ignore_value = true),
            get("a"),
            put_leased("a", "2", 7),
            with(put("a", "3"), |it| it.ignore_lease = true),
            get("a"),
            with(put("a", ""), |it| (
                it.ignore_lease,
                it.ignore_value,
                it.prev_kv
            ) = (true, true, true)),
            get("a"),
            with(put("a", "4"), |it| it.ignore_value = true),
            with(put_leased("a", "4", 7), |it| it.ignore_lease = true),
            with(put_leased("a", "4", 7), |it| (it.ignore_lease, it.ignore_value) =
                (true, true)),
            with(put("absent", ""), |it| it.ignore_value = true),
            with(put("absent", "1"), |it| it.ignore_lease = true),
            all(),
        ]
    }),
    Scenario::same("deletes", |_| {
        steps![
            put("a", "1"),
            put("b", "2"),
            put("b1", "3"),
            put("c", "4"),
            put("d", "5"),
            delete("b", ""),
            delete("b", ""),
            delete("c", "a"),
            delete("", ""),
            delete("", "\0"),
            delete("x", "z"),
            pb::DeleteRangeRequest {
                prev_kv: false,
                ..delete("a", "c")
            },
            all(),
            delete("c", "\0"),
            all(),
            put("c", "again"),
            get("c"),
            delete("\0", "\0"),
            delete("\0", "\0"),
        ]
    }),
    Scenario::same("history tells the writes as they were", |base| {
        steps![
            put("a", "1"),
            put("a", "1"),
            delete("a", ""),
            put("a", "2"),
            Watch {
                creates: vec![watch("a", "", base + 1)],
                items: 4,
                ..Watch::default()
            },
        ]
    }),
];

fn with(mut request: pb::PutRequest, change: impl FnOnce(&mut pb::PutRequest)) -> pb::PutRequest {
    change(&mut request);
    request
}
