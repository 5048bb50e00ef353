//! What a server is told to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tidewatch_core::Settings;

use crate::error::Error;
use crate::etcd::{self, EtcdConfig};
use crate::log_directives::LogDirectives;
use crate::site::{Adopt, DockerEndpoint, Engines, Site};

/// The port that servers listen on and clients look for, unless they are told another.
pub const DEFAULT_PORT: u16 = 7480;

/// How long a drain may take, unless the configuration says otherwise: shorter than the ten seconds
/// that `docker stop` grants.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How often idle watches are told how far they are, as in the native API.
const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The shortest such interval, as with etcd.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a server is told to do. Made by whoever starts it, from flags, environment and files;
/// [`check`](Self::check) finds what cannot be, before anything is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, for gRPC and HTTP alike. Port 0: any free one.
    pub listen: SocketAddr,
    /// Listen on an address that others can reach although nothing keeps them out.
    pub insecure: bool,
    /// Names under which clients reach the server besides those that are its own anyway, say because of a proxy
    /// in front of it. Without scheme and port.
    pub allowed_hosts: Vec<String>,
    /// Where the keyspace is kept. None: in memory, gone with the process, unless it is in etcd.
    pub data_dir: Option<PathBuf>,
    /// The etcd that the keyspace is in, which several servers may share.
    pub etcd: Option<EtcdConfig>,
    /// The keyspace's bounds: quota, history, watches.
    pub keyspace: Settings,
    /// The Docker engines to watch. None: the one that `DOCKER_HOST` names, else the usual socket.
    pub docker: Vec<DockerEndpoint>,
    /// Watch no Docker engine at all.
    pub no_docker: bool,
    /// What the host of the only engine is called. None: this machine's name.
    pub host_name: Option<String>,
    /// The address under which the only engine's published ports are reached, told to whoever asks.
    pub host_address: Option<String>,
    /// Which containers without labels of ours are taken in.
    pub adopt: Adopt,
    /// Bounds of connections and messages.
    pub limits: Limits,
    /// How long a shutdown may take until it stops waiting for clients.
    pub drain_timeout: Duration,
    /// How often idle watches of etcd's clients that asked for it are told how far they are. At least
    /// 100 ms.
    pub etcd_progress_interval: Duration,
    /// Is told the store of directives, so that the program's log filter can ask what they want logged.
    pub log_directives: LogDirectives,
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
            allowed_hosts: Vec::new(),
            data_dir: None,
            etcd: None,
            keyspace: Settings::default(),
            docker: Vec::new(),
            no_docker: false,
            host_name: None,
            host_address: None,
            adopt: Adopt::default(),
            limits: Limits::default(),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            etcd_progress_interval: DEFAULT_PROGRESS_INTERVAL,
            log_directives: LogDirectives::new(),
        }
    }
}

impl Config {
    /// Checks everything that can be checked without opening anything but the files that it names.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::InvalidSetting`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            return Err(Error::NotLoopback { listen: self.listen });
        }
        if let Some(name) = self.allowed_hosts.iter().find(|name| !is_host(name)) {
            let reason =
                format!("{name:?} is no name; it looks like tidewatch.example.org, without scheme and port");
            return Err(invalid("allowed-host", reason));
        }
        self.check_docker()?;
        self.check_numbers()?;
        self.check_etcd()
    }

    fn check_etcd(&self) -> Result<(), Error> {
        let Some(config) = &self.etcd else { return Ok(()) };
        if let Some(dir) = &self.data_dir {
            let dir = dir.display();
            let reason = format!("the keyspace is to be in {dir} too; leave --etcd or --data-dir out");
            return Err(invalid("etcd", reason));
        }
        etcd::check(config)
    }

    fn check_docker(&self) -> Result<(), Error> {
        if self.no_docker && !self.docker.is_empty() {
            return Err(invalid(
                "docker",
                "it contradicts --no-docker; leave one of them out",
            ));
        }
        self.sites().map(drop)
    }

    /// The engines to look after.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`].
    pub(crate) fn sites(&self) -> Result<Vec<Site>, Error> {
        let engines = Engines {
            docker: self.docker.clone(),
            host_name: self.host_name.clone(),
            host_address: self.host_address.clone(),
            adopt: self.adopt,
        };
        if self.no_docker {
            // What the environment names is not looked at.
            return engines.check_names().map(|()| Vec::new());
        }
        engines.sites()
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
        if self.etcd_progress_interval < MIN_PROGRESS_INTERVAL {
            return Err(invalid("etcd_progress_interval", "it must be at least 100 ms"));
        }
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((setting, _)) => Err(invalid(setting, "it must be at least 1")),
            None => Ok(()),
        }
    }
}

/// Whether it can be the host of an address.
fn is_host(name: &str) -> bool {
    let can_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.parse::<IpAddr>().is_ok() || (name.chars().all(can_be) && name.contains(|c| c != '.'))
}

fn invalid(setting: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidSetting {
        setting,
        reason: reason.into(),
    }
}
