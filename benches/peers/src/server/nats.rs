//! NATS core, which keeps nothing and promises no delivery: a fan-out and nothing else.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Server, Storage, data_dir, free_addr, program};

/// Debian's, without `JetStream`.
///
/// # Errors
/// It cannot be started.
pub fn nats(storage: Storage) -> Result<Server> {
    let (data, addr) = (data_dir(storage)?, free_addr()?);
    let config = data.path().join("nats.conf");
    // A consumer that is behind by more than 64 MB is cut off otherwise, and what it did not get is gone.
    fs::write(&config, "max_pending: 1073741824\nwrite_deadline: \"60s\"\n")
        .context("cannot write its settings")?;
    let mut command = Command::new(program("TIDEWATCH_PEERS_NATS", "nats-server"));
    command
        .args([
            "--addr",
            &addr.ip().to_string(),
            "--port",
            &addr.port().to_string(),
        ])
        .arg("--config")
        .arg(config);
    let server = Server::start(&mut command, "Server is ready", addr, data);
    server.context("on Debian: `apt-get install nats-server`")
}
