//! `cargo xtask check-watch`: the checker of the watch contract, on a live server under load.

use std::ffi::OsString;

use crate::process;

/// Check on a live server under load that its watches keep their promises; `--help` tells the options.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the check, as in `cargo xtask check-watch --endpoint http://127.0.0.1:7480 --duration 30s`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// The check is a program of its own, so that a task that needs none of it does not have to be built with it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = process::cargo([
        "run",
        "--quiet",
        "--package",
        "tidewatch-tests",
        "--bin",
        "check-watch",
        "--",
    ]);
    process::run(command.args(&args.args))
}
