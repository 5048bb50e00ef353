//! `mass_drop_100k`: 100 000 watchers of one key vanish at once; the longest gap that an unrelated watcher sees.
//!
//! **How.** 100 000 watchers of a key wait, as idle consumers do. A watcher of another key gets an event every millisecond, from
//! a publisher that makes up for lost ticks, so that for each event there is a moment at which it is expected. After 300
//! events the 100 000 are dropped, in a random order (the same for both), on a thread beside the runtime's workers: connections
//! end at their own pace, and a worker that is busy with dropping would hold up what it has just woken, which is tokio's
//! business. Events go on until half a second after the last one is dropped. The figure is the longest time from the moment at
//! which an event was expected to its receipt by the one watcher, over all events since the drop began.
//!
//! **Fairness.** The same code for both; each side's handle is dropped as it is meant to be, which unregisters the watcher.
//! d-engine has room for more events than the gap holds back. The timer's granularity of a millisecond is part of both figures.
//!
//! **Unit.** Milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep_until;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{DEngine, Fanout, Tidewatch, Watcher, park};
use crate::payload;
use crate::row::{Better, Row};
use crate::two_workers::{self, now};

const NAME: &str = "mass_drop_100k";

/// The key of the unrelated watcher.
const STEADY: &str = "/steady/key";
/// Watchers that vanish.
const VANISHING: usize = 100_000;
/// Between two events of the unrelated watcher.
const PACE: Duration = Duration::from_millis(1);
/// Events before the drop.
const BEFORE: u64 = 300;
/// Events after it.
const AFTER: u64 = 500;
/// What the order of dropping is shuffled with.
const SEED: u64 = 7;

/// The bench.
pub const BENCH: Bench = Bench { names: &[NAME], run };

fn run(plan: Plan) -> Result<Vec<Row>> {
    let sides = [
        (Tidewatch::NAME, longest_gap::<Tidewatch> as fn() -> _),
        (DEngine::NAME, longest_gap::<DEngine>),
    ];
    let [ours, theirs] = alternate(plan, NAME, sides)?.map(median);
    let row = Row::new(NAME, "ms", Better::Less, ours, DEngine::NAME, theirs);
    Ok(vec![row.at_least(25.0)])
}

/// When each event is expected.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
}

impl Schedule {
    fn expected(self, number: u64) -> Instant {
        self.start + PACE.mul_f64(number as f64)
    }
}

fn longest_gap<F: Fanout>() -> Result<f64> {
    two_workers::run(async {
        let fanout = F::start();
        let steady = fanout.watch(payload::key(STEADY)).await?;
        let vanishing = gather(&fanout).await?;

        let schedule = Schedule { start: now() + PACE };
        let (last, last_number) = tokio::sync::oneshot::channel();
        let reader = tokio::spawn(read(steady, schedule, last_number));
        let publish = async |number| {
            sleep_until(schedule.expected(number).into()).await;
            fanout
                .publish(payload::key(STEADY), payload::numbered(number))
                .await
        };
        for number in 0..BEFORE {
            publish(number).await?;
        }
        let gone = Arc::new(AtomicBool::new(false));
        let dropping = std::thread::spawn({
            let gone = Arc::clone(&gone);
            move || {
                drop(vanishing);
                gone.store(true, Ordering::Release);
            }
        });
        let mut number = BEFORE;
        while !gone.load(Ordering::Acquire) {
            publish(number).await?;
            number += 1;
        }
        for number in number..number + AFTER {
            publish(number).await?;
        }
        last.send(number + AFTER - 1).ok().context("the reader is gone")?;
        let gap = reader.await??;
        dropping.join().ok().context("dropping the watchers failed")?;
        Ok(gap.as_secs_f64() * 1e3)
    })
}

/// The watchers that will vanish, waiting, in the order in which they will.
async fn gather<F: Fanout>(fanout: &F) -> Result<Vec<F::Watcher>> {
    let mut watchers = Vec::with_capacity(VANISHING);
    for _ in 0..VANISHING {
        let mut watcher = fanout.watch(payload::key("/vanishing/key")).await?;
        park(&mut watcher)?;
        watchers.push(watcher);
    }
    fastrand::Rng::with_seed(SEED).shuffle(&mut watchers);
    Ok(watchers)
}

/// Reads until the last event, whose number becomes known on the way, and returns by how much the latest since the drop was
/// late.
async fn read<W: Watcher>(
    mut steady: W,
    schedule: Schedule,
    mut last: tokio::sync::oneshot::Receiver<u64>,
) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut received = None;
    let mut end = None;
    while end.is_none() || received < end {
        tokio::select! {
            biased;
            delivery = steady.next() => W::values(&delivery?, |value| {
                let number = payload::number(value);
                received = Some(number);
                if number >= BEFORE {
                    longest = longest.max(now().saturating_duration_since(schedule.expected(number)));
                }
            }),
            number = &mut last, if end.is_none() => end = Some(number?),
        }
    }
    Ok(longest)
}
