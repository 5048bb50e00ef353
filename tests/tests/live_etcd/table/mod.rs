//! The scenarios.

mod compaction;
mod differences;
mod lease;
mod read;
mod txn;
mod watch;
mod write;

pub(crate) use txn::compare;

use crate::scenario::Scenario;

/// All of them, in an order in which each may compact what came before it.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        read::SCENARIOS,
        write::SCENARIOS,
        txn::SCENARIOS,
        lease::SCENARIOS,
        watch::SCENARIOS,
        compaction::SCENARIOS,
        differences::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}
