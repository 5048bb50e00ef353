//! A Docker daemon that belongs to one bench: all it has is in one folder, and it needs no registry.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::two_workers::now;

/// How long it may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

const IMAGE: &str = "bench:1";

/// A running daemon. Dropping it ends it, and removes all it had.
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    dir: TempDir,
}

/// What a daemon said, and when that arrived here.
#[derive(Debug)]
pub struct Told {
    /// The container.
    pub id: String,
    /// `start` or `die`.
    pub action: String,
    /// When it arrived.
    pub at: Instant,
}

impl Dockerd {
    /// Starts one with an image of a static busybox.
    ///
    /// # Errors
    /// It cannot be started: only root can, and Debian's `docker.io` and `busybox-static` have to be there.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tidewatch-peers-docker-")
            .tempdir()?;
        let root = dir.path();
        // Up to version 24 a daemon's id is made from a key that all daemons of a machine share.
        let settings = json!({ "deprecated-key-path": root.join("key.json") });
        fs::write(root.join("daemon.json"), settings.to_string())?;
        let log = File::create(root.join("log"))?;
        let child = Command::new("dockerd")
            .arg("--config-file")
            .arg(root.join("daemon.json"))
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("exec"))
            .arg("--pidfile")
            .arg(root.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", root.join("docker.sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--shutdown-timeout", "1"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd (on Debian: `apt-get install docker.io`)")?;
        let daemon = Self { child, dir };
        let deadline = now() + PATIENCE;
        while daemon.call("GET", "/_ping", b"").is_err() {
            ensure!(
                now() < deadline,
                "dockerd does not answer; only root can start it"
            );
            thread::sleep(Duration::from_millis(50));
        }
        daemon.import()?;
        Ok(daemon)
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Makes a container of the workload `bench`, which does not run yet, and returns its id.
    ///
    /// # Errors
    /// Docker's.
    pub fn create(&self, name: &str) -> Result<String> {
        let labels = json!({
            "tidewatch.managed": "true",
            "tidewatch.workload.id": "bench",
            "tidewatch.role": name,
            "com.example.description": "as many labels as containers usually have",
        });
        let body = json!({
            "Image": IMAGE,
            "Labels": labels,
            "ExposedPorts": { "80/tcp": {} },
            "HostConfig": { "NetworkMode": "none" },
        });
        let target = format!("/containers/create?name={name}");
        let answer = self.call("POST", &target, body.to_string().as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["Id"]
            .as_str()
            .context("a container without an id")?
            .to_owned())
    }

    /// `start` or `kill`.
    ///
    /// # Errors
    /// Docker's.
    pub fn act(&self, id: &str, verb: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{id}/{verb}"), b"")
            .map(drop)
    }

    /// Docker's own inspection, read and not looked at. It is there when what the container is in the midst of is complete.
    ///
    /// # Errors
    /// Docker's.
    pub fn inspect(&self, id: &str) -> Result<()> {
        self.call("GET", &format!("/containers/{id}/json"), b"").map(drop)
    }

    /// Docker's own list, read and not looked at. Returns how long it is.
    ///
    /// # Errors
    /// Docker's.
    pub fn list(&self) -> Result<usize> {
        Ok(self.call("GET", "/containers/json?all=1", b"")?.len())
    }

    /// Tells of starts and ends from now on.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn events(&self) -> Result<mpsc::UnboundedReceiver<Told>> {
        let filters = "%7B%22event%22%3A%5B%22start%22%2C%22die%22%5D%7D";
        let stream = self.ask("GET", &format!("/events?filters={filters}"), b"")?;
        let (told, heard) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                let at = now();
                // The rest is the head, and the sizes of chunks.
                let Ok(event) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let text = |value: &Value| value.as_str().map(str::to_owned);
                if let (Some(id), Some(action)) = (text(&event["Actor"]["ID"]), text(&event["Action"]))
                    && told.send(Told { id, action, at }).is_err()
                {
                    return;
                }
            }
        });
        Ok(heard)
    }

    fn import(&self) -> Result<()> {
        let bin = self.dir.path().join("image/bin");
        fs::create_dir_all(&bin)?;
        fs::copy("/bin/busybox", bin.join("busybox"))
            .context("on Debian: `apt-get install busybox-static`")?;
        symlink("busybox", bin.join("sleep"))?;
        let tar = Command::new("tar")
            .arg("-C")
            .arg(self.dir.path().join("image"))
            .args(["-cf", "-", "."])
            .output()?;
        let target =
            "/images/create?fromSrc=-&repo=bench&tag=1&changes=CMD%20sleep%203600&changes=ENV%20PATH%3D/bin";
        // Shell form needs a shell; this one is a list.
        let target = target.replace("CMD%20sleep%203600", "CMD%20%5B%22/bin/sleep%22%2C%223600%22%5D");
        self.call("POST", &target, &tar.stdout).map(drop)
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(self.socket())?;
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// The body of a successful answer, chunks and all.
    fn call(&self, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut answer = Vec::new();
        self.ask(method, target, body)?.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(end.context("no answer")? + 4);
        if answer.starts_with(b"HTTP/1.1 2") {
            return Ok(body);
        }
        bail!("{method} {target}: {}", String::from_utf8_lossy(&body))
    }

    fn end(&mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let deadline = now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| PathBuf::from(point).starts_with(self.dir.path())) {
            Command::new("umount").args(["--lazy", point]).status()?;
        }
        Ok(())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // What is left then is a folder for temporary files.
        let _ = self.end();
    }
}
