//! What a server is told to do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tidewatch_core::Settings;
use tidewatch_fleet::HostName;

use crate::error::Error;
use crate::reconciler;

/// The port that servers listen on and clients look for, unless they are told another.
pub const DEFAULT_PORT: u16 = 7480;

/// How long a drain may take, unless the configuration says otherwise: shorter than the ten seconds
/// that `docker stop` grants.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// What a server is told to do. Made by whoever starts it, from flags, environment and files;
/// [`check`](Self::check) finds what cannot be, before anything is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, for gRPC and HTTP alike. Port 0: any free one.
    pub listen: SocketAddr,
    /// Listen on an address that others can reach although nothing keeps them out.
    pub insecure: bool,
    /// Where the keyspace is kept. None: in memory, gone with the process.
    pub data_dir: Option<PathBuf>,
    /// The keyspace's bounds: quota, history, watches.
    pub keyspace: Settings,
    /// The Docker engines to watch. None: the one that `DOCKER_HOST` names, else the usual socket.
    pub docker: Vec<DockerEndpoint>,
    /// Watch no Docker engine at all.
    pub no_docker: bool,
    /// What the host of the only engine is called. None: this machine's name.
    pub host_name: Option<String>,
    /// The address under which the host's published ports are reached, told to whoever asks.
    pub host_address: Option<String>,
    /// Which containers without labels of ours are taken in.
    pub adopt: Adopt,
    /// Bounds of connections and messages.
    pub limits: Limits,
    /// How long a shutdown may take until it stops waiting for clients.
    pub drain_timeout: Duration,
}

/// A Docker engine to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEndpoint {
    /// What its host is called. None: [`Config::host_name`].
    pub name: Option<String>,
    /// Where it listens: `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`.
    pub url: String,
}

/// Which containers without labels of ours get rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// Those that Docker Compose started: a workload per project.
    #[default]
    Compose,
    /// None.
    None,
}

/// Bounds of what clients may send and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time; further ones are closed at once.
    pub max_connections: usize,
    /// The most calls and streams at a time on one connection; what is beyond waits in the client.
    pub max_streams_per_connection: u32,
    /// The most watches at a time on one connection; further ones are refused.
    pub max_watches_per_connection: usize,
    /// The largest gRPC message that is accepted, in bytes.
    pub max_request_bytes: usize,
}

impl Default for Limits {
    /// 10 000 connections with 20 000 streams each, half of which may be watches, so that a client that
    /// goes on opening them is told before it waits without a word; and gRPC's usual 4 MiB.
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams_per_connection: 20_000,
            max_watches_per_connection: 10_000,
            max_request_bytes: 4 << 20,
        }
    }
}

impl Default for Config {
    /// A server for this machine alone, on the default port, in memory, that watches its Docker.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            insecure: false,
            data_dir: None,
            keyspace: Settings::default(),
            docker: Vec::new(),
            no_docker: false,
            host_name: None,
            host_address: None,
            adopt: Adopt::default(),
            limits: Limits::default(),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
        }
    }
}

impl Config {
    /// Checks everything that can be checked without opening anything.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::InvalidSetting`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            return Err(Error::NotLoopback { listen: self.listen });
        }
        self.check_docker()?;
        self.check_numbers()
    }

    fn check_docker(&self) -> Result<(), Error> {
        if self.no_docker && !self.docker.is_empty() {
            return Err(invalid(
                "docker",
                "it contradicts --no-docker; leave one of them out",
            ));
        }
        if let Some(name) = &self.host_name {
            check_host_name("host-name", name)?;
        }
        let mut seen = Vec::new();
        for endpoint in &self.docker {
            match &endpoint.name {
                Some(name) => check_host_name("docker", name)?,
                None if self.docker.len() > 1 => {
                    let url = &endpoint.url;
                    return Err(invalid(
                        "docker",
                        format!(
                            "with several engines each needs a name of its own, as in --docker web1={url}"
                        ),
                    ));
                }
                None => {}
            }
            if seen.contains(&&endpoint.name) {
                let name = endpoint.name.as_deref().unwrap_or_default();
                return Err(invalid("docker", format!("two engines are called {name:?}")));
            }
            seen.push(&endpoint.name);
        }
        reconciler::sites(self).map(drop)
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let positive = [
            ("limits.max_connections", limits.max_connections),
            (
                "limits.max_streams_per_connection",
                limits.max_streams_per_connection as usize,
            ),
            (
                "limits.max_watches_per_connection",
                limits.max_watches_per_connection,
            ),
            ("limits.max_request_bytes", limits.max_request_bytes),
            ("watch.room", self.keyspace.watch.room),
            ("watch.max_watchers", self.keyspace.watch.max_watchers),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((setting, _)) => Err(invalid(setting, "it must be at least 1")),
            None => Ok(()),
        }
    }
}

fn check_host_name(setting: &'static str, name: &str) -> Result<(), Error> {
    HostName::new(name).map_err(|error| invalid(setting, error.to_string()))?;
    Ok(())
}

fn invalid(setting: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidSetting {
        setting,
        reason: reason.into(),
    }
}
