//! An etcd that belongs to one test: the server whose behaviour is the measure of our etcd API.
//!
//! It is one process on free loopback ports, with its data in a directory that goes with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::live;
use crate::port::HeldPort;
use crate::wait::eventually;

/// How long etcd may take to elect itself. It takes a second or two on a machine that has nothing else to do.
const START_CEILING: Duration = Duration::from_secs(60);

/// How long a question about its health may take.
const HEALTH_CEILING: Duration = Duration::from_secs(2);

/// What it says, in its directory.
const LOG: &str = "log";

/// Names the binary of an etcd 3.5, beside the one in the PATH.
const ETCD35: &str = "TIDEWATCH_TEST_ETCD35";

/// A running etcd of one member, without TLS and without users.
#[derive(Debug)]
pub struct RealEtcd {
    server: Child,
    address: SocketAddr,
    _ports: [HeldPort; 2],
    /// Its data and its log; last, so that the server is gone before its files are.
    dir: TempDir,
}

impl RealEtcd {
    /// The etcd in the PATH, or none on a machine without one: then the test returns at once, having said so.
    ///
    /// # Panics
    /// Where live tests are required and it cannot be started.
    pub fn for_test() -> Option<Self> {
        live::backend(
            "an etcd (on Debian: apt-get install etcd-server)",
            Self::start("etcd"),
        )
    }

    /// The etcd 3.5 that `TIDEWATCH_TEST_ETCD35` names; none where it names none, which is no failure: Debian has no
    /// package of it.
    ///
    /// # Panics
    /// Where it names one that cannot be started.
    #[expect(clippy::print_stderr, reason = "a test that did not run has to be heard of")]
    pub fn newer_for_test() -> Option<Self> {
        let Some(binary) = std::env::var_os(ETCD35) else {
            eprintln!("\nNOT RUN: this test needs an etcd 3.5, and {ETCD35} names none\n");
            return None;
        };
        match Self::start(&binary) {
            Ok(etcd) => Some(etcd),
            Err(error) => panic!("{ETCD35} is {}: {error:#}", binary.display()),
        }
    }

    /// Starts a server from this binary, which is looked for in the PATH unless it is a path, and waits until it serves.
    ///
    /// # Errors
    /// Where it does not, with what it said.
    pub fn start(binary: impl AsRef<OsStr>) -> anyhow::Result<Self> {
        let binary = binary.as_ref();
        let dir = tempfile::Builder::new().prefix("tidewatch-etcd-").tempdir()?;
        let log = File::create(dir.path().join(LOG))?;
        let ports = [HeldPort::new()?, HeldPort::new()?];
        let [address, peer] = [ports[0].address(), ports[1].address()];
        let url = format!("http://{address}");
        let peer_url = format!("http://{peer}");
        let mut command = with_its_test(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_")) {
                command.env_remove(name);
            }
        }
        let server = command
            .args(["--name", "oracle", "--logger", "zap"])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("oracle={peer_url}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut etcd = Self {
            server,
            address,
            _ports: ports,
            dir,
        };
        etcd.wait_until_it_serves()?;
        Ok(etcd)
    }

    /// Where it serves, as `host:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_until_it_serves(&mut self) -> anyhow::Result<()> {
        let mut ended = None;
        let serves = eventually(START_CEILING, || {
            ended = self.server.try_wait().ok().flatten();
            ended.is_some() || is_healthy(self.address).unwrap_or(false)
        });
        if let Some(status) = ended {
            bail!("etcd ended with {status}:\n{}", self.said());
        }
        ensure!(serves, "etcd does not serve:\n{}", self.said());
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }
}

impl Drop for RealEtcd {
    #[expect(clippy::print_stderr, reason = "whoever reads why a test failed needs it")]
    fn drop(&mut self) {
        // Some requests make it fall over.
        if let Ok(Some(status)) = self.server.try_wait() {
            eprintln!("etcd ended by itself, with {status}:\n{}", self.said());
        }
        // Its data is thrown away, so it need not put it in order.
        kill_process(Pid::from_child(&self.server), Signal::KILL).ok();
        self.server.wait().ok();
    }
}

/// `etcdctl`, for the server there, with nothing of the environment's own settings; or none, as with
/// [`RealEtcd::for_test`].
///
/// # Panics
/// Where live tests are required and it is not there.
pub fn etcdctl_for_test() -> Option<Etcdctl> {
    let found = in_path("etcdctl").context("etcdctl is not in the PATH");
    live::backend("etcdctl (on Debian: apt-get install etcd-client)", found).map(Etcdctl)
}

/// The command-line client that comes with etcd.
#[derive(Clone, Debug)]
pub struct Etcdctl(PathBuf);

impl Etcdctl {
    /// The command with these arguments, for the server there.
    pub fn command(&self, address: SocketAddr, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = with_its_test(self.0.as_os_str());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCDCTL_")) {
                command.env_remove(name);
            }
        }
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={address}"))
            .args(args)
            .stdin(Stdio::null());
        command
    }
}

/// A command that ends when the test does, even one that is killed.
pub(crate) fn with_its_test(program: &OsStr) -> Command {
    if in_path("setpriv").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([OsString::from("--pdeathsig"), "KILL".into(), program.to_owned()]);
    command
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Asks etcd whether it has a leader and its store answers.
fn is_healthy(address: SocketAddr) -> anyhow::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&address, HEALTH_CEILING)?;
    connection.set_read_timeout(Some(HEALTH_CEILING))?;
    write!(connection, "GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.contains(r#""health":"true""#))
}
