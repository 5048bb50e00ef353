//! `directive_load`: a look at the directives in force, as a program takes for every request.
//!
//! **How.** The reader handle of a store with ten directives, and `arc_swap::Cache` over an `ArcSwap` of the same snapshot,
//! both asked again and again on one thread while nothing is published. `RwLock<Arc>` is for information.
//!
//! **Fairness.** The same loop for all, and what is returned is hidden from the compiler, so that none is left out.
//!
//! **Unit.** Nanoseconds a look.

use std::hint::black_box;
use std::sync::{Arc, RwLock};

use anyhow::Result;
use arc_swap::{ArcSwap, Cache};
use tidewatch_core::SystemClock;
use tidewatch_directives::{DirectiveStore, MemoryDirectiveStore, Snapshot};

use super::Bench;
use crate::alternate::{Side, alternate, median};
use crate::row::{Better, Row};
use crate::two_workers::now;

const NAME: &str = "directive_load";

/// Looks in a measurement: some tens of milliseconds.
const LOOKS: u32 = 50_000_000;

/// Looks before one, so that clocks and caches have settled.
const WARM_UP: u32 = 5_000_000;

/// At most half as long again.
const TARGET: f64 = 1.0 / 1.5;

/// Beside the cache that it is made of.
pub const BENCH: Bench = Bench {
    names: &[NAME],
    run: |plan| {
        let sides: [Side<f64>; 3] = [
            ("tidewatch", ours),
            ("arc_swap::Cache", cache),
            ("RwLock<Arc>", lock),
        ];
        let [ours, cache, lock] = alternate(plan, NAME, sides)?.map(median);
        let row = |peer, theirs| Row::new(NAME, "ns", Better::Less, ours, peer, theirs);
        Ok(vec![
            row("arc_swap::Cache", cache).at_least(TARGET),
            row("RwLock<Arc>", lock),
        ])
    },
};

fn store() -> Result<MemoryDirectiveStore> {
    let store = MemoryDirectiveStore::new(SystemClock::shared());
    let directives: Vec<_> = (0..10)
        .map(|n| serde_json::json!({"id": format!("d{n}"), "level": "debug", "ttl_secs": 3600}))
        .collect();
    let set = serde_json::json!({ "directives": directives }).to_string();
    store.publish(set.as_bytes())?;
    Ok(store)
}

fn ours() -> Result<f64> {
    let mut reader = store()?.reader();
    Ok(each(|| {
        black_box(reader.load());
    }))
}

fn cache() -> Result<f64> {
    let swap = Arc::new(ArcSwap::new(store()?.load()));
    let mut cache = Cache::new(swap);
    Ok(each(|| {
        let snapshot: &Arc<Snapshot> = cache.load();
        black_box(snapshot);
    }))
}

fn lock() -> Result<f64> {
    let lock = RwLock::new(store()?.load());
    Ok(each(|| {
        black_box(lock.read().map(|snapshot| Arc::clone(&snapshot)).ok());
    }))
}

/// Nanoseconds that one of many calls takes.
fn each(mut look: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| look());
    let started = now();
    (0..LOOKS).for_each(|_| look());
    started.elapsed().as_nanos() as f64 / f64::from(LOOKS)
}
