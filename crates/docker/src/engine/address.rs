//! Where an engine is looked for.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where Docker listens unless it is told otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine without TLS.
const PLAIN_PORT: u16 = 2375;

/// Where an engine is looked for: what `DOCKER_HOST` says, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// HTTP without TLS.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port.
        port: u16,
        /// What every path begins with, where a proxy wants that; empty or without a slash at its end.
        base: String,
    },
}

/// What is wrong with the address of an engine.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It needs something this version does not have.
    #[error(
        "{address:?} needs {needs}, which is not supported yet; use unix://PATH, tcp://HOST:PORT or http://HOST:PORT"
    )]
    Unsupported {
        /// What was given.
        address: String,
        /// What it would take.
        needs: &'static str,
    },
    /// It is no address.
    #[error(
        "{address:?} is no address of a docker engine: {reason}; use unix://PATH, tcp://HOST:PORT or http://HOST:PORT"
    )]
    Invalid {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Address {
    /// What the environment says, else the usual socket: the system's, or the user's own where only that exists.
    pub(super) fn from_env() -> Result<Self, AddressError> {
        let verify = env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        match env::var("DOCKER_HOST") {
            Ok(host) if !host.trim().is_empty() => Self::from_docker_host(host.trim(), verify),
            _ => Ok(Self::Unix(usual_socket(
                env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
                Path::exists,
            ))),
        }
    }

    /// `DOCKER_TLS_VERIFY` makes Docker's own tools speak TLS to a `tcp://` address. To speak plainly there
    /// instead would be worse than not to speak.
    fn from_docker_host(host: &str, tls_verify: bool) -> Result<Self, AddressError> {
        match Self::parse(host)? {
            Self::Tcp { .. } if tls_verify => Err(AddressError::Unsupported {
                address: host.to_owned(),
                needs: "TLS (DOCKER_TLS_VERIFY is set)",
            }),
            address => Ok(address),
        }
    }

    /// Takes an address apart. Nothing is looked up or connected.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let unsupported = |needs| AddressError::Unsupported {
            address: text.to_owned(),
            needs,
        };
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid(text, "it has no scheme"));
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(invalid(text, "a unix socket needs an absolute path")),
            "tcp" | "http" => parse_tcp(text, rest),
            "https" => Err(unsupported("TLS")),
            "ssh" => Err(unsupported("SSH")),
            "npipe" => Err(unsupported("a named pipe of Windows")),
            "fd" => Err(unsupported(
                "a socket handed over by systemd, which only the daemon has",
            )),
            _ => Err(invalid(text, "its scheme is unknown")),
        }
    }

    /// What every path begins with.
    pub(super) fn base(&self) -> &str {
        match self {
            Self::Unix(_) => "",
            Self::Tcp { base, .. } => base,
        }
    }

    /// What the `Host` header says. Docker insists on one, and does not care on a unix socket.
    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { base, .. } => write!(f, "tcp://{}{base}", self.host_header()),
        }
    }
}

fn parse_tcp(text: &str, rest: &str) -> Result<Address, AddressError> {
    let (authority, base) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@');
    if !authority.chars().chain(base.chars()).all(printable) {
        return Err(invalid(
            text,
            "there is something in it that does not belong in the address of a host",
        ));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6
                .split_once(']')
                .ok_or_else(|| invalid(text, "a bracket is not closed"))?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() || (host.contains(':') && !authority.starts_with('[')) {
        return Err(invalid(text, "the host is missing, or is IPv6 without brackets"));
    }
    let port = match port {
        None => PLAIN_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(invalid(text, "the port is no number between 1 and 65535")),
        },
    };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
        base: base.to_owned(),
    })
}

fn invalid(text: &str, reason: &'static str) -> AddressError {
    AddressError::Invalid {
        address: text.to_owned(),
        reason,
    }
}

/// A rootless daemon listens in the user's runtime directory; the system's goes first.
fn usual_socket(runtime_dir: Option<PathBuf>, exists: impl Fn(&Path) -> bool) -> PathBuf {
    let system = PathBuf::from(USUAL_SOCKET);
    match runtime_dir.map(|dir| dir.join("docker.sock")) {
        Some(rootless) if !exists(&system) && exists(&rootless) => rootless,
        _ => system,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, base: &str) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
            base: base.to_owned(),
        }
    }

    #[test]
    fn an_address_is_what_docker_host_may_say() {
        for (text, address) in [
            (
                "unix:///var/run/docker.sock",
                Address::Unix("/var/run/docker.sock".into()),
            ),
            (
                "/run/podman/podman.sock",
                Address::Unix("/run/podman/podman.sock".into()),
            ),
            ("tcp://10.0.0.7:2375", tcp("10.0.0.7", 2375, "")),
            ("tcp://proxy", tcp("proxy", 2375, "")),
            ("http://proxy:80/docker/", tcp("proxy", 80, "/docker")),
            ("tcp://[::1]:2375", tcp("::1", 2375, "")),
            ("tcp://[::1]", tcp("::1", 2375, "")),
        ] {
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why_and_what_can() {
        for (text, expected) in [
            ("https://h:2376", "needs TLS"),
            ("ssh://me@h", "needs SSH"),
            ("npipe:////./pipe/docker_engine", "needs a named pipe"),
            ("fd://", "needs a socket handed over by systemd"),
            ("gopher://h", "scheme is unknown"),
            ("h:2375", "has no scheme"),
            ("unix://docker.sock", "absolute path"),
            ("unix://", "absolute path"),
            ("tcp://", "host is missing"),
            ("tcp://:2375", "host is missing"),
            ("tcp://::1", "without brackets"),
            ("tcp://[::1:2375", "bracket is not closed"),
            ("tcp://h:port", "no number"),
            ("tcp://h:0", "no number"),
            ("tcp://h:2375\r\nx: y", "does not belong"),
            ("tcp://me@h", "does not belong"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("use unix://PATH"), "{text}: {error}");
        }
    }

    #[test]
    fn a_host_that_wants_tls_is_not_spoken_to_in_the_clear() {
        assert!(Address::from_docker_host("tcp://h:2376", true).is_err());
        assert!(Address::from_docker_host("tcp://h:2375", false).is_ok());
        assert!(Address::from_docker_host("unix:///s", true).is_ok());
    }

    #[test]
    fn a_rootless_socket_is_used_where_the_systems_is_missing() {
        let user = Some(PathBuf::from("/run/user/7"));
        let rootless = Path::new("/run/user/7/docker.sock");
        assert_eq!(usual_socket(user.clone(), |path| path == rootless), rootless);
        assert_eq!(usual_socket(user.clone(), |_| true), Path::new(USUAL_SOCKET));
        assert_eq!(usual_socket(user, |_| false), Path::new(USUAL_SOCKET));
        assert_eq!(usual_socket(None, |_| true), Path::new(USUAL_SOCKET));
    }

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["unix:///a/b.sock", "tcp://h:2375", "tcp://[::1]:9/base"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }
}
