//! Running other programs, and saying what runs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{protoc, workspace};

/// A command that runs the same cargo that runs this task, in the workspace's root, with what its builds need.
pub(crate) fn cargo<I>(args: I) -> Command
where
    I: IntoIterator<Item: AsRef<OsStr>>,
{
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command.args(args).current_dir(workspace::root());
    // Where there is none to be had, those who need it say so, and the rest builds.
    protoc::supply(&mut command).ok();
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

/// What the command prints on stdout.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = display(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` prints something that is not UTF-8"))
}

/// Whether `cargo <subcommand>` is installed.
pub(crate) fn has_cargo_tool(subcommand: &str) -> bool {
    let mut command = cargo([subcommand, "--version"]);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a CI service runs us: then a missing tool is a failure and not a hint.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
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
