//! `flat_100_to_100k`: what an event costs beside 100 000 watchers that it does not concern, compared with 100 of them.
//!
//! **How.** Two keyspaces in memory with one consumer of the written key each, and beside it 100 watchers in one and 100 000 in
//! the other: every second one of a key of its own, the others of a prefix of their own at a depth that the written key has
//! too, so that both kinds of lookup are made and find nothing. The two take turns of 20 bursts of 256 puts of 128 B; a burst
//! ends when the consumer has read all of it; 20 turns each, after one that is not measured. The cost is the time of all
//! turns over their events.
//!
//! **Fairness.** It is Tidewatch beside itself: `ours` with 100 000, `theirs` with 100. Turns are short, so that a disturbance of
//! the machine meets both.
//!
//! **Unit.** Nanoseconds an event.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tidewatch_core::{Watch, prefix};

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{Fanout, Tidewatch, park};
use crate::crowd::Crowd;
use crate::payload;
use crate::row::{Better, Row};
use crate::two_workers::{self, now};

const NAME: &str = "flat_100_to_100k";

const FEW: usize = 100;
const MANY: usize = 100_000;
/// Events of a burst.
const BURST: usize = 256;
/// Bursts of a turn.
const BURSTS: usize = 20;
/// Turns of each side.
const TURNS: usize = 20;

const WRITTEN: &str = "/flat/written/key";

/// The bench.
pub const BENCH: Bench = Bench { names: &[NAME], run };

fn run(plan: Plan) -> Result<Vec<Row>> {
    let [pairs] = alternate(plan, NAME, [("itself", costs as fn() -> _)])?;
    let (many, few): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let row = Row::new(
        NAME,
        "ns/event",
        Better::Less,
        median(many),
        "itself",
        median(few),
    );
    // The cost grows by 15 % at most.
    Ok(vec![row.at_least(0.87)])
}

/// What an event costs beside many, and beside few.
fn costs() -> Result<(f64, f64)> {
    two_workers::run(async {
        let (mut many, mut few) = (Rig::new(MANY).await?, Rig::new(FEW).await?);
        many.turn().await?;
        few.turn().await?;
        let mut times = [Duration::ZERO; 2];
        for _ in 0..TURNS {
            times[0] += many.turn().await?;
            times[1] += few.turn().await?;
        }
        let events = TURNS * BURSTS * BURST;
        let [many, few] = times.map(|time| time.as_secs_f64() * 1e9 / events as f64);
        Ok((many, few))
    })
}

/// A keyspace, its one reader, and those whom the events do not concern.
struct Rig {
    tidewatch: Tidewatch,
    reader: Crowd,
    values: Vec<Bytes>,
    _unrelated: Vec<Watch>,
}

impl Rig {
    async fn new(count: usize) -> Result<Self> {
        let tidewatch = Tidewatch::start();
        let mut unrelated = Vec::with_capacity(count);
        for number in 0..count {
            let mut watch = if number % 2 == 0 {
                tidewatch.watch(format!("/flat/{number}").into()).await?
            } else {
                let range = prefix(format!("/flat/{number}/"))?;
                tidewatch.keyspace().watch(range).start().await?
            };
            park(&mut watch)?;
            unrelated.push(watch);
        }
        Ok(Self {
            reader: Crowd::gather(&tidewatch, WRITTEN, 1, BURST).await?,
            tidewatch,
            values: (0..BURST as u64).map(payload::numbered).collect(),
            _unrelated: unrelated,
        })
    }

    async fn turn(&mut self) -> Result<Duration> {
        let started = now();
        for _ in 0..BURSTS {
            self.reader.round(&self.tidewatch, WRITTEN, &self.values).await?;
        }
        Ok(started.elapsed())
    }
}
