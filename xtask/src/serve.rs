//! `cargo xtask serve`: a release build of the server, then the server itself.

use std::ffi::OsString;
use std::process::Command;

use crate::{process, protoc, workspace};

/// Build the release binary and run `tidewatch serve` with the arguments that follow.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of `tidewatch serve`, as in `cargo xtask serve --listen 127.0.0.1:7481`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut build = process::cargo([
        "build",
        "--release",
        "--package",
        "tidewatch",
        "--bin",
        "tidewatch",
    ]);
    process::run(protoc::with_etcd(&mut build))?;
    let mut server = Command::new(workspace::binary("release", "tidewatch")?);
    become_it(server.arg("serve").args(&args.args))
}

/// Replaces this process, so that signals and the exit code are the server's own.
#[cfg(unix)]
fn become_it(command: &mut Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;

    Err(command.exec().into())
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> anyhow::Result<()> {
    process::run(command)
}
