//! etcd, one member, with its settings as they come.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Server, Storage, data_dir, free_addr, program};

/// The version that the targets are about.
///
/// # Errors
/// `TIDEWATCH_TEST_ETCD35` does not name it, or it cannot be started.
pub fn etcd35(storage: Storage) -> Result<Server> {
    let path = std::env::var_os("TIDEWATCH_TEST_ETCD35").context(
        "TIDEWATCH_TEST_ETCD35 does not name an etcd 3.5.1; `cargo xtask bench-peers` fetches one with pip",
    )?;
    etcd(Path::new(&path), storage)
}

/// Debian's.
///
/// # Errors
/// It cannot be started.
pub fn etcd34(storage: Storage) -> Result<Server> {
    let program = program("TIDEWATCH_PEERS_ETCD34", "etcd");
    etcd(&program, storage).context("on Debian: `apt-get install etcd-server`")
}

fn etcd(program: &Path, storage: Storage) -> Result<Server> {
    let (data, addr, peer) = (data_dir(storage)?, free_addr()?, free_addr()?);
    let (clients, peers) = (format!("http://{addr}"), format!("http://{peer}"));
    let mut command = Command::new(program);
    command
        .args(["--name", "bench", "--logger", "zap", "--data-dir"])
        .arg(data.path())
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("bench={peers}")]);
    Server::start(&mut command, "serving client traffic insecurely", addr, data)
}
