//! `latency_p50_1000`, `latency_p99_1000`: from publishing an event to its receipt by the last of 1000 watchers, at 1000 events
//! a second.
//!
//! **How.** 1000 consumers of one key, each a task. A publisher, a task too, publishes an event every millisecond (after a delay
//! it makes up for lost ticks). The time of an event begins right before the call that publishes it and ends when the last of
//! the consumers has received it and compared its value with what was published. One repetition is 3000 events after 300
//! unmeasured ones; its figures are the percentiles of these, and what is reported are the medians of those over all
//! repetitions.
//!
//! **Fairness.** Both sides are woken by the same timer and count arrivals in the same way; ours publishes with `Keyspace::put`,
//! d-engine with a send to its dispatcher. The call itself is part of the time.
//!
//! **Unit.** Microseconds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Bench;
use crate::alternate::{Plan, alternate, median, percentile};
use crate::contender::{DEngine, Fanout, Tidewatch, Watcher};
use crate::payload;
use crate::row::{Better, Row};
use crate::two_workers::{self, now};

const P50: &str = "latency_p50_1000";
const P99: &str = "latency_p99_1000";

const KEY: &str = "/latency/key";
/// Watchers of the key.
const WATCHERS: usize = 1000;
/// Between two events.
const PACE: Duration = Duration::from_millis(1);
/// Events of a repetition that are not counted: the first finds everything cold.
const WARM_UP: usize = 300;
/// Events of a repetition that are.
const MEASURED: usize = 3000;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[P50, P99],
    run,
};

fn run(plan: Plan) -> Result<Vec<Row>> {
    let sides = [
        (Tidewatch::NAME, times::<Tidewatch> as fn() -> _),
        (DEngine::NAME, times::<DEngine>),
    ];
    let measured = alternate(plan, "latency_1000", sides)?;
    let row = |name, fraction| {
        let [ours, theirs] = measured.each_ref().map(|repetitions: &Vec<Vec<Duration>>| {
            let micros = |times: &Vec<_>| percentile(&mut times.clone(), fraction).as_secs_f64() * 1e6;
            median(repetitions.iter().map(micros).collect())
        });
        Row::new(name, "µs", Better::Less, ours, DEngine::NAME, theirs).at_least(0.9)
    };
    Ok(vec![row(P50, 0.5), row(P99, 0.99)])
}

/// What is known of the events, by number.
struct Journey {
    values: Vec<Bytes>,
    events: Vec<Event>,
    over: Notify,
}

#[derive(Default)]
struct Event {
    arrivals: AtomicUsize,
    published: OnceLock<Instant>,
    received_by_all: OnceLock<Instant>,
}

fn times<F: Fanout>() -> Result<Vec<Duration>> {
    two_workers::run(async {
        let fanout = F::start();
        let numbers = 0..(WARM_UP + MEASURED) as u64;
        let journey = Arc::new(Journey {
            values: numbers.clone().map(payload::numbered).collect(),
            events: numbers.map(|_| Event::default()).collect(),
            over: Notify::new(),
        });
        let mut readers = JoinSet::new();
        for _ in 0..WATCHERS {
            readers.spawn(read(fanout.watch(payload::key(KEY)).await?, Arc::clone(&journey)));
        }
        let mut ticks = tokio::time::interval(PACE);
        for (event, value) in journey.events.iter().zip(&journey.values) {
            ticks.tick().await;
            event.published.get_or_init(now);
            fanout.publish(payload::key(KEY), value.clone()).await?;
        }
        tokio::select! {
            () = journey.over.notified() => {}
            Some(ended) = readers.join_next() => bail!("a reader is gone: {:#}", ended?),
        }
        let measured = journey.events.iter().skip(WARM_UP).map(|event| {
            let published = event.published.get().context("an event was not published")?;
            let received = event.received_by_all.get().context("an event did not arrive")?;
            Ok(received.duration_since(*published))
        });
        measured.collect()
    })
}

async fn read<W: Watcher>(mut watcher: W, journey: Arc<Journey>) -> anyhow::Error {
    loop {
        match watcher.next().await {
            Ok(delivery) => {
                let mut outcome = Ok(());
                W::values(&delivery, |value| {
                    if outcome.is_ok() {
                        outcome = arrived(&journey, value);
                    }
                });
                if let Err(error) = outcome {
                    return error;
                }
            }
            Err(ended) => return ended,
        }
    }
}

fn arrived(journey: &Journey, value: &[u8]) -> Result<()> {
    let number = usize::try_from(payload::number(value))?;
    let event = journey.events.get(number).context("no such event")?;
    ensure!(
        value == journey.values[number],
        "what was read is not what was published"
    );
    if event.arrivals.fetch_add(1, Ordering::AcqRel) + 1 == WATCHERS {
        event.received_by_all.get_or_init(now);
        if number + 1 == journey.events.len() {
            journey.over.notify_one();
        }
    }
    Ok(())
}
