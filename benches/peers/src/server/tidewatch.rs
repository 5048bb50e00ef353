//! `tidewatch serve`, the program that is shipped, with its journal.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Server, Storage, data_dir, etcd35, free_addr, program};

/// Names the program: `cargo xtask bench-peers` builds it as it is shipped.
const VARIABLE: &str = "TIDEWATCH_PEERS_TIDEWATCH";

/// Ours, on a port of its own.
///
/// # Errors
/// It cannot be started.
pub fn tidewatch(storage: Storage) -> Result<Server> {
    start(storage, &["--no-docker"])
}

/// Ours, watching the Docker engine behind this socket, under the name `h1`.
///
/// # Errors
/// It cannot be started.
pub fn tidewatch_on(socket: &Path) -> Result<Server> {
    start(
        Storage::Disk,
        &["--docker", &format!("h1=unix://{}", socket.display())],
    )
}

/// Ours, with its keyspace in an etcd 3.5.1 of its own.
///
/// # Errors
/// One of them cannot be started.
pub fn tidewatch_on_etcd(storage: Storage) -> Result<Server> {
    tidewatch_above(etcd35(storage)?)
}

/// Ours, with its keyspace in a server that speaks etcd's API, which ends with it.
///
/// # Errors
/// It cannot be started.
pub fn tidewatch_above(upstream: Server) -> Result<Server> {
    let (data, addr) = (data_dir(Storage::Memory)?, free_addr()?);
    let mut command = serve(
        addr,
        &["--no-docker", "--etcd", &format!("http://{}", upstream.addr())],
    );
    let mut server = Server::start(&mut command, "serving on", addr, data)?;
    server.upstream = Some(Box::new(upstream));
    Ok(server)
}

fn start(storage: Storage, flags: &[&str]) -> Result<Server> {
    let (data, addr) = (data_dir(storage)?, free_addr()?);
    let mut command = serve(addr, flags);
    command.arg("--data-dir").arg(data.path().join("data"));
    Server::start(&mut command, "serving on", addr, data)
}

fn serve(addr: SocketAddr, flags: &[&str]) -> Command {
    let mut command = Command::new(program(VARIABLE, "tidewatch"));
    command
        .arg("serve")
        .args(flags)
        .args(["--listen", &addr.to_string()]);
    command
}
