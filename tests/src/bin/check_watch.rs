//! `cargo xtask check-watch`: the promises of a watch, checked on a live server under load.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tidewatch_tests::watch_check::{KINDS, WatchCheck};

/// Write to a live server and watch it, and check that its watches keep their promises.
///
/// The server may be restarted meanwhile, however rudely, as long as it keeps its data and is back within a minute. What the
/// check writes is deleted at the end; what remains is history, some megabytes a second. Ends with 1 if a promise was
/// broken, or if there was nothing to judge.
#[derive(Parser)]
#[command(name = "cargo xtask check-watch", bin_name = "cargo xtask check-watch")]
struct Args {
    /// The server
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7480",
        env = "TIDEWATCH_ENDPOINT"
    )]
    endpoint: String,
    /// How long; the round that is under way then is completed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many write at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// How many watch at a time; the kinds of watchers take turns
    #[arg(long, value_name = "N", default_value_t = default_watchers(), value_parser = clap::value_parser!(u16).range(1..=512))]
    watchers: u16,
    /// What writers do and watchers ask for is drawn from this [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where to write; nothing may be there [default: /check-watch/<random>/]
    #[arg(long, value_name = "PREFIX/")]
    prefix: Option<String>,
}

fn default_watchers() -> u16 {
    u16::try_from(2 * KINDS).unwrap_or(u16::MAX)
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut check = WatchCheck::new(seed);
    check.writers = args.writers.into();
    check.watchers = args.watchers.into();
    if let Some(prefix) = &args.prefix {
        check.prefix.clone_from(prefix);
    }
    say(format_args!("checking {} with seed {seed}", args.endpoint));
    let stop = async {
        tokio::select! {
            () = tokio::time::sleep(args.duration) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let report = check.run_at(&[&args.endpoint], stop).await?;
    print(&report);
    Ok(if report.found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn print(report: &impl std::fmt::Display) {
    println!("{report}");
}

#[expect(clippy::print_stderr, reason = "what is no report goes beside it")]
fn say(text: std::fmt::Arguments<'_>) {
    eprintln!("check-watch: {text}");
}
