//! `fanout_single_1000`: deliveries a second, in process, to 1000 watchers of one key, one event at a time.
//!
//! **How.** As [`fanout_burst`](super::fanout_burst), with bursts of one: the next event is published when every consumer has
//! read the one before. What it shows is the cost of waking 1000 tasks that wait, and there is nothing to share it with.
//!
//! **Fairness.** As there.
//!
//! **Unit.** Deliveries a second.

use anyhow::Result;

use super::Bench;
use super::fanout::deliveries;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{DEngine, Fanout, Tidewatch};
use crate::row::{Better, Row};

const NAME: &str = "fanout_single_1000";

/// The bench.
pub const BENCH: Bench = Bench { names: &[NAME], run };

fn run(plan: Plan) -> Result<Vec<Row>> {
    let sides = [
        (Tidewatch::NAME, deliveries::<Tidewatch, 1> as fn() -> _),
        (DEngine::NAME, deliveries::<DEngine, 1>),
    ];
    let [ours, theirs] = alternate(plan, NAME, sides)?.map(median);
    let row = Row::new(NAME, "deliveries/s", Better::More, ours, DEngine::NAME, theirs);
    Ok(vec![row.at_least(1.0)])
}
