//! The `tidewatch` program, run as people run it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::port::HeldPort;

/// How long to wait for a line that must come. Reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program, without what the environment of the tests might tell it. It is built where it is missing or older than
/// the sources: cargo builds it with the tests of all packages, but not with those of one.
///
/// # Errors
/// Where it cannot be built.
pub fn tidewatch() -> anyhow::Result<Command> {
    let program = built()?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("TIDEWATCH_")) {
            command.env_remove(name);
        }
    }
    command
        .env_remove("RUST_LOG")
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null());
    Ok(command)
}

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = lines_of(child.stdout.take().context("no stdout")?);
        let stderr = lines_of(child.stderr.take().context("no stderr")?);
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    /// The next line of stdout, as JSON, for which this holds; those before it are skipped.
    ///
    /// # Errors
    /// Where none comes, with those that came instead.
    pub fn json_line(&self, holds: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut seen = Vec::new();
        loop {
            let line = self
                .stdout
                .recv_timeout(DEADLINE)
                .with_context(|| format!("the line does not come; these came: {seen:#?}"))?;
            let value: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
            if holds(&value) {
                return Ok(value);
            }
            seen.push(value);
        }
    }

    /// The next line of stderr with this in it.
    ///
    /// # Errors
    /// Where none comes, with those that came instead.
    pub fn told(&self, text: &str) -> anyhow::Result<String> {
        let mut seen = Vec::new();
        loop {
            let line = self
                .stderr
                .recv_timeout(DEADLINE)
                .with_context(|| format!("{text:?} is not told; this is: {seen:#?}"))?;
            if line.contains(text) {
                return Ok(line);
            }
            seen.push(line);
        }
    }

    /// The lines that have come on stderr and that nobody has asked for yet. Waits for none.
    pub fn told_so_far(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    /// Sends a signal, and goes on.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Sends a signal, and waits for the end.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub fn end(mut self, signal: Signal) -> anyhow::Result<Option<i32>> {
        kill_process(Pid::from_child(&self.child), signal)?;
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where a server keeps its keyspace.
#[derive(Clone, Debug)]
enum Place {
    Dir(PathBuf),
    /// Its members.
    Etcd(Vec<String>),
}

/// A server of the program, on a port of its own.
#[derive(Debug)]
pub struct ServerProgram {
    port: HeldPort,
    endpoint: String,
    place: Place,
    host: String,
    docker: Option<String>,
    options: Vec<String>,
    running: Option<Running>,
}

impl ServerProgram {
    /// Starts a server that watches this engine, found by `DOCKER_HOST`, under the name `h1`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start(data_dir: &Path, docker: &str) -> anyhow::Result<Self> {
        Self::start_as(data_dir, docker, &[])
    }

    /// The same with further options for `serve`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start_as(data_dir: &Path, docker: &str, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(Place::Dir(data_dir.to_owned()), Some(docker.to_owned()), options)
    }

    /// Starts a server that watches no engine.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start_alone(data_dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(Place::Dir(data_dir.to_owned()), None, &[])
    }

    /// The same on this port.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start_alone_on(data_dir: &Path, port: HeldPort) -> anyhow::Result<Self> {
        Self::start_on(Place::Dir(data_dir.to_owned()), None, &[], port)
    }

    /// Starts a server that watches no engine and keeps its keyspace in the etcd with these members, which may be a
    /// Tidewatch, with further options for `serve`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start_on_etcd(members: &[String], options: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(Place::Etcd(members.to_vec()), None, options)
    }

    /// The same of a server that watches the engine at `docker` under the name `host`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn start_on_etcd_for(members: &[String], host: &str, docker: &str) -> anyhow::Result<Self> {
        let mut server = Self {
            host: host.to_owned(),
            docker: Some(docker.to_owned()),
            ..Self::new(Place::Etcd(members.to_vec()), HeldPort::new()?)
        };
        server.serve()?;
        Ok(server)
    }

    fn start_with(place: Place, docker: Option<String>, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(place, docker, options, HeldPort::new()?)
    }

    fn start_on(
        place: Place,
        docker: Option<String>,
        options: &[&str],
        port: HeldPort,
    ) -> anyhow::Result<Self> {
        let mut server = Self::new(place, port);
        server.docker = docker;
        server.options = options.iter().map(ToString::to_string).collect();
        server.serve()?;
        Ok(server)
    }

    /// One that does not run yet, and watches no engine.
    fn new(place: Place, port: HeldPort) -> Self {
        Self {
            endpoint: endpoint(port.address()),
            port,
            place,
            host: "h1".to_owned(),
            docker: None,
            options: Vec::new(),
            running: None,
        }
    }

    /// Where it serves, as `--endpoint` takes it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same as an address.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills it, does this while nobody serves, and starts it again at the same address.
    ///
    /// # Errors
    /// Where it does not serve again.
    pub fn stop_for(&mut self, meanwhile: impl FnOnce()) -> anyhow::Result<()> {
        let running = self.running.take().context("it does not run")?;
        running.end(Signal::KILL)?;
        meanwhile();
        self.serve()
    }

    /// Kills it without warning, and starts it again at the same address.
    ///
    /// # Errors
    /// Where it does not serve again.
    pub fn crash_and_restart(&mut self) -> anyhow::Result<()> {
        self.restart(Signal::KILL).map(drop)
    }

    /// Sends it a signal that ends it, and starts it again at the same address. Returns the exit code, if it had one.
    ///
    /// # Errors
    /// Where it does not serve again.
    pub fn restart(&mut self, signal: Signal) -> anyhow::Result<Option<i32>> {
        let running = self.running.take().context("it does not run")?;
        let code = running.end(signal)?;
        self.serve()?;
        Ok(code)
    }

    /// Asks it to end, and returns its exit code.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn terminate(mut self) -> anyhow::Result<Option<i32>> {
        self.running.take().context("it does not run")?.end(Signal::TERM)
    }

    /// Starts a client command that goes on, with JSON output.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, args: &[&str]) -> anyhow::Result<Running> {
        Running::start(&mut self.client(args)?)
    }

    /// Runs a client command to its end, and returns its JSON lines.
    ///
    /// # Errors
    /// Where it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        let done = self.client(args)?.output()?;
        ensure!(
            done.status.success(),
            "{args:?} ended with {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
        let lines = String::from_utf8(done.stdout)?;
        lines
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    fn client(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = tidewatch()?;
        command
            .args(args)
            .args(["--output", "json", "--endpoint", &self.endpoint]);
        Ok(command)
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let mut command = tidewatch()?;
        let listen = self.port.address().to_string();
        command
            .args(["serve", "--host-name", &self.host, "--listen", &listen])
            .args(&self.options);
        match &self.place {
            Place::Dir(dir) => command.arg("--data-dir").arg(dir),
            Place::Etcd(members) => command.args(["--etcd", &members.join(",")]),
        };
        match &self.docker {
            Some(docker) => command.env("DOCKER_HOST", docker),
            None => command.arg("--no-docker"),
        };
        let running = Running::start(&mut command)?;
        running.told(&format!("serving on {}", self.endpoint))?;
        self.running = Some(running);
        Ok(())
    }
}

