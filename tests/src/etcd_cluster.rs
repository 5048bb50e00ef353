//! An etcd of one or several members that belongs to one test, which may kill, stop, wipe and restore it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::etcd::with_its_test;
use crate::live;
use crate::port::HeldPort;
use crate::wait::eventually;

/// How long it may take to elect itself.
const START_CEILING: Duration = Duration::from_secs(60);

/// How long a question over HTTP may take.
const HTTP_CEILING: Duration = Duration::from_secs(2);

/// A cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
    setup: Setup,
    /// Data, certificates and logs; last, so that the members are gone before their files are.
    dir: TempDir,
}

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many members it has.
    pub members: usize,
    /// Serves clients over TLS.
    pub tls: Option<ServerTls>,
    /// More arguments for each member.
    pub args: Vec<String>,
}

/// The certificates of a server, in PEM form.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Who signed what clients show; they must show something then.
    pub client_ca: Option<String>,
    /// The server's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

#[derive(Debug)]
struct Member {
    client: HeldPort,
    peer: HeldPort,
    metrics: HeldPort,
    data: PathBuf,
    process: Option<Child>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            members: 1,
            tls: None,
            args: Vec::new(),
        }
    }
}

impl EtcdCluster {
    /// A cluster of this many members, or none on a machine without etcd, having said so.
    ///
    /// # Panics
    /// Where live tests are required and it cannot be started.
    pub fn for_test(members: usize) -> Option<Self> {
        Self::set_up(&Setup {
            members,
            ..Setup::default()
        })
    }

    /// The same, set up like this.
    ///
    /// # Panics
    /// As [`for_test`](Self::for_test).
    pub fn set_up(setup: &Setup) -> Option<Self> {
        live::backend(
            "an etcd (on Debian: apt-get install etcd-server)",
            Self::start(setup),
        )
    }

