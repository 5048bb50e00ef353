//! Which Docker engines are looked after, and what their hosts are called: the same for a server and for
//! an agent.

use std::sync::Arc;

use tidewatch_core::Clock;
use tidewatch_docker::{Engine, Reconciler, ReconcilerBuilder, plugin};
use tidewatch_fleet::{HostName, NameError};

use crate::error::Error;

/// What a machine is called that has no name that could be one of a host.
const NAMELESS: &str = "localhost";

/// The Docker engines that somebody has named, and what goes for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engines {
    /// Where they are. None: the one that `DOCKER_HOST` names, else the usual socket.
    pub docker: Vec<DockerEndpoint>,
    /// What the host of the only engine is called. None: this machine's name.
    pub host_name: Option<String>,
    /// The address under which the only engine's published ports are reached, told to whoever asks. With several
    /// engines each host is reached under its name.
    pub host_address: Option<String>,
    /// Which containers without labels of ours are taken in.
    pub adopt: Adopt,
}

/// A Docker engine to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEndpoint {
    /// What its host is called. None: [`Engines::host_name`].
    pub name: Option<String>,
    /// Where it listens: `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`,
    /// `https://web1:2376?certs=/etc/tidewatch/web1`, `ssh://ops@web1`.
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

/// An engine to look after, and what its host is called.
#[derive(Clone, Debug)]
pub struct Site {
    host: HostName,
    engine: Engine,
    address: String,
    adopt: Adopt,
}

impl Engines {
    /// Checks what was named. Nothing is opened.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`].
    pub fn sites(&self) -> Result<Vec<Site>, Error> {
        self.check_names()?;
        let default_name = || self.host_name.clone().unwrap_or_else(machine_name);
        if self.docker.is_empty() {
            let engine = Engine::from_env().map_err(|error| invalid("DOCKER_HOST", error))?;
            return Ok(vec![self.site(host_name("host-name", &default_name())?, engine)]);
        }
        let named = |endpoint: &DockerEndpoint| {
            let name = endpoint.name.clone().unwrap_or_else(default_name);
            let engine = Engine::at(&endpoint.url).map_err(|error| invalid("docker", error))?;
            Ok(self.site(host_name("docker", &name)?, engine))
        };
        self.docker.iter().map(named).collect()
    }

    fn site(&self, host: HostName, engine: Engine) -> Site {
        Site {
            host,
            engine,
            address: self.host_address.clone().unwrap_or_default(),
            adopt: self.adopt,
        }
    }

    pub(crate) fn check_names(&self) -> Result<(), Error> {
        if let Some(name) = &self.host_name {
            host_name("host-name", name)?;
            if !self.docker.is_empty() && self.docker.iter().all(|engine| engine.name.is_some()) {
                let told = format!(
                    "no engine would be called {name:?}, because each has a name of its own in --docker; leave \
                     --host-name out, or name the engine by its URL alone"
                );
                return Err(invalid("host-name", told));
            }
        }
        if let Some(address) = &self.host_address
            && self.docker.len() > 1
        {
            let told = format!(
                "with several engines it would be that of each, and what one of them publishes would be looked for at \
                 another; leave it out, so that each host is reached under its name (not {address:?})"
            );
            return Err(invalid("host-address", told));
        }
        let mut seen = Vec::new();
        for endpoint in &self.docker {
            match &endpoint.name {
                Some(name) => drop(host_name("docker", name)?),
                None if self.docker.len() > 1 => {
                    let url = &endpoint.url;
                    let told = format!(
                        "with several engines each needs a name of its own, as in --docker web1={url}"
                    );
                    return Err(invalid("docker", told));
                }
                None => {}
            }
            if seen.contains(&&endpoint.name) {
                let name = endpoint.name.as_deref().unwrap_or_default();
                return Err(invalid("docker", format!("two engines are called {name:?}")));
            }
            seen.push(&endpoint.name);
        }
        Ok(())
    }
}

impl Site {
    /// What the host is called.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Where its engine is, for people.
    pub fn endpoint(&self) -> String {
        self.engine.address()
    }

    /// Its reconciler, which needs a keyspace yet, and an instance.
    pub fn reconciler(self, clock: Arc<dyn Clock>) -> ReconcilerBuilder<Engine, Engine, Engine> {
        let engine = self.engine.with_clock(clock.clone());
        let plugins = match self.adopt {
            Adopt::Compose => plugin::all(),
            Adopt::None => plugin::without_adoption(),
        };
        Reconciler::builder(self.host, engine.clone())
            .events(engine.clone())
            .inspect(engine)
            .clock(clock)
            .address(self.address)
            .plugins(plugins)
    }
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
pub fn machine_name() -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_engines_have_no_address_in_common() {
        let endpoint = |name: &str| DockerEndpoint {
            name: Some(name.into()),
            url: format!("tcp://{name}:2375"),
        };
        let mut engines = Engines {
            docker: vec![endpoint("web1")],
            host_address: Some("10.0.0.5".into()),
            ..Engines::default()
        };
        assert_eq!(engines.sites().unwrap()[0].address, "10.0.0.5");
        engines.docker.push(endpoint("web2"));
        let error = engines.sites().unwrap_err().to_string();
        assert!(error.contains("host-address"), "{error}");
        engines.host_address = None;
        let sites = engines.sites().unwrap();
        assert!(sites.len() == 2 && sites.iter().all(|site| site.address.is_empty()));
    }

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

    fn engines(docker: &[(Option<&str>, &str)], host_name: Option<&str>) -> Engines {
        let endpoint = |(name, url): &(Option<&str>, &str)| DockerEndpoint {
            name: name.map(ToOwned::to_owned),
            url: (*url).to_owned(),
        };
        Engines {
            docker: docker.iter().map(endpoint).collect(),
            host_name: host_name.map(ToOwned::to_owned),
            ..Engines::default()
        }
    }

    #[test]
    fn each_engine_has_a_host_of_its_own_name() {
        let (a, b) = ("tcp://10.0.0.5:2375", "tcp://10.0.0.6:2375");
        for (docker, host_name, hosts) in [
            (&[][..], Some("here"), &["here"][..]),
            (&[(None, a)], Some("here"), &["here"]),
            (&[(Some("web1"), a)], None, &["web1"]),
            (&[(Some("web1"), a), (Some("web2"), b)], None, &["web1", "web2"]),
        ] {
            let sites = engines(docker, host_name).sites().unwrap();
            let named: Vec<_> = sites.iter().map(|site| site.host().as_str()).collect();
            assert_eq!(named, hosts);
        }
    }

    #[test]
    fn names_that_contradict_each_other_or_mean_nothing_are_refused_with_what_to_do() {
        let (a, b) = ("tcp://10.0.0.5:2375", "tcp://10.0.0.6:2375");
        for (docker, host_name, says) in [
            (&[(Some("web1"), a)][..], Some("here"), "leave --host-name out"),
            (
                &[(None, a), (Some("web2"), b)],
                None,
                "--docker web1=tcp://10.0.0.5:2375",
            ),
            (
                &[(Some("web1"), a), (Some("web1"), b)],
                None,
                "two engines are called \"web1\"",
            ),
            (&[(Some("a b"), a)], None, "' ' at byte 1"),
            (&[], Some("a/b"), "host-name"),
            (&[(None, "ftp://x")], None, "ftp"),
        ] {
            let error = engines(docker, host_name).sites().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
