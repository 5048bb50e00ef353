//! `cargo xtask coverage`: which lines the tests reach.

use anyhow::bail;

use crate::process;

/// Measure the tests' coverage with cargo-llvm-cov.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write target/lcov.info instead of the page in target/llvm-cov/html.
    #[arg(long)]
    pub(crate) lcov: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !process::has_cargo_tool("llvm-cov") {
        bail!(
            "cargo-llvm-cov is missing; get it with `cargo install cargo-llvm-cov --locked` \
             and `rustup component add llvm-tools`"
        );
    }
    let mut command = process::cargo(["llvm-cov"]);
    if process::has_cargo_tool("nextest") {
        command.arg("nextest");
    }
    command.args([
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "tidewatch-benches",
    ]);
    if args.lcov {
        command.args(["--lcov", "--output-path", "target/lcov.info"]);
    } else {
        command.arg("--html");
    }
    process::run(&mut command)
}