    fn start(setup: &Setup) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidewatch-etcd-").tempdir()?;
        let member = |number| {
            anyhow::Ok(Member {
                client: HeldPort::new()?,
                peer: HeldPort::new()?,
                metrics: HeldPort::new()?,
                data: dir.path().join(format!("data-{number}")),
                process: None,
            })
        };
        let members = (0..setup.members).map(member).collect::<Result<_, _>>()?;
        if let Some(tls) = &setup.tls {
            std::fs::write(dir.path().join("server.pem"), &tls.certificate)?;
            std::fs::write(dir.path().join("server-key.pem"), &tls.key)?;
            if let Some(ca) = &tls.client_ca {
                std::fs::write(dir.path().join("client-ca.pem"), ca)?;
            }
        }
        let mut cluster = Self {
            members,
            setup: setup.clone(),
            dir,
        };
        for member in 0..setup.members {
            cluster.spawn(member, &[])?;
        }
        cluster.wait_until_it_serves()?;
        Ok(cluster)
    }

    fn spawn(&mut self, number: usize, args: &[&str]) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(number))?;
        let scheme = if self.setup.tls.is_some() { "https" } else { "http" };
        let member = &self.members[number];
        let client = format!("{scheme}://{}", member.client.address());
        let peer = format!("http://{}", member.peer.address());
        let metrics = format!("http://{}", member.metrics.address());
        let mut command = with_its_test("etcd".as_ref());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_")) {
                command.env_remove(name);
            }
        }
        command
            .args(["--name", &name(number), "--logger", "zap"])
            .arg("--data-dir")
            .arg(&member.data)
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &self.initial_cluster()])
            .args(["--listen-metrics-urls", &metrics])
            .args(&self.setup.args)
            .args(args);
        if let Some(tls) = &self.setup.tls {
            let file = |name: &str| self.dir.path().join(name);
            command.arg("--cert-file").arg(file("server.pem"));
            command.arg("--key-file").arg(file("server-key.pem"));
            if tls.client_ca.is_some() {
                command.arg("--client-cert-auth").arg("--trusted-ca-file");
                command.arg(file("client-ca.pem"));
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.members[number].process = Some(command.spawn().context("starting etcd")?);
        Ok(())
    }

    fn initial_cluster(&self) -> String {
        let members = self.members.iter().enumerate();
        let members: Vec<_> = members
            .map(|(number, member)| format!("{}=http://{}", name(number), member.peer.address()))
            .collect();
        members.join(",")
    }

    /// Waits until every member that runs serves.
    ///
    /// # Errors
    /// Where one does not, with what it said.
    pub fn wait_until_it_serves(&mut self) -> anyhow::Result<()> {
        for number in 0..self.members.len() {
            let metrics = self.members[number].metrics.address();
            let Some(process) = &mut self.members[number].process else {
                continue;
            };
            let mut ended = None;
            let serves = eventually(START_CEILING, || {
                ended = process.try_wait().ok().flatten();
                ended.is_some()
                    || ask(metrics, "/health").is_ok_and(|answer| answer.contains(r#""health":"true""#))
            });
            let said = || std::fs::read_to_string(self.log(number)).unwrap_or_default();
            if let Some(status) = ended {
                bail!("etcd ended with {status}:\n{}", said());
            }
            ensure!(serves, "etcd does not serve:\n{}", said());
        }
        Ok(())
    }

    /// Where a member serves clients.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.members[member].client.address()
    }

    /// Where all of them do.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client.address().to_string())
            .collect()
    }

    /// Kills a member, so that it notices nothing.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill(&mut self, member: usize) {
        let mut process = self.members[member].process.take().expect("the member runs");
        kill_process(Pid::from_child(&process), Signal::KILL).ok();
        process.wait().ok();
    }

    /// Starts a member that was killed, with the data it had.
    ///
    /// # Errors
    /// Where it does not serve then.
    pub fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        self.spawn(member, &[])?;
        self.wait_until_it_serves()
    }

    /// Stops a member as it stands: it answers nothing, and its connections stay open.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pause(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn resume(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = self.members[member].process.as_ref().expect("the member runs");
        kill_process(Pid::from_child(process), signal).ok();
    }

    /// Kills all members, throws their data away, and starts them on the same ports: a cluster with the same id and
    /// without a history.
    ///
    /// # Errors
    /// Where they do not serve then.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.replace(|_, _| Ok(()))
    }

    /// Kills the only member and starts it with the data of a snapshot.
    ///
    /// # Errors
    /// Where the snapshot cannot be restored, or it does not serve then.
    pub fn restore(&mut self, snapshot: &Path) -> anyhow::Result<()> {
        let initial = self.initial_cluster();
        self.replace(|number, member| {
            let status = Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "restore"])
                .arg(snapshot)
                .args(["--name", &name(number), "--initial-cluster", &initial])
                .arg(format!(
                    "--initial-advertise-peer-urls=http://{}",
                    member.peer.address()
                ))
                .arg("--data-dir")
                .arg(&member.data)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            ensure!(status.success(), "etcdctl ended with {status}");
            Ok(())
        })
    }

    fn replace(&mut self, fill: impl Fn(usize, &Member) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for member in 0..self.members.len() {
            if self.members[member].process.is_some() {
                self.kill(member);
            }
            std::fs::remove_dir_all(&self.members[member].data)?;
            fill(member, &self.members[member])?;
        }
        for member in 0..self.members.len() {
            self.spawn(member, &[])?;
        }
        self.wait_until_it_serves()
    }

    /// Saves a snapshot of the only member.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn save_snapshot(&self) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join("snapshot");
        let status = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.address(0)))
            .args(["snapshot", "save"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "etcdctl ended with {status}");
        Ok(path)
    }

    /// What a member tells Prometheus under this name.
    ///
    /// # Errors
    /// Where it does not tell.
    pub fn metric(&self, member: usize, name: &str) -> anyhow::Result<f64> {
        let answer = ask(self.members[member].metrics.address(), "/metrics")?;
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("no {name} in its metrics"))?;
        Ok(line.trim().parse()?)
    }

    /// Whether a member is the leader, as far as it knows.
    pub fn is_leader(&self, member: usize) -> bool {
        self.metric(member, "etcd_server_is_leader")
            .is_ok_and(|leads| leads > 0.0)
    }

    fn log(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("log-{member}"))
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                kill_process(Pid::from_child(&process), Signal::KILL).ok();
                process.wait().ok();
            }
        }
    }
}

fn name(member: usize) -> String {
    format!("member-{member}")
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, HTTP_CEILING)?;
    connection.set_read_timeout(Some(HTTP_CEILING))?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
