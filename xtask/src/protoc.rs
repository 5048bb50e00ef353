//! `protoc`, for the crates of others that generate code when they are built.
//!
//! Our own generated code is committed, so that nobody has to install it. What needs it is behind a task, and the task brings it.

use std::env;
use std::process::Command;

use anyhow::Context;

use crate::process::report;

/// Gives the command a `protoc` with its standard includes, unless the person has chosen one.
pub(crate) fn supply(command: &mut Command) -> anyhow::Result<&mut Command> {
    if env::var_os("PROTOC").is_some() {
        return Ok(command);
    }
    let program = protoc_bin_vendored::protoc_bin_path();
    let program =
        program.context("there is no protoc for this platform; install one and set PROTOC to its path")?;
    let include = protoc_bin_vendored::include_path().context("protoc comes without its includes")?;
    Ok(command.env("PROTOC", program).env("PROTOC_INCLUDE", include))
}

/// Turns the program's etcd on, where there is a `protoc`; elsewhere it is built without.
pub(crate) fn with_etcd(build: &mut Command) -> &mut Command {
    match supply(build).map(drop) {
        Ok(()) => build.args(["--features", "etcd"]),
        Err(error) => {
            report(&format!("without `serve --etcd`: {error:#}"));
            build
        }
    }
}
