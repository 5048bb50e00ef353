//! Servers to measure, as processes of their own.
//!
//! Each listens on a free port of the loopback interface, has a data directory that goes with it, and ends with the value
//! that stands for it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

mod dockerd;
mod etcd;
mod nats;
mod tidewatch;

pub use dockerd::{Dockerd, Told};
pub use etcd::{etcd34, etcd35};
pub use nats::nats;
pub use tidewatch::{tidewatch, tidewatch_above, tidewatch_on, tidewatch_on_etcd};

/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(300);

/// Lines that a server may write before the one that says that it serves.
const MAX_LINES: usize = 1000;

/// A server that serves. Dropping it ends the process, and removes its data.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    _data: TempDir,
    /// What it cannot be without.
    upstream: Option<Box<Server>>,
}

/// Where a server keeps its data.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    /// In a file system in memory, if there is one: what a sync costs is not what is measured.
    Memory,
    /// In the folder for temporary files, which should be on a disk.
    Disk,
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The server in which it keeps its keyspace, if it is a tier above one.
    pub fn upstream(&self) -> Option<&Self> {
        self.upstream.as_deref()
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a program, and waits until it writes a line with `sign` in it to stderr.
    fn start(command: &mut Command, sign: &'static str, addr: SocketAddr, data: TempDir) -> Result<Self> {
        let program = PathBuf::from(command.get_program());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lines = child.stderr.take().context("its stderr is piped")?;
        // From here on whatever goes wrong ends the process.
        let server = Self {
            child,
            addr,
            _data: data,
            upstream: None,
        };
        wait_for(lines, sign).with_context(|| program.display().to_string())?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is a child that nobody has waited for, so the id is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a line, and reads on for as long as there are others: who writes must not get stuck.
fn wait_for(lines: impl Read + Send + 'static, sign: &'static str) -> Result<()> {
    let (serves, told) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(lines);
        let mut line = String::new();
        let mut said = String::new();
        for _ in 0..MAX_LINES {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) if line.contains(sign) => {
                    let _ = serves.send(None);
                    break;
                }
                Ok(_) => said.push_str(&line),
            }
        }
        // After the sign nobody listens any more.
        let _ = serves.send(Some(said));
        let _ = io::copy(&mut lines, &mut io::sink());
    });
    match told.recv_timeout(START) {
        Ok(None) => Ok(()),
        Ok(Some(said)) => bail!("it does not serve; it said:\n{said}"),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => bail!("it does not serve in time"),
    }
}

/// A folder for a server's data.
fn data_dir(storage: Storage) -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidewatch-peers-");
    let made = match storage {
        Storage::Memory if memory.is_dir() => builder.tempdir_in(memory),
        Storage::Memory | Storage::Disk => builder.tempdir(),
    };
    made.context("cannot make a folder for data")
}

/// An address that was free a moment ago.
fn free_addr() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}

/// A program that a variable names, or the one of that name in the PATH.
fn program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}
