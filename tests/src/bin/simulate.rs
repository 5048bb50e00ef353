//! `cargo xtask sim`: the simulation of a keyspace and everybody around it, on any seeds.

use std::fmt;
use std::process::ExitCode;

use clap::Parser;
use tidewatch_tests::simulation::{Coverage, Options, STEPS, run};

/// Simulate a keyspace on a disk that fails, and everybody around it.
///
/// Ends with 1 if a promise was broken.
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Args {
    /// Run this seed alone and print what happens in it
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    seeds: u64,
    /// The first of them; the tests run those from 0 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// How many steps each takes before the calm
    #[arg(long, value_name = "N", default_value_t = STEPS)]
    steps: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let kept = match args.seed {
        Some(seed) => one(seed, args.steps),
        None => many(&args),
    };
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what happens in a seed. Returns whether every promise was kept.
fn one(seed: u64, steps: u64) -> bool {
    let traced = true;
    let run = run(Options { seed, steps, traced });
    print(run.trace.trim_end());
    run.violation.is_none()
}

/// Prints which seeds break a promise. Returns whether there is none.
fn many(args: &Args) -> bool {
    let Args {
        seeds, from, steps, ..
    } = *args;
    let mut coverage = Coverage::default();
    let mut broken = 0_u64;
    for seed in from..from.saturating_add(seeds) {
        let traced = false;
        let run = run(Options { seed, steps, traced });
        coverage.add(&run.coverage);
        if let Some(violation) = run.violation {
            broken += 1;
            print(format_args!(
                "cargo xtask sim --seed {seed} --steps {steps}\n  {violation}"
            ));
        }
    }
    print(format_args!(
        "{coverage}\nof {seeds} seeds, {broken} break a promise"
    ));
    broken == 0
}

#[expect(clippy::print_stdout, reason = "what happens is what the program is for")]
fn print(text: impl fmt::Display) {
    println!("{text}");
}
