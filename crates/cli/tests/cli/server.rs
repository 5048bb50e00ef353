//! A server of the real binary, on a port of its own, with a data directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;
use tidewatch_client::{Client, Keyspace};
use tidewatch_core::Error;

use crate::port::HeldPort;
use crate::program::{Done, Running, run, tidewatch};

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    port: Arc<HeldPort>,
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
        let mut server = Self::start_in(&data_dir);
        server.temp = Some(temp);
        server
    }

    /// A server on this directory.
    pub(crate) fn start_in(data_dir: &Path) -> Self {
        Self::start_on(Arc::new(HeldPort::new().unwrap()), data_dir)
    }

    /// A server on this directory, on this port or that of a server that has ended.
    pub(crate) fn start_on(port: Arc<HeldPort>, data_dir: &Path) -> Self {
        let command = serve(&port.address().to_string(), data_dir);
        Self::running(command, port, data_dir)
    }

    /// A server that looks for its Docker here.
    pub(crate) fn start_with_docker(url: &str) -> Self {
        let temp = TempDir::new().unwrap();
        let data_dir = temp.path().join("data");
        let port = HeldPort::new().unwrap();
        let mut command = tidewatch();
        command
            .args([
                "serve",
                "--listen",
                &port.address().to_string(),
                "--host-name",
                "h9",
                "--docker",
                url,
                "--data-dir",
            ])
            .arg(&data_dir);
        let mut server = Self::running(command, Arc::new(port), &data_dir);
        server.temp = Some(temp);
        server
    }

    fn running(mut command: Command, port: Arc<HeldPort>, data_dir: &Path) -> Self {
        let running = Running::start(&mut command);
        running.expect_on_stderr(&format!("serving on http://{}", port.address()));
        Self {
            port,
            running,
            data_dir: data_dir.to_owned(),
            temp: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// For the next server, when this one has ended.
    pub(crate) fn port(&self) -> Arc<HeldPort> {
        self.port.clone()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A client command of this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tidewatch();
        command
            .args(args)
            .env("TIDEWATCH_ENDPOINT", format!("http://{}", self.address()));
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
            let endpoint = format!("http://{}", self.address());
            let client = Client::builder(endpoint).connect().await.unwrap();
            call(client.keyspace()).await.unwrap()
        })
    }

    /// Starts a client command that goes on.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Waits for a line in its log.
    #[track_caller]
    pub(crate) fn expect_logged(&self, text: &str) -> String {
        self.running.expect_on_stderr(text)
    }

    /// Kills it without warning, as a power cut would, and starts it again at the same address.
    pub(crate) fn crash_and_restart(&mut self) {
        self.running.signal(Signal::KILL);
        self.running.wait();
        let started = Self::start_on(self.port(), &self.data_dir);
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
