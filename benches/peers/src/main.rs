//! Runs the benches; `cargo xtask bench-peers` builds this and calls it.

use std::io;

use anyhow::Result;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use tidewatch_peers::alternate::Plan;
use tidewatch_peers::bench::BENCHES;
use tidewatch_peers::row::{self, Row};

/// Measure Tidewatch beside the systems it compares itself with.
#[derive(Parser)]
#[command(name = "cargo xtask bench-peers")]
struct Args {
    /// Which benches; all if none is named.
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    names: Vec<String>,
    /// Print one object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each side is measured; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
}

fn names() -> impl Iterator<Item = &'static str> {
    BENCHES.iter().flat_map(|bench| bench.names).copied()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let is_chosen = |name: &str| args.names.is_empty() || args.names.iter().any(|chosen| chosen == name);
    let plan = Plan {
        repetitions: args.repetitions.into(),
    };
    let mut all: Vec<Row> = Vec::new();
    report_load("before");
    for bench in BENCHES
        .iter()
        .filter(|bench| bench.names.iter().any(|name| is_chosen(name)))
    {
        let mut rows = (bench.run)(plan)?;
        rows.retain(|row| is_chosen(row.bench));
        if args.json {
            row::write_json(&rows, io::stdout())?;
        }
        all.append(&mut rows);
    }
    report_load("after");
    if !args.json {
        row::write_table(&all, io::stdout())?;
    }
    Ok(())
}

/// Says what else the machine was doing, where it tells: the run itself counts for about two.
#[expect(clippy::print_stderr, reason = "it belongs to the figures, but is none")]
fn report_load(when: &str) {
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        let averages: Vec<_> = load.split(' ').take(3).collect();
        eprintln!("load {when}, over 1, 5 and 15 minutes: {}", averages.join(" "));
    }
}
