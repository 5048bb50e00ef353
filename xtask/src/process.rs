//! Running other programs, and saying what runs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace;

/// A command that runs the same cargo that runs this task, in the workspace's root.
pub(crate) fn cargo<I>(args: I) -> Command
where
    I: IntoIterator<Item: AsRef<std::ffi::OsStr>>,
{
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command.args(args).current_dir(workspace::root());
    command
}

/// Shows the command, runs it, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = display(command);
    report(&format!("$ {shown}"));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// A line to the person at the terminal. It goes to stderr, so that a task's data on stdout stays clean.
#[expect(
    clippy::print_stderr,
    reason = "talking to the person at the terminal is what a task is for"
)]
pub(crate) fn report(line: &str) {
    eprintln!("xtask: {line}");
}

fn display(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program
        .file_stem()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    command
        .get_args()
        .fold(name, |line, arg| format!("{line} {}", arg.to_string_lossy()))
}
