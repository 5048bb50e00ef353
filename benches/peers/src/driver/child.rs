//! The driver's process, from the side of those who start it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use super::{Outcome, Protocol};
use crate::server::Server;

/// What the driver does.
#[derive(Clone, Copy, Debug, Args)]
pub struct Load {
    /// How many watches there are, shared out over all connections.
    pub watches: usize,
    /// How many puts are measured. None: memory is all that is measured.
    pub puts: usize,
}

/// Drives a server from a process of its own (`src/bin/watch_driver.rs`).
///
/// # Errors
/// The driver fails.
pub fn in_a_process(protocol: Protocol, server: &Server, load: Load) -> Result<Outcome> {
    let this = std::env::current_exe().context("where this program is")?;
    let program = this.with_file_name(format!("watch_driver{}", std::env::consts::EXE_SUFFIX));
    let protocol = protocol.to_possible_value().context("a protocol with a name")?;
    let output = Command::new(&program)
        .args([protocol.get_name(), &server.addr().to_string()])
        .args([
            server.pid().to_string(),
            load.watches.to_string(),
            load.puts.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}; build all of the package", program.display()))?;
    ensure!(
        output.status.success(),
        "watch_driver ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("watch_driver prints no outcome")
}
