//! Gets and ranges.

use tidewatch_proto::etcdserverpb as pb;

use crate::scenario::{Scenario, Step, all, delete, get, put, range, steps};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::same("one key", |_| {
        steps![
            get("a"),
            put("a", "1"),
            get("a"),
            put("a", "2"),
            get("a"),
            get("b"),
            get(""),
            with(get("a"), |it| it.serializable = true),
            delete("a", ""),
            get("a"),
            put("a", "3"),
            get("a"),
        ]
    }),
    Scenario::same("ranges", |_| {
        let mut steps = filled();
        for (from, to) in [
            ("a", "c"),
            ("a", "b0"),
            ("b", "c"),
            ("b", "b\0"),
            ("b", "a"),
            ("b", "b"),
            ("b", "\0"),
            ("\0", "\0"),
            ("\0", "c"),
            ("z", "\0"),
            ("", "\0"),
            ("", "c"),
            ("b1", ""),
        ] {
            steps.push(range(from, to).into());
        }
        steps
    }),
    Scenario::same("orders", |_| {
        let mut steps = filled();
        for order in 1..=2 {
            for target in 0..=4 {
                for limit in [0, 2] {
                    steps.push(
                        with(all(), |it| {
                            (it.sort_order, it.sort_target, it.limit) = (order, target, limit);
                        })
                        .into(),
                    );
                }
            }
        }
        for target in 0..=4 {
            steps.push(with(all(), |it| it.sort_target = target).into());
        }
        steps
    }),
    Scenario::same("limits, keys only, count only", |_| {
        let mut steps = filled();
        for limit in [-1, 0, 1, 4, 5, 6, 100] {
            for (keys_only, count_only) in [(false, false), (true, false), (false, true), (true, true)] {
                steps.push(
                    with(all(), |it| {
                        (it.limit, it.keys_only, it.count_only) = (limit, keys_only, count_only);
                    })
                    .into(),
                );
            }
        }
        steps
    }),
    Scenario::same("older revisions", |base| {
        let mut steps = filled();
        steps.extend(steps![delete("b", ""), put("b", "again")]);
        // `filled` makes 7 revisions, and these two more.
        for revision in (base..=base + 9).chain([-1, 0, base + 10, base + 1000]) {
            for request in [all(), get("b"), with(all(), |it| it.count_only = true)] {
                steps.push(with(request, |it| it.revision = revision).into());
            }
        }
        steps
    }),
    Scenario::same("bounds of revisions", |base| {
        let mut steps = filled();
        for at in [-1, base + 1, base + 3, base + 6, base + 9] {
            steps.push(with(all(), |it| it.min_mod_revision = at).into());
            steps.push(with(all(), |it| it.max_mod_revision = at).into());
            steps.push(with(all(), |it| it.min_create_revision = at).into());
            steps.push(with(all(), |it| it.max_create_revision = at).into());
            steps.push(
                with(all(), |it| {
                    (it.min_mod_revision, it.max_create_revision) = (at, base + 4);
                    (it.limit, it.sort_order, it.sort_target) = (1, 2, 3);
                })
                .into(),
            );
            steps.push(with(all(), |it| (it.min_mod_revision, it.limit) = (at, 2)).into());
            steps.push(with(all(), |it| (it.max_mod_revision, it.count_only) = (at, true)).into());
        }
        steps
    }),
    Scenario::same("keys and values of any bytes", |_| {
        let mut odd = put("", "");
        odd.key = vec![0, 255, b'"', b'\n', 0xc3].into();
        odd.value = (0..=255).collect::<Vec<u8>>().into();
        let mut asked = get("");
        asked.key.clone_from(&odd.key);
        steps![odd, asked, all(), put("\0", "first"), range("\0", "\0\0"), all()]
    }),
];

/// Five keys at seven revisions, whose values sort otherwise than they do.
fn filled() -> Vec<Step> {
    steps![
        put("b", "5"),
        put("a", "3"),
        put("d", "1"),
        put("b1", "4"),
        put("c", "2"),
        put("a", "6"),
        put("d", ""),
    ]
}

fn with(mut request: pb::RangeRequest, change: impl FnOnce(&mut pb::RangeRequest)) -> pb::RangeRequest {
    change(&mut request);
    request
}
