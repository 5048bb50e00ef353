//! The process in which the `idle_watcher_bytes` are measured: its global allocator counts. It prints bytes a watcher.

use std::alloc::System;

use anyhow::{Context, Result};
use stats_alloc::StatsAlloc;
use tidewatch_peers::bench::idle_watcher;

#[global_allocator]
static ALLOCATOR: StatsAlloc<System> = StatsAlloc::system();

#[expect(clippy::print_stdout, reason = "the figure is what the program is for")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let bench = args.next().context("usage: idle_watcher BENCH CONTENDER")?;
    let contender = args.next().context("usage: idle_watcher BENCH CONTENDER")?;
    println!("{}", idle_watcher::measure(&bench, &contender, live)?);
    Ok(())
}

/// Bytes asked for and not yet given back.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
