//! `cargo xtask check`: everything CI demands that is not a test.

use crate::step::{self, Step};
use crate::{bench_peers, codegen, deny, docs, feature_set, process, tidy};

pub(crate) fn run() -> anyhow::Result<()> {
    step::run_all(
        "check",
        vec![
            Step::new("format", || {
                process::run(&mut process::cargo(["fmt", "--all", "--check"]))?;
                bench_peers::check_format()
            }),
            Step::new("tidy", tidy::run),
            Step::new("generated code", || codegen::run(&codegen::Args { check: true })),
            Step::new("lock file", lock_file),
            Step::new("licenses, bans and sources", || {
                deny::run(&deny::Args { advisories: false })
            }),
            Step::new("lints", lints),
            Step::new("lints of benches/peers", bench_peers::lint),
            Step::new("feature sets", || {
                feature_set::run(feature_set::Args { no_lints: false })
            }),
            Step::new("docs", || docs::run(&docs::Args { open: false })),
        ],
    )
}

fn lock_file() -> anyhow::Result<()> {
    let mut command = process::cargo(["metadata", "--locked", "--format-version", "1"]);
    process::run(command.stdout(std::process::Stdio::null()))
}

/// All targets with all features, which also compiles the live tests and the benches.
fn lints() -> anyhow::Result<()> {
    process::run(&mut process::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}
