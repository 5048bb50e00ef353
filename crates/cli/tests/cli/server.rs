//! A server of the real binary, on a free port, with a data directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;
use tidewatch_client::{Client, Keyspace};
use tidewatch_core::Error;

use crate::program::{Done, Running, run, tidewatch};

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    running: Running,
    data_dir: PathBuf,
    /// Kept for its drop, which removes the directory.
    temp: Option<TempDir>,
}

impl Server {
    /// A server with an empty keyspace and without a Docker.
    pub(crate) fn start() -> Self {
        let temp = TempDir::new().unwrap();
        let data_dir = temp.path().join("data");
        let mut server = Self::start_on("127.0.0.1:0", &data_dir);
        server.temp = Some(temp);
        server
    }

    /// A server at this address, on this directory.
    pub(crate) fn start_on(listen: &str, data_dir: &Path) -> Self {
        Self::running(serve(listen, data_dir), data_dir)
    }

    /// A server that looks for its Docker here.
    pub(crate) fn start_with_docker(url: &str) -> Self {
        let temp = TempDir::new().unwrap();
        let data_dir = temp.path().join("data");
        let mut command = tidewatch();
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--host-name",
                "h9",
                "--docker",
                url,
                "--data-dir",
            ])
            .arg(&data_dir);
        let mut server = Self::running(command, &data_dir);
        server.temp = Some(temp);
        server
    }

    fn running(mut command: Command, data_dir: &Path) -> Self {
        let running = Running::start(&mut command);
        let told = running.expect_on_stderr("serving on http://");
        let (_, rest) = told.split_once("serving on http://").unwrap();
        let end = rest
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(rest.len());
        Self {
            address: rest[..end].parse().unwrap(),
            running,
            data_dir: data_dir.to_owned(),
            temp: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A client command of this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tidewatch();
        command
            .args(args)
            .env("TIDEWATCH_ENDPOINT", format!("http://{}", self.address));
        command
    }

    /// Runs a client command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        run(&mut self.command(args))
    }

    /// Runs a client command to its end, with JSON output.
    pub(crate) fn json(&self, args: &[&str]) -> Done {
        run(self.command(args).args(["--output", "json"]))
    }

    /// Writes a key, and returns the revision.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: &str) -> u64 {
        self.json(&["put", key, value]).line()["revision"]
            .as_u64()
            .unwrap()
    }

    /// Does something that there is no command for.
    pub(crate) fn ask<T>(&self, call: impl AsyncFnOnce(Keyspace) -> Result<T, Error>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let endpoint = format!("http://{}", self.address);
            let client = Client::builder(endpoint).connect().await.unwrap();
            call(client.keyspace()).await.unwrap()
        })
    }

    /// Starts a client command that goes on.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Kills it without warning, as a power cut would, and starts it again at the same address.
    pub(crate) fn crash_and_restart(&mut self) {
        self.running.signal(Signal::KILL);
        self.running.wait();
        let started = Self::start_on(&self.address.to_string(), &self.data_dir);
        self.running = started.running;
    }

    /// Makes it neither answer nor end, as a machine that hangs would.
    pub(crate) fn freeze(&self) {
        self.running.signal(Signal::STOP);
    }

    /// Asks it to end, and returns how it did.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.running.signal(Signal::TERM);
        self.running.wait()
    }
}

/// `tidewatch serve` without a Docker.
pub(crate) fn serve(listen: &str, data_dir: &Path) -> Command {
    let mut command = tidewatch();
    command
        .args(["serve", "--no-docker", "--listen", listen, "--data-dir"])
        .arg(data_dir);
    command
}
