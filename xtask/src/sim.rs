//! `cargo xtask sim`: the simulation, on any seed.

use std::ffi::OsString;

use crate::process;

/// Simulate a keyspace on a disk that fails, and everybody around it; `--help` tells the options.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the simulation, as in `cargo xtask sim --seed 7` or `cargo xtask sim --from 1000 --seeds 5000`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = process::cargo([
        "run",
        "--quiet",
        "--package",
        "tidewatch-tests",
        "--bin",
        "simulate",
        "--",
    ]);
    process::run(command.args(&args.args))
}
