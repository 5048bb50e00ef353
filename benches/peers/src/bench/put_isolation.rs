//! `put_isolation_10k`, `put_isolation_10k_other_keys`: what watchers that do not read cost a writer: puts a second with
//! 10 000 of them, beside puts with none.
//!
//! **How.** Two keyspaces in memory, one with 10 000 watchers and one without, take turns of 5000 puts of 128 B to one key by one
//! writer, 20 turns each. The writer lets others run after every 32 puts: what it wakes is queued behind it on its own worker,
//! and without that nothing would be handed on while it writes, and nothing could be in its way. A turn begins when what was
//! put before has been handed on, so that nothing of the other's is at work. Puts a second are all puts of a side over the time
//! of its turns. Before, unmeasured, each gets 4096 puts, which is four times the room that a watcher has by default.
//! - `put_isolation_10k`: the watchers watch the written key. They have waited once, as a consumer does, and do not read: after
//!   the unmeasured puts all of them are lagging.
//! - `put_isolation_10k_other_keys`: each waits for a key of its own.
//!
//! **Fairness.** It is Tidewatch beside itself. Turns are short, so that a disturbance of the machine meets both.
//!
//! **Unit.** Puts a second.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{Fanout, Tidewatch, park};
use crate::payload;
use crate::row::{Better, Row};
use crate::two_workers::{self, now};

/// Watchers that do not read.
const WATCHERS: usize = 10_000;
/// Puts before the measured ones.
const WARM_UP: usize = 4096;
/// Puts of a turn.
const TURN: usize = 5000;
/// Puts after which the writer lets others run.
const AT_A_TIME: usize = 32;
/// Turns of each side.
const TURNS: usize = 20;

const WRITTEN: &str = "/isolation/key";

/// With lagging watchers of the written key.
pub const LAGGING: Bench = Bench {
    names: &["put_isolation_10k"],
    run: |plan| row("put_isolation_10k", plan, || puts(|_| WRITTEN.to_owned())),
};

/// With watchers of other keys.
pub const OTHER_KEYS: Bench = Bench {
    names: &["put_isolation_10k_other_keys"],
    run: |plan| {
        row("put_isolation_10k_other_keys", plan, || {
            puts(|number| format!("/elsewhere/{number}"))
        })
    },
};

fn row(name: &'static str, plan: Plan, measure: fn() -> Result<(f64, f64)>) -> Result<Vec<Row>> {
    let [pairs] = alternate(plan, name, [("itself", measure)])?;
    let (with, without): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let row = Row::new(
        name,
        "puts/s",
        Better::More,
        median(with),
        "itself",
        median(without),
    );
    Ok(vec![row.at_least(0.95)])
}

/// Puts a second with watchers of these keys, and without.
fn puts(key_of: fn(usize) -> String) -> Result<(f64, f64)> {
    two_workers::run(async move {
        let (with, without) = (Tidewatch::start(), Tidewatch::start());
        let mut watchers = Vec::with_capacity(WATCHERS);
        for number in 0..WATCHERS {
            let mut watcher = with.watch(payload::key(&key_of(number))).await?;
            park(&mut watcher)?;
            watchers.push(watcher);
        }
        put(&with, WARM_UP).await?;
        put(&without, WARM_UP).await?;
        let mut times = [Duration::ZERO; 2];
        for _ in 0..TURNS {
            times[0] += put(&with, TURN).await?;
            times[1] += put(&without, TURN).await?;
        }
        drop(watchers);
        let [with, without] = times.map(|time| (TURNS * TURN) as f64 / time.as_secs_f64());
        Ok((with, without))
    })
}

/// Puts, one after the other, and waits until they have been handed on. Returns what the puts took.
async fn put(tidewatch: &Tidewatch, count: usize) -> Result<Duration> {
    let value = payload::numbered(0);
    let keyspace = tidewatch.keyspace();
    let started = now();
    for number in 1..=count {
        keyspace.put(payload::key(WRITTEN), value.clone()).await?;
        if number % AT_A_TIME == 0 {
            tokio::task::yield_now().await;
        }
    }
    let took = started.elapsed();
    loop {
        let status = keyspace.status().await?;
        if status.dispatched >= status.revision {
            return Ok(took);
        }
        tokio::task::yield_now().await;
    }
}
