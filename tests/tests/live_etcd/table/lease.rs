//! Leases.

use crate::scenario::{Call, Scenario, Watch, all, delete, get, put, put_leased, steps, watch};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::same("grants", |_| {
        steps![
            Call::Leases,
            Call::Grant { id: 5, ttl: 100 },
            Call::Grant { id: 5, ttl: 200 },
            Call::Grant { id: 6, ttl: 0 },
            Call::Grant { id: 7, ttl: -5 },
            Call::Grant {
                id: 8,
                ttl: 9_000_000_000
            },
            Call::Grant {
                id: 8,
                ttl: 9_000_000_001
            },
            Call::Revoke(6),
            Call::Revoke(7),
            Call::Leases,
            Call::TimeToLive(5),
            Call::TimeToLive(404),
            Call::KeepAlive(5),
            Call::KeepAlive(404),
            Call::Revoke(5),
            Call::Revoke(5),
            Call::TimeToLive(5),
        ]
    }),
    Scenario::same("keys go with their lease, at one revision", |base| {
        steps![
            Call::Grant { id: 5, ttl: 100 },
            Call::Grant { id: 6, ttl: 200 },
            put_leased("a", "1", 5),
            put_leased("b", "1", 5),
            put_leased("c", "1", 5),
            put_leased("d", "1", 5),
            put_leased("e", "1", 6),
            Call::TimeToLive(5),
            put("b", "no lease any more"),
            put_leased("c", "another", 6),
            delete("d", ""),
            Call::TimeToLive(5),
            Call::TimeToLive(6),
            Call::Revoke(5),
            all(),
            Call::Revoke(6),
            all(),
            Watch {
                creates: vec![watch("\0", "\0", base + 1)],
                items: 11,
                ..Watch::default()
            },
        ]
    }),
    Scenario::same("an expired lease deletes its keys", |_| {
        steps![
            // Long enough for what is put under it, on a busy machine.
            Call::Grant { id: 5, ttl: 10 },
            Watch {
                creates: vec![watch("\0", "\0", 0)],
                then: vec![
                    put_leased("a", "1", 5).into(),
                    put_leased("b", "1", 5).into(),
                    put("c", "1").into(),
                ],
                items: 5,
                ..Watch::default()
            },
            all(),
            get("a"),
            Call::TimeToLive(5),
            Call::KeepAlive(5),
            Call::Leases,
            put_leased("a", "1", 5),
        ]
    }),
];
