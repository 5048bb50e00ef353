//! A Docker engine that belongs to one test.
//!
//! Nothing of it touches the machine's own engine: its data, sockets, containerd and configuration are in one
//! directory, it makes no bridge and no firewall rule, and it needs no registry. When the test is over, its
//! containers, processes and mounts are gone; after a failure its directory, with the log, is kept.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::live;
use crate::wait::eventually;

/// How long the daemon may take to answer. It takes half a second on a machine that has nothing else to do.
const START_CEILING: Duration = Duration::from_secs(60);

/// How long it may take to end.
const STOP_CEILING: Duration = Duration::from_secs(30);

/// The one image there is. What it runs ends at once on SIGTERM, with status 0, from when it has made the file `/ready`, and
/// has a shell, `sleep`, `false`, `tail` and so on.
pub const IMAGE: &str = "tidewatch-test:1";

/// A static binary that is all of a container's file system.
const BUSYBOX: &str = "/bin/busybox";

/// What the image has of it.
const APPLETS: &[&str] = &[
    "false", "ls", "rm", "sh", "sleep", "tail", "test", "touch", "true",
];

/// How many containers may want too much memory before Docker has noticed why one of them ended. It may hear of an end
/// before it hears of the reason, and then says for good that there was none; that is rare.
pub const GREEDY_TRIES: usize = 20;

/// A running engine. Make it in the test's own thread: the daemon ends when that thread does.
pub struct PrivateDocker {
    dir: Option<TempDir>,
    root: PathBuf,
    daemon: Option<Child>,
    /// What it is started with besides.
    flags: Vec<String>,
    /// Whether containers may run that no daemon looks after.
    orphans: bool,
}

impl PrivateDocker {
    /// One with [`IMAGE`], or none on a machine where it cannot be started: then the test returns at once, having
    /// said so.
    ///
    /// # Panics
    /// Where live tests are required and it cannot be started.
    pub fn for_test() -> Option<Self> {
        Self::for_test_with(&[])
    }

    /// The same, started with further flags.
    ///
    /// # Panics
    /// As [`for_test`](Self::for_test).
    pub fn for_test_with(flags: &[&str]) -> Option<Self> {
        live::backend("a private dockerd", Self::start(flags))
    }

