//! `idle_watcher_bytes`, and for information `idle_watcher_bytes_key_each`, `idle_watcher_bytes_after_burst`: memory of a
//! watcher that waits.
//!
//! **How.** A process of its own for each measurement (`src/bin/idle_watcher.rs`), whose global allocator counts the bytes that
//! are asked for and not yet given back, so that neither an allocator's rounding nor what an earlier measurement left behind
//! plays a part. It starts the fan-out, then 10 000 watchers, each of which is polled once so that it waits with a waker as an
//! idle consumer does, but without a task: consumers' tasks are the program's, whatever it watches with. The difference,
//! handles included, is divided by their number.
//! - `idle_watcher_bytes`: they all watch the same key.
//! - `idle_watcher_bytes_key_each`: each watches a key of its own, so that nothing is shared.
//! - `idle_watcher_bytes_after_burst`: of one key, each after it has received 256 events of 128 B in a task that is gone again:
//!   what idle watchers of a busy key hold on to.
//!
//! **Fairness.** The same code for both. d-engine's room does not matter here: its channels take memory as they fill.
//!
//! **Unit.** Bytes a watcher.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::contender::{DEngine, Fanout, Tidewatch, Watcher, park};
use crate::row::{Better, Row};
use crate::{payload, two_workers};

const ONE: &str = "idle_watcher_bytes";
const EACH: &str = "idle_watcher_bytes_key_each";
const BUSY: &str = "idle_watcher_bytes_after_burst";

/// Watchers that the memory is divided by.
const WATCHERS: u32 = 10_000;

/// Events that a watcher has received in `idle_watcher_bytes_after_burst`.
const BURST: usize = 256;

/// Of one key.
pub const ONE_KEY: Bench = Bench {
    names: &[ONE],
    run: |plan| {
        let ours = || in_a_process(ONE, Tidewatch::NAME);
        let row = row(ONE, plan, ours, || in_a_process(ONE, DEngine::NAME))?;
        Ok(vec![row.at_least(10.0)])
    },
};

/// Of a key each.
pub const KEY_EACH: Bench = Bench {
    names: &[EACH],
    run: |plan| {
        let ours = || in_a_process(EACH, Tidewatch::NAME);
        Ok(vec![row(EACH, plan, ours, || in_a_process(EACH, DEngine::NAME))?])
    },
};

/// Of one key, after a burst.
pub const AFTER_BURST: Bench = Bench {
    names: &[BUSY],
    run: |plan| {
        let ours = || in_a_process(BUSY, Tidewatch::NAME);
        Ok(vec![row(BUSY, plan, ours, || in_a_process(BUSY, DEngine::NAME))?])
    },
};

fn row(
    name: &'static str,
    plan: Plan,
    ours: fn() -> Result<f64>,
    theirs: fn() -> Result<f64>,
) -> Result<Row> {
    let sides = [(Tidewatch::NAME, ours), (DEngine::NAME, theirs)];
    let [ours, theirs] = alternate(plan, name, sides)?.map(median);
    Ok(Row::new(name, "B", Better::Less, ours, DEngine::NAME, theirs))
}

/// Measures in a process of its own, whose allocator counts.
fn in_a_process(bench: &str, contender: &str) -> Result<f64> {
    let this = std::env::current_exe().context("where this program is")?;
    let program = this.with_file_name(format!("idle_watcher{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&program)
        .args([bench, contender])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}; build all of the package", program.display()))?;
    ensure!(
        output.status.success(),
        "idle_watcher ended with {}",
        output.status
    );
    let bytes = String::from_utf8(output.stdout)?;
    bytes.trim().parse().context("idle_watcher prints no number")
}

/// Measures here. `live` tells how many bytes are in use.
///
/// # Errors
/// There is no such bench or contender.
pub fn measure(bench: &str, contender: &str, live: fn() -> usize) -> Result<f64> {
    match contender {
        Tidewatch::NAME => bytes_each::<Tidewatch>(bench, live),
        DEngine::NAME => bytes_each::<DEngine>(bench, live),
        _ => bail!("there is no `{contender}` here"),
    }
}

fn bytes_each<F: Fanout>(bench: &str, live: fn() -> usize) -> Result<f64> {
    let (one_key, burst) = match bench {
        ONE => (true, 0),
        EACH => (false, 0),
        BUSY => (true, BURST),
        _ => bail!("there is no bench `{bench}` here"),
    };
    two_workers::run(async move {
        let fanout = F::start();
        let before = live();
        let mut watchers = Vec::with_capacity(WATCHERS as usize);
        for number in 0..WATCHERS {
            let number = if one_key { 0 } else { number };
            watchers.push(fanout.watch(payload::key(&format!("/idle/{number:08}"))).await?);
        }
        if burst > 0 {
            watchers = read_a_burst(&fanout, watchers, burst).await?;
        }
        for watcher in &mut watchers {
            park(watcher)?;
        }
        let bytes = live().saturating_sub(before);
        drop(watchers);
        Ok(bytes as f64 / f64::from(WATCHERS))
    })
}

/// Publishes to watchers of the first key, and has each read everything in a task.
async fn read_a_burst<F: Fanout>(
    fanout: &F,
    watchers: Vec<F::Watcher>,
    events: usize,
) -> Result<Vec<F::Watcher>> {
    let mut readers = JoinSet::new();
    let count = watchers.len();
    for mut watcher in watchers {
        readers.spawn(async move {
            let mut received = 0;
            while received < events {
                let delivery = watcher.next().await?;
                F::Watcher::values(&delivery, |_| received += 1);
            }
            Ok::<_, anyhow::Error>(watcher)
        });
    }
    for number in 0..events as u64 {
        let key = payload::key("/idle/00000000");
        fanout.publish(key, payload::numbered(number)).await?;
        // Neither side is to hold all of the burst for all watchers at once.
        tokio::task::yield_now().await;
    }
    let mut watchers = Vec::with_capacity(count);
    while let Some(watcher) = readers.join_next().await {
        watchers.push(watcher??);
    }
    Ok(watchers)
}
