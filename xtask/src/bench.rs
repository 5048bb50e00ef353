//! `cargo xtask bench`: the criterion benches.

use std::ffi::OsString;

use crate::process;

/// Run the criterion benches in benches/.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments for criterion, as in `cargo xtask bench fanout --sample-size 20`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = process::cargo(["bench", "--package", "tidewatch-benches", "--benches", "--"]);
    process::run(command.args(&args.args))
}