    fn start(flags: &[&str]) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "only root can start a docker daemon"
        );
        ensure!(
            Path::new(BUSYBOX).exists(),
            "{BUSYBOX} is missing (on Debian: apt-get install busybox-static)"
        );
        for program in ["dockerd", "docker", "tar"] {
            ensure!(is_in_path(program), "{program} is not in the PATH");
        }
        let dir = tempfile::Builder::new()
            .prefix("tidewatch-docker-")
            .tempdir()
            .context("making a directory for the daemon")?;
        let mut docker = Self {
            root: dir.path().to_owned(),
            dir: Some(dir),
            daemon: None,
            flags: flags.iter().copied().map(str::to_owned).collect(),
            orphans: false,
        };
        docker.configure()?;
        docker.start_daemon()?;
        docker.import_image()?;
        Ok(docker)
    }

    /// Gives it a configuration of its own: the machine's would contradict the flags it is started with.
    fn configure(&self) -> anyhow::Result<()> {
        let version = output(Command::new("dockerd").arg("--version"))?;
        let major = version
            .split(|c: char| !c.is_ascii_digit())
            .find_map(|number| number.parse::<u32>().ok())
            .with_context(|| format!("dockerd has no version: {version}"))?;
        // Up to version 24 a daemon's id is made from a key that all daemons of a machine share.
        let configuration = if major < 25 {
            serde_json::json!({ "deprecated-key-path": self.root.join("key.json") })
        } else {
            serde_json::json!({})
        };
        fs::write(self.root.join("daemon.json"), configuration.to_string())?;
        Ok(())
    }

    /// Starts the daemon after [`terminate`](Self::terminate) or [`kill`](Self::kill), and waits until it answers.
    ///
    /// # Errors
    /// Where it does not.
    ///
    /// # Panics
    /// Where it runs already.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        assert!(self.daemon.is_none(), "the daemon runs");
        let root = &self.root;
        // What a killed daemon leaves behind keeps the next one from starting.
        fs::remove_file(root.join("pid")).ok();
        let log = File::options().create(true).append(true).open(root.join("log"))?;
        // With this, not even a test that is killed leaves a daemon behind.
        let mut command = if is_in_path("setpriv") {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "dockerd"]);
            command
        } else {
            Command::new("dockerd")
        };
        let daemon = command
            .arg("--config-file")
            .arg(root.join("daemon.json"))
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("exec"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .arg("--host")
            .arg(self.address())
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--shutdown-timeout", "1"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting dockerd")?;
        self.daemon = Some(daemon);
        let mut ended = None;
        let answers = eventually(START_CEILING, || {
            ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok()?);
            ended.is_some() || self.pings()
        });
        if let Some(status) = ended {
            self.daemon = None;
            bail!("dockerd ended with {status}:\n{}", self.last_words());
        }
        ensure!(answers, "dockerd did not answer:\n{}", self.last_words());
        self.orphans = false;
        Ok(())
    }

    /// Ends the daemon as an administrator does, containers included, and waits until it is gone.
    ///
    /// # Errors
    /// Where it does not go.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.end_daemon(Signal::TERM)
    }

    /// Ends the daemon without a chance to say goodbye. Its containers go on until it is started again.
    ///
    /// # Errors
    /// Where it does not go.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.orphans = true;
        self.end_daemon(Signal::KILL)?;
        self.end_containerd()
    }

    /// Ends the daemon as an administrator does who has it leave containers alone (`--live-restore`): they go on.
    ///
    /// # Errors
    /// Where it does not go.
    pub fn leave(&mut self) -> anyhow::Result<()> {
        self.orphans = true;
        self.end_daemon(Signal::TERM)?;
        self.end_containerd()
    }

    /// Has the daemon stand still, as on a machine that swaps: it accepts connections, and answers nobody.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has it go on.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let daemon = self.daemon.as_ref().context("the daemon does not run")?;
        kill_process(pid(daemon.id())?, signal).context("signalling dockerd")
    }

    /// Where it is, as `DOCKER_HOST` says it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("docker.sock")
    }

    /// A directory for what else the test needs; kept after a failure like the rest.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// Runs Docker's own client, and returns what it printed.
    ///
    /// # Errors
    /// Where it fails, with what it printed to stderr.
    pub fn docker<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, args: I) -> anyhow::Result<String> {
        output(self.client().args(args))
    }

    /// Starts a container in the background, without a network, and returns its full id.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn run(&self, name: &str, options: &[&str]) -> anyhow::Result<String> {
        self.docker(
            ["run", "--detach", "--network", "none", "--name", name]
                .iter()
                .chain(options)
                .chain(&[IMAGE]),
        )
    }

    /// The same with a command instead of the image's own.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn run_command(&self, name: &str, options: &[&str], command: &[&str]) -> anyhow::Result<String> {
        self.docker(
            ["run", "--detach", "--network", "none", "--name", name]
                .iter()
                .chain(options)
                .chain(&[IMAGE])
                .chain(command),
        )
    }

    /// Starts a container that wants more memory than it may have, and is killed for it. Its init process has all it needs.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn run_greedy(&self, name: &str, options: &[&str]) -> anyhow::Result<String> {
        let limits = ["--memory", "32m", "--memory-swap", "32m"];
        self.run_command(name, &[options, &limits].concat(), &["tail", "/dev/zero"])
    }

    /// What Docker itself says of this container: whether it was ended for want of memory. See [`GREEDY_TRIES`].
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn was_oom_killed(&self, id: &str) -> anyhow::Result<bool> {
        Ok(self
            .docker(["inspect", "--format", "{{.State.OOMKilled}}", id])?
            .parse()?)
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("--host")
            .arg(self.address())
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .env_remove("DOCKER_TLS_VERIFY")
            .env("DOCKER_CONFIG", self.root.join("client"))
            .stdin(Stdio::null());
        command
    }

    fn import_image(&self) -> anyhow::Result<()> {
        let bin = self.root.join("image/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(BUSYBOX, bin.join("busybox"))?;
        for applet in APPLETS {
            symlink("busybox", bin.join(applet))?;
        }
        let tar = output_bytes(
            Command::new("tar")
                .arg("-C")
                .arg(self.root.join("image"))
                .args(["-cf", "-", "."]),
        )?;
        let mut import = self
            .client()
            .args([
                "import",
                "--change",
                "ENV PATH=/bin",
                "--change",
                r#"CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; touch /ready; sleep 3600 & wait"]"#,
                "-",
                IMAGE,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let written = import.stdin.take().context("no stdin")?.write_all(&tar);
        let result = import.wait_with_output()?;
        ensure!(
            result.status.success(),
            "docker import: {}",
            String::from_utf8_lossy(&result.stderr)
        );
        written.context("handing over the image")
    }

    fn pings(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else {
            return false;
        };
        let mut answer = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
            && stream
                .write_all(b"GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n")
                .is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b" 200")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.root.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn end_daemon(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        // It has not been waited for, so the id is still its own. One that stands still hears nothing.
        kill_process(pid(daemon.id())?, Signal::CONT).context("signalling dockerd")?;
        kill_process(pid(daemon.id())?, signal).context("signalling dockerd")?;
        if eventually(STOP_CEILING, || matches!(daemon.try_wait(), Ok(Some(_)))) {
            return Ok(());
        }
        daemon.kill()?;
        daemon.wait()?;
        bail!("dockerd did not end:\n{}", self.last_words());
    }

    fn clean_up(&mut self) -> anyhow::Result<()> {
        if self.daemon.is_none() {
            if !self.orphans {
                return Ok(());
            }
            self.start_daemon()?;
        }
        let containers = self.docker(["ps", "--all", "--quiet"])?;
        if !containers.is_empty() {
            self.docker(["rm", "--force"].into_iter().chain(containers.lines()))?;
        }
        // A network of one's own is a bridge on this machine that outlives its daemon.
        let networks = self.docker(["network", "ls", "--quiet", "--filter", "type=custom"])?;
        if !networks.is_empty() {
            self.docker(["network", "rm"].into_iter().chain(networks.lines()))?;
        }
        self.terminate()
    }

    /// Its containerd ends with the daemon, but need not end with one that was killed.
    fn end_containerd(&self) -> anyhow::Result<()> {
        let file = self.root.join("exec/containerd/containerd.pid");
        let Ok(text) = fs::read_to_string(&file) else {
            return Ok(());
        };
        let number: u32 = text.trim().parse()?;
        // A process that has ended, and that nobody has waited for yet, has no command line any more.
        let runs = || {
            fs::read(format!("/proc/{number}/cmdline")).is_ok_and(|command| {
                String::from_utf8_lossy(&command).contains(&*self.root.to_string_lossy())
            })
        };
        if runs() {
            // Where that fails it has just ended by itself.
            kill_process(pid(number)?, Signal::TERM).ok();
        }
        ensure!(eventually(STOP_CEILING, || !runs()), "containerd did not end");
        // A daemon that finds it takes even a process that nobody has waited for yet for a containerd that runs.
        fs::remove_file(file).context("removing containerd.pid")
    }

    fn unmount(&self) -> anyhow::Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mine = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| Path::new(at).starts_with(&self.root));
        for at in mine.collect::<Vec<_>>().into_iter().rev() {
            output(Command::new("umount").arg(at))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PrivateDocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateDocker")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Drop for PrivateDocker {
    #[expect(clippy::print_stderr, reason = "what is left behind has to be heard of")]
    fn drop(&mut self) {
        for (what, result) in [
            ("removing containers and daemon", self.clean_up()),
            ("ending the daemon", self.terminate()),
            ("ending containerd", self.end_containerd()),
            ("unmounting", self.unmount()),
        ] {
            if let Err(error) = result {
                eprintln!("{what} in {}: {error:#}", self.root.display());
            }
        }
        if let Some(dir) = self.dir.take()
            && std::thread::panicking()
        {
            let kept = dir.keep();
            eprintln!("the daemon's directory is kept: {}", kept.display());
        }
    }
}

fn is_in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn pid(number: u32) -> anyhow::Result<Pid> {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process has this id")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let bytes = output_bytes(command)?;
    Ok(String::from_utf8(bytes)?.trim().to_owned())
}

fn output_bytes(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let result = command
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    ensure!(
        result.status.success(),
        "{command:?} ended with {}: {}",
        result.status,
        String::from_utf8_lossy(&result.stderr).trim()
    );
    Ok(result.stdout)
}
