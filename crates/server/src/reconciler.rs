//! The reconcilers that run in this server: one per Docker engine.

use std::sync::Arc;

use tidewatch_core::Clock;
use tidewatch_docker::plan::Verdict;
use tidewatch_docker::{Engine, Reconciler, ReconcilerStatus, StatusSnapshot, plugin};
use tidewatch_fleet::{HostName, NameError};
use tidewatch_proto::v1;

use crate::config::{Adopt, Config};
use crate::error::Error;
use crate::part::Parts;
use crate::readiness::Readiness;
use crate::store::Store;

/// What a machine is called that has no name that could be one of a host.
const NAMELESS: &str = "localhost";

/// An engine to look after, and what its host is called.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    host: HostName,
    engine: Engine,
}

/// The engines that a configuration names.
///
/// # Errors
/// [`Error::InvalidSetting`].
pub(crate) fn sites(config: &Config) -> Result<Vec<Site>, Error> {
    if config.no_docker {
        return Ok(Vec::new());
    }
    let default_name = || config.host_name.clone().unwrap_or_else(machine_name);
    if config.docker.is_empty() {
        let engine = Engine::from_env().map_err(|error| invalid("DOCKER_HOST", error))?;
        let host = host_name("host-name", &default_name())?;
        return Ok(vec![Site { host, engine }]);
    }
    let site = |endpoint: &crate::config::DockerEndpoint| {
        let name = endpoint.name.clone().unwrap_or_else(default_name);
        Ok(Site {
            host: host_name("docker", &name)?,
            engine: Engine::at(&endpoint.url).map_err(|error| invalid("docker", error))?,
        })
    };
    config.docker.iter().map(site).collect()
}

fn host_name(setting: &'static str, name: &str) -> Result<HostName, Error> {
    HostName::new(name).map_err(|error: NameError| invalid(setting, error))
}

fn invalid(setting: &'static str, error: impl std::fmt::Display) -> Error {
    Error::InvalidSetting {
        setting,
        reason: error.to_string(),
    }
}

/// This machine's name, with what a host's name cannot have replaced.
fn machine_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    as_host_name(&name)
}

fn as_host_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let replaced: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let begins = replaced.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    match begins.get(..begins.len().min(tidewatch_fleet::name::MAX_NAME_BYTES)) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => NAMELESS.to_owned(),
    }
}

/// Handles on the running reconcilers.
#[derive(Debug, Default)]
pub(crate) struct Reconcilers {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    status: ReconcilerStatus,
    endpoint: String,
}

/// What reconcilers work with.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) readiness: &'a Readiness,
}

impl Context<'_> {
    /// Starts a reconciler for each engine. They end when the server drains, and give their hosts up
    /// then.
    pub(crate) fn start(&self, sites: Vec<Site>, parts: &mut Parts) -> Reconcilers {
        let running = sites.into_iter().map(|site| self.start_one(site, parts));
        Reconcilers {
            running: running.collect(),
        }
    }

    fn start_one(&self, Site { host, engine }: Site, parts: &mut Parts) -> Running {
        let engine = engine.with_clock(self.clock.clone());
        let endpoint = engine.address();
        let plugins = match self.config.adopt {
            Adopt::Compose => plugin::all(),
            Adopt::None => plugin::without_adoption(),
        };
        let reconciler = Reconciler::builder(host, engine.clone())
            .events(engine.clone())
            .inspect(engine)
            .keyspace(self.store.keyspace.clone())
            .clock(self.clock.clone())
            .instance(self.store.instance.clone())
            .address(self.config.host_address.clone().unwrap_or_default())
            .plugins(plugins)
            .build();
        let status = reconciler.status();
        let readiness = self.readiness.clone();
        parts.spawn(
            "reconciler",
            reconciler.run(async move { readiness.draining().await }),
        );
        Running { status, endpoint }
    }
}

impl Reconcilers {
    /// The reconciler of a host.
    pub(crate) fn snapshot(&self, host: &str) -> Option<StatusSnapshot> {
        let of_host = self
            .running
            .iter()
            .find(|running| *running.status.host() == *host);
        of_host.map(|running| running.status.snapshot())
    }

    /// The hosts that are looked after here, with how that goes.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = (&HostName, StatusSnapshot)> {
        self.running
            .iter()
            .map(|running| (running.status.host(), running.status.snapshot()))
    }

    /// What became of the containers that are meant; on all hosts if none is named.
    pub(crate) fn explain(&self, container: &str, host: Option<&HostName>) -> Vec<(HostName, Verdict)> {
        self.told(host, |status| status.explain(container))
    }

    /// The containers without a row; on all hosts if none is named.
    pub(crate) fn untracked(&self, host: Option<&HostName>) -> Vec<(HostName, Verdict)> {
        self.told(host, ReconcilerStatus::untracked)
    }

    fn told(
        &self,
        host: Option<&HostName>,
        ask: impl Fn(&ReconcilerStatus) -> Vec<Verdict>,
    ) -> Vec<(HostName, Verdict)> {
        let asked = self
            .running
            .iter()
            .filter(|running| host.is_none_or(|host| host == running.status.host()));
        asked
            .flat_map(|running| {
                let host = running.status.host().clone();
                ask(&running.status)
                    .into_iter()
                    .map(move |verdict| (host.clone(), verdict))
            })
            .collect()
    }

    /// All of them, for the status of the server.
    pub(crate) fn report(&self) -> Vec<v1::ReconcilerStatus> {
        let report = |running: &Running| {
            let snapshot = running.status.snapshot();
            // Counted in one look: between two the reconciler may have written.
            let verdicts = running.status.verdicts();
            let tracked = verdicts.iter().filter(|verdict| verdict.untracked().is_none());
            let tracked = tracked.count() as u64;
            v1::ReconcilerStatus {
                host: running.status.host().to_string(),
                endpoint: running.endpoint.clone(),
                reachable: snapshot.reachable == Some(true),
                since: snapshot.since.map(Into::into),
                error: trouble(&snapshot),
                last_sync: snapshot.last_sync.map(Into::into),
                syncs: snapshot.resyncs,
                drift: snapshot.drift,
                containers: tracked,
                untracked: verdicts.len() as u64 - tracked,
            }
        };
        self.running.iter().map(report).collect()
    }
}

/// What keeps a reconciler from its work, the worst first; empty if nothing does.
pub(crate) fn trouble(snapshot: &StatusSnapshot) -> String {
    if !snapshot.held_by.is_empty() {
        return format!(
            "instance {} reconciles this host; give one of the two another --host-name, or stop it",
            snapshot.held_by
        );
    }
    if snapshot.error.is_empty() {
        snapshot.store_error.clone()
    } else {
        snapshot.error.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_machine_name_becomes_a_host_name() {
        let long = "x".repeat(200);
        for (name, host) in [
            ("web1", "web1"),
            ("web1.example.org", "web1.example.org"),
            ("José's box", "Jos--s-box"),
            ("_-web", "web"),
            ("", NAMELESS),
            ("---", NAMELESS),
            (&long, &long[..128]),
        ] {
            assert_eq!(as_host_name(name), host);
            HostName::new(&as_host_name(name)).unwrap();
        }
        HostName::new(&machine_name()).unwrap();
    }
}
