//! The layout of keys.

use std::fmt;

use bytes::Bytes;
use tidewatch_core::KeyRange;

use crate::name::{HostName, NameError, RowName, WorkloadId};

/// Below it are the workloads.
pub const WORKLOADS: &str = "/workloads/";
/// Below it are the deploy rows.
pub const DEPLOY: &str = "/deploy/";
/// Below it are the container rows.
pub const CONTAINERS: &str = "/containers/";
/// Below it are the hosts.
pub const HOSTS: &str = "/hosts/";
/// Below it is a key for each host that is looked after.
pub const ALIVE: &str = "/alive/";

/// A key of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FleetKey {
    /// `/workloads/<id>`
    Workload(WorkloadId),
    /// `/deploy/<workload>/<row>`
    Deploy(WorkloadId, RowName),
    /// `/containers/<workload>/<host>/<row>`
    Container(WorkloadId, HostName, RowName),
    /// `/hosts/<host>`
    Host(HostName),
    /// `/alive/<host>`
    Alive(HostName),
}

/// A key below one of the fleet's prefixes that is no key of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has too few or too many parts.
    #[error("it is not of the form {form}")]
    Form {
        /// The form that keys below this prefix have.
        form: &'static str,
    },
    /// A part is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FleetKey {
    /// Reads a key. None if it is below none of the fleet's prefixes.
    ///
    /// # Errors
    /// [`KeyError`] if it is below one of them and not what belongs there.
    ///
    /// ```
    /// use tidewatch_fleet::FleetKey;
    ///
    /// let key = FleetKey::parse(b"/containers/shop/h1/web").unwrap()?;
    /// assert!(matches!(&key, FleetKey::Container(_, host, _) if *host == "h1"));
    /// assert_eq!(key.to_string(), "/containers/shop/h1/web");
    /// assert!(FleetKey::parse(b"/config/db").is_none());
    /// # Ok::<(), tidewatch_fleet::KeyError>(())
    /// ```
    pub fn parse(key: &[u8]) -> Option<Result<Self, KeyError>> {
        let (section, rest) = [WORKLOADS, DEPLOY, CONTAINERS, HOSTS, ALIVE]
            .into_iter()
            .find_map(|prefix| Some((prefix, key.strip_prefix(prefix.as_bytes())?)))?;
        // What is not UTF-8 has a replacement character afterwards, which no name has.
        let rest = String::from_utf8_lossy(rest);
        let parts: Vec<&str> = rest.split('/').collect();
        Some(Self::from_parts(section, &parts))
    }

    fn from_parts(section: &str, parts: &[&str]) -> Result<Self, KeyError> {
        match (section, parts) {
            (WORKLOADS, [id]) => Ok(Self::Workload(id.parse()?)),
            (DEPLOY, [workload, row]) => Ok(Self::Deploy(workload.parse()?, row.parse()?)),
            (CONTAINERS, [workload, host, row]) => {
                Ok(Self::Container(workload.parse()?, host.parse()?, row.parse()?))
            }
            (HOSTS, [host]) => Ok(Self::Host(host.parse()?)),
            (ALIVE, [host]) => Ok(Self::Alive(host.parse()?)),
            (section, _) => Err(KeyError::Form {
                form: match section {
                    WORKLOADS => "/workloads/<id>",
                    DEPLOY => "/deploy/<workload>/<row>",
                    CONTAINERS => "/containers/<workload>/<host>/<row>",
                    HOSTS => "/hosts/<host>",
                    _ => "/alive/<host>",
                },
            }),
        }
    }

    /// The key as bytes.
    pub fn to_bytes(&self) -> Bytes {
        self.to_string().into()
    }

    /// The range that holds exactly this key.
    #[expect(
        clippy::missing_panics_doc,
        reason = "three names and a section are far below the limit"
    )]
    pub fn to_range(&self) -> KeyRange {
        tidewatch_core::key(self.to_bytes()).expect("three names of 128 bytes fit a key of 4096")
    }

    /// The workload it is about.
    pub fn workload(&self) -> Option<&WorkloadId> {
        match self {
            Self::Workload(id) | Self::Deploy(id, _) | Self::Container(id, ..) => Some(id),
            Self::Host(_) | Self::Alive(_) => None,
        }
    }

    /// The host it is about.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Container(_, host, _) | Self::Host(host) | Self::Alive(host) => Some(host),
            Self::Workload(_) | Self::Deploy(..) => None,
        }
    }

    /// The row it is about.
    pub fn row(&self) -> Option<&RowName> {
        match self {
            Self::Deploy(_, row) | Self::Container(_, _, row) => Some(row),
            Self::Workload(_) | Self::Host(_) | Self::Alive(_) => None,
        }
    }
}

impl fmt::Display for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "{WORKLOADS}{id}"),
            Self::Deploy(workload, row) => write!(f, "{DEPLOY}{workload}/{row}"),
            Self::Container(workload, host, row) => write!(f, "{CONTAINERS}{workload}/{host}/{row}"),
            Self::Host(host) => write!(f, "{HOSTS}{host}"),
            Self::Alive(host) => write!(f, "{ALIVE}{host}"),
        }
    }
}

/// All keys below one of the prefixes of this module.
pub fn section(prefix: &'static str) -> KeyRange {
    KeyRange::starting_with(prefix)
}

/// The names of the workload and the host that a key, or the beginning of keys, is about, as far as it
/// says.
///
/// ```
/// use tidewatch_fleet::key::about;
///
/// assert_eq!(about(b"/containers/shop/h1/"), (Some("shop"), Some("h1")));
/// assert_eq!(about(b"/hosts/h1"), (None, Some("h1")));
/// assert_eq!(about(b"/config/db"), (None, None));
/// ```
pub fn about(key: &[u8]) -> (Option<&str>, Option<&str>) {
    let parse = || {
        let (section, rest) = str::from_utf8(key).ok()?.strip_prefix('/')?.split_once('/')?;
        let mut names = rest
            .split('/')
            .map(|name| Some(name).filter(|name| !name.is_empty()));
        let mut name = || names.next().flatten();
        Some(match section {
            "workloads" | "deploy" => (name(), None),
            "containers" => (name(), name()),
            "hosts" | "alive" => (None, name()),
            _ => return None,
        })
    };
    parse().unwrap_or_default()
}

/// The deploy rows of one workload.
pub fn deploy_rows(workload: &WorkloadId) -> KeyRange {
    KeyRange::starting_with(format!("{DEPLOY}{workload}/"))
}

/// The container rows of one workload, on all hosts.
pub fn container_rows(workload: &WorkloadId) -> KeyRange {
    KeyRange::starting_with(format!("{CONTAINERS}{workload}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back_as_what_it_was_made_of() {
        for text in [
            "/workloads/shop",
            "/deploy/shop/web.2",
            "/containers/shop/h1/web",
            "/hosts/h1",
            "/alive/h1",
        ] {
            let key = FleetKey::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(key.to_range().as_single().unwrap(), text);
        }
    }

    #[test]
    fn a_key_of_another_form_is_an_error_below_the_fleets_prefixes_and_nothing_elsewhere() {
        for text in [
            "/workloads/",
            "/workloads/a/b",
            "/deploy/shop",
            "/containers/shop/web",
            "/containers/shop//web",
            "/hosts/h 1",
            "/alive/h1/",
        ] {
            assert!(FleetKey::parse(text.as_bytes()).unwrap().is_err(), "{text}");
        }
        assert!(FleetKey::parse(b"/containers/shop/h1/\xff").unwrap().is_err());
        for text in ["", "/", "/workloads", "/directives", "containers/x/y/z"] {
            assert!(FleetKey::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
