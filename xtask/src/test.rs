//! `cargo xtask test`: all tests, with the live suites whose backend is there.

use std::process::Command;

use crate::live::{self, SUITES};
use crate::loom;
use crate::process::{self, report};
use crate::step::{self, Step};

/// How long tests that send damaged requests go on in CI, in seconds, and the variable that tells them. Elsewhere a fixed
/// number of requests will do.
const FUZZ_SECONDS_VAR: &str = "TIDEWATCH_FUZZ_SECONDS";
const FUZZ_SECONDS: &str = "60";

/// Run all tests; live suites where their backend is there.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Args {
    /// Insist on the live suites: a backend that is missing is a failure.
    #[arg(long)]
    pub(crate) require_live: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { require_live } = args;
    step::run_all(
        "test",
        vec![
            Step::new("unit, integration and live tests", move || targets(require_live)),
            Step::new("documentation's examples", move || doctests(require_live)),
            Step::new("orders of atomics", loom::run),
        ],
    )
}

fn targets(require_live: bool) -> anyhow::Result<()> {
    if !require_live {
        for (suite, obstacle) in SUITES.iter().filter_map(|suite| Some((suite, suite.obstacle()?))) {
            report(&format!(
                "NOT RUN: the live {} tests, because {obstacle}. `--require-live` insists on them.",
                suite.name
            ));
        }
        for (tests, obstacle) in live::lone_obstacles() {
            report(&format!(
                "NOT RUN: {tests}, because {obstacle}. `--require-live` insists on them."
            ));
        }
    }
    let mut command = runner();
    if process::in_ci() {
        command.env(FUZZ_SECONDS_VAR, FUZZ_SECONDS);
    }
    process::run(live::set_required(
        select(&mut command, require_live),
        require_live,
    ))
}

fn doctests(require_live: bool) -> anyhow::Result<()> {
    process::run(select(&mut process::cargo(["test", "--doc"]), require_live))
}

/// The same packages and features for every kind of test, so that they share one build.
fn select(command: &mut Command, require_live: bool) -> &mut Command {
    let features: Vec<_> = SUITES
        .iter()
        .filter(|suite| require_live || suite.obstacle().is_none())
        .map(live::Suite::feature_flag)
        .collect();
    command.arg("--workspace");
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    command
}

/// nextest where it is installed (a process per test, time limits, live tests one by one), else cargo's own.
pub(crate) fn runner() -> Command {
    if process::has_cargo_tool("nextest") {
        let profile = if process::in_ci() { "ci" } else { "default" };
        return process::cargo(["nextest", "run", "--profile", profile]);
    }
    report("cargo-nextest is missing, so plain `cargo test` runs: slower, and without time limits.");
    report("get it with `cargo install cargo-nextest --locked` or from https://nexte.st/docs/installation/");
    process::cargo(["test", "--lib", "--bins", "--tests"])
}
