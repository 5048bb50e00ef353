//! `fanout_burst_1000`: deliveries a second, in process, to 1000 watchers of one key, in bursts of 256 events of 128 B.
//!
//! **How.** 1000 consumers, each a task that receives for as long as the bench runs. A publisher, a task too, publishes 256
//! events one after the other without a pause, then waits until every consumer has read all of them; that is a burst, and
//! the next one follows at once. Counted are deliveries over the time from the first publish to the last consumer's word,
//! for at least a second after a warm-up of 0.2 s. One repetition is that, in a new runtime.
//!
//! **Fairness.** Everyone receives with one call for each thing that the system delivers: a batch of ours is the events of one
//! revision, here one. A delivery is owned: ours shares the record, as the `Arc` of the bare channels shares the event;
//! d-engine's is a copy of a struct whose bytes are shared. Ours publishes with `Keyspace::put` and pays for evaluation, index
//! and history; d-engine with a send to its dispatcher, the channels with a loop of `try_send(Arc)`, which pay for none of it.
//! Peers' room is 16 384 events, so that they lose none.
//!
//! **Unit.** Deliveries a second.

use anyhow::Result;

use super::Bench;
use super::fanout::deliveries;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{DEngine, Fanout, Tidewatch, TokioBroadcast, TokioMpsc};
use crate::row::{Better, Row};

const NAME: &str = "fanout_burst_1000";

/// Events of a burst.
const BURST: usize = 256;

/// The bench.
pub const BENCH: Bench = Bench { names: &[NAME], run };

fn run(plan: Plan) -> Result<Vec<Row>> {
    let measured = alternate(
        plan,
        NAME,
        [
            (Tidewatch::NAME, deliveries::<Tidewatch, BURST>),
            (DEngine::NAME, deliveries::<DEngine, BURST>),
            (TokioMpsc::NAME, deliveries::<TokioMpsc, BURST>),
            (TokioBroadcast::NAME, deliveries::<TokioBroadcast, BURST>),
        ],
    )?;
    let [ours, d_engine, mpsc, broadcast] = measured.map(median);
    let row = |peer, theirs| Row::new(NAME, "deliveries/s", Better::More, ours, peer, theirs);
    Ok(vec![
        row(DEngine::NAME, d_engine).at_least(10.0),
        row(TokioMpsc::NAME, mpsc).at_least(3.0),
        row(TokioBroadcast::NAME, broadcast),
    ])
}