/// An address as `--endpoint` takes it.
pub fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Starts an agent that looks after the engine at `docker`, under the name `host`, for a server at `endpoint`.
///
/// # Errors
/// Where it cannot be started.
pub fn agent(endpoint: &str, host: &str, docker: &str) -> anyhow::Result<Running> {
    let mut command = tidewatch()?;
    command
        .args(["agent", "--server", endpoint, "--host-name", host])
        .env("DOCKER_HOST", docker);
    Running::start(&mut command)
}

fn built() -> anyhow::Result<PathBuf> {
    // `target/debug/deps/<this test>`
    let this = std::env::current_exe()?;
    let dir = this
        .ancestors()
        .nth(2)
        .context("the test is not in a target directory")?;
    let program = dir.join("tidewatch");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let newest = newest(&root.join("crates"))?.max(modified(&root.join("Cargo.lock"))?);
    if modified(&program).is_ok_and(|built| built >= newest) && has_what_tests_need(&program) {
        return Ok(program);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let features: &[&str] = if WITH_ETCD { &["--features", "etcd"] } else { &[] };
    let done = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--package", "tidewatch", "--bin", "tidewatch"])
        .args(features)
        .arg("--target-dir")
        .arg(dir.parent().context("the test is not in a target directory")?)
        .output()?;
    ensure!(
        done.status.success(),
        "the program cannot be built: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(program)
}

/// Whether there are tests that want a program which knows etcd.
const WITH_ETCD: bool = cfg!(feature = "live-etcd");

/// Whether the program was built with what those tests need that there are.
fn has_what_tests_need(program: &Path) -> bool {
    let checked = Command::new(program)
        .env_clear()
        .args(["serve", "--no-docker", "--check-config", "--etcd", "127.0.0.1:1"])
        .output();
    !WITH_ETCD || checked.is_ok_and(|done| done.status.success())
}

/// When the last of the files was changed.
fn newest(dir: &Path) -> anyhow::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        newest = newest.max(if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            modified(&entry.path())?
        });
    }
    Ok(newest)
}

fn modified(path: &Path) -> anyhow::Result<SystemTime> {
    Ok(fs::metadata(path)?.modified()?)
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
