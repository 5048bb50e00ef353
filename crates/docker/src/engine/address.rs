//! Where an engine is looked for.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// Where Docker listens unless it is told otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine without TLS.
const PLAIN_PORT: u16 = 2375;

/// The port of an engine with TLS.
const TLS_PORT: u16 = 2376;

/// Where an engine is looked for: what `DOCKER_HOST` says, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// HTTP without TLS.
    Tcp(Authority),
    /// HTTP over TLS, with the certificates in this folder.
    Tls {
        /// Where to.
        authority: Authority,
        /// The folder of `ca.pem`, `cert.pem` and `key.pem`.
        certs: PathBuf,
    },
    /// A login on the engine's machine.
    Ssh(Login),
}

/// Where an engine listens on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// A name or an address, without the brackets of IPv6.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// What every path begins with, where a proxy wants that; empty or without a slash at its end.
    pub(super) base: String,
}

/// Whom to be on which machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// None: whom ssh's own configuration says.
    pub(super) user: Option<String>,
    /// A name that ssh knows, or an address.
    pub(super) host: String,
    /// None: the one that ssh's own configuration says.
    pub(super) port: Option<u16>,
    /// The engine's socket there. None: the usual one.
    pub(super) socket: Option<String>,
}

/// What is wrong with the address of an engine.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It needs something this version does not have.
    #[error("{address:?} needs {needs}, which is not supported; {USABLE}")]
    Unsupported {
        /// What was given.
        address: String,
        /// What it would take.
        needs: &'static str,
    },
    /// It is no address.
    #[error("{address:?} is no address of a docker engine: {reason}; {USABLE}")]
    Invalid {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What an address may be.
const USABLE: &str = "use unix://PATH, tcp://HOST:PORT, https://HOST:PORT?certs=DIR or ssh://USER@HOST";

/// Where the environment says that certificates are, and whether it insists on TLS.
#[derive(Debug, Default)]
struct Environment {
    /// `DOCKER_CERT_PATH`, else `.docker` in the home folder, as Docker's own tools have it.
    certs: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY`: makes Docker's own tools speak TLS to a `tcp://` address. To speak plainly there instead would
    /// be worse than not to speak.
    verify: bool,
}

impl Environment {
    fn read() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let certs = set("DOCKER_CERT_PATH").map(PathBuf::from);
        let home = || Some(Path::new(&set("HOME")?).join(".docker"));
        Self {
            certs: certs.or_else(home),
            verify: set("DOCKER_TLS_VERIFY").is_some(),
        }
    }
}

impl Address {
    /// What the environment says, else the usual socket: the system's, or the user's own where only that exists.
    pub(super) fn from_env() -> Result<Self, AddressError> {
        match env::var("DOCKER_HOST") {
            Ok(host) if !host.trim().is_empty() => Self::parse_in(host.trim(), &Environment::read()),
            _ => Ok(Self::Unix(usual_socket(
                env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
                Path::exists,
            ))),
        }
    }

    /// Takes an address apart. Nothing is looked up or connected, and no environment is asked.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        Self::parse_in(text, &Environment::default())
    }

    fn parse_in(text: &str, environment: &Environment) -> Result<Self, AddressError> {
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
            "tcp" | "http" | "https" => parse_tcp(text, scheme, rest, environment),
            "ssh" => parse_ssh(text, rest),
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
            Self::Unix(_) | Self::Ssh(_) => "",
            Self::Tcp(authority) | Self::Tls { authority, .. } => &authority.base,
        }
    }

    /// What the `Host` header says. Docker insists on one, and does not care on a unix socket.
    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) | Self::Ssh(_) => "localhost".to_owned(),
            Self::Tcp(authority) | Self::Tls { authority, .. } => authority.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}{}", authority.base),
            Self::Tls { authority, .. } => write!(f, "https://{authority}{}", authority.base),
            Self::Ssh(login) => write!(f, "ssh://{login}"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&bracketed(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn parse_tcp(
    text: &str,
    scheme: &str,
    rest: &str,
    environment: &Environment,
) -> Result<Address, AddressError> {
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let certs = query.map(|query| certs_of(text, query)).transpose()?;
    if scheme == "http" && (certs.is_some() || environment.verify) {
        return Err(invalid(text, "certificates are for TLS, and http:// is without"));
    }
    let wants_tls = scheme == "https" || certs.is_some() || environment.verify;
    let usual_port = if wants_tls { TLS_PORT } else { PLAIN_PORT };
    let (host, port, base) = parse_authority(text, rest)?;
    let authority = Authority {
        host,
        port: port.unwrap_or(usual_port),
        base: base.trim_end_matches('/').to_owned(),
    };
    if !wants_tls {
        return Ok(Address::Tcp(authority));
    }
    if !cfg!(feature = "tls") {
        return Err(AddressError::Unsupported {
            address: text.to_owned(),
            needs: "TLS, without which this program was built,",
        });
    }
    let certs = certs.or_else(|| environment.certs.clone()).ok_or_else(|| {
        invalid(
            text,
            "TLS needs ?certs=DIR, a folder with ca.pem and, for an engine that asks for them, cert.pem and key.pem",
        )
    })?;
    Ok(Address::Tls { authority, certs })
}

/// `certs=DIR`, with what a URL cannot hold percent-encoded.
fn certs_of(text: &str, query: &str) -> Result<PathBuf, AddressError> {
    let dir = query
        .strip_prefix("certs=")
        .filter(|dir| !dir.contains('&'))
        .ok_or_else(|| invalid(text, "behind the question mark only certs=DIR may stand"))?;
    let dir = percent_decode_str(dir).decode_utf8_lossy().into_owned();
    if dir.starts_with('/') {
        Ok(PathBuf::from(dir))
    } else {
        Err(invalid(text, "the folder of certificates needs an absolute path"))
    }
}

fn parse_ssh(text: &str, rest: &str) -> Result<Address, AddressError> {
    let (user, rest) = match rest.split_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    // ssh takes what begins with a dash for an option, and what follows a colon would be a password, which it does not take.
    let is_user = |user: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '\\');
        !user.is_empty() && !user.starts_with('-') && user.chars().all(allowed)
    };
    if user.is_some_and(|user| !is_user(user)) {
        return Err(invalid(text, "what stands before the @ is no user's name"));
    }
    let (host, port, path) = parse_authority(text, rest)?;
    if host.starts_with('-') {
        return Err(invalid(text, "no host's name begins with a dash"));
    }
    let socket = Some(path).filter(|path| !matches!(*path, "" | "/"));
    // It goes through the shell over there.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if socket.is_some_and(|socket| !socket.chars().all(plain)) {
        return Err(invalid(
            text,
            "the path of the socket may hold letters, digits and /._- only",
        ));
    }
    Ok(Address::Ssh(Login {
        user: user.map(str::to_owned),
        host,
        port,
        socket: socket.map(str::to_owned),
    }))
}

/// Host, port if there is one, and the path.
fn parse_authority<'a>(text: &str, rest: &'a str) -> Result<(String, Option<u16>, &'a str), AddressError> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], &rest[slash..]),
        None => (rest, ""),
    };
    let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@');
    if !authority.chars().chain(path.chars()).all(printable) {
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
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err(invalid(text, "a port stands behind a colon"));
            }
            (host, port)
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() || (host.contains(':') && !authority.starts_with('[')) {
        return Err(invalid(text, "the host is missing, or is IPv6 without brackets"));
    }
    let port = port.map(|port| match port.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(text, "the port is no number between 1 and 65535")),
    });
    Ok((host.to_owned(), port.transpose()?, path))
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

    fn authority(host: &str, port: u16, base: &str) -> Authority {
        Authority {
            host: host.to_owned(),
            port,
            base: base.to_owned(),
        }
    }

    fn login(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> Address {
        Address::Ssh(Login {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            socket: socket.map(str::to_owned),
        })
    }

    #[test]
    fn an_address_is_what_docker_host_may_say() {
        let tcp = |host, port, base| Address::Tcp(authority(host, port, base));
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
            ("ssh://web1", login(None, "web1", None, None)),
            ("ssh://me@web1:22/", login(Some("me"), "web1", Some(22), None)),
            (
                "ssh://me@[::1]/run/podman.sock",
                login(Some("me"), "::1", None, Some("/run/podman.sock")),
            ),
        ] {
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificates_stand_in_the_address() {
        let tls = |host, port, base, certs: &str| Address::Tls {
            authority: authority(host, port, base),
            certs: certs.into(),
        };
        for (text, address) in [
            ("https://h:443/b/?certs=/etc/h", tls("h", 443, "/b", "/etc/h")),
            ("https://h?certs=/etc/h", tls("h", 2376, "", "/etc/h")),
            ("tcp://h?certs=/etc/h", tls("h", 2376, "", "/etc/h")),
            ("tcp://h?certs=/a%2Cb%20c", tls("h", 2376, "", "/a,b c")),
        ] {
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why_and_what_can() {
        let https = if cfg!(feature = "tls") {
            "TLS needs ?certs=DIR"
        } else {
            "needs TLS"
        };
        for (text, expected) in [
            ("https://h:2376", https),
            ("https://h:2376?certs=certs", "absolute path"),
            ("https://h:2376?ca=/x", "only certs=DIR"),
            ("https://h:2376?certs=/x&y=1", "only certs=DIR"),
            ("http://h:2376?certs=/x", "http:// is without"),
            ("ssh://", "host is missing"),
            ("ssh://-oProxyCommand=x", "begins with a dash"),
            ("ssh://-l@h", "no user's name"),
            ("ssh://me:secret@h", "no user's name"),
            ("ssh://h/a;b", "letters, digits"),
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
            ("tcp://[fd00::1]9999", "behind a colon"),
            ("ssh://[fd00::1]9999", "behind a colon"),
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
        let verify = Environment {
            certs: Some("/certs".into()),
            verify: true,
        };
        let parse = |text| Address::parse_in(text, &verify);
        for text in ["tcp://h:2376", "https://h", "tcp://h?certs=/own"] {
            let address = parse(text);
            if cfg!(feature = "tls") {
                let own = text.ends_with("own");
                let expected = PathBuf::from(if own { "/own" } else { "/certs" });
                assert!(
                    matches!(&address, Ok(Address::Tls { certs, authority }) if *certs == expected && authority.port == 2376),
                    "{address:?}"
                );
            } else {
                assert!(address.is_err(), "{text}");
            }
        }
        assert!(parse("http://h:2375").is_err());
        assert!(parse("unix:///s").is_ok());
        let lax = Environment {
            verify: false,
            ..verify
        };
        assert!(matches!(
            Address::parse_in("tcp://h:2375", &lax),
            Ok(Address::Tcp(_))
        ));
        assert_eq!(
            Address::parse_in("https://h", &lax).is_ok(),
            cfg!(feature = "tls")
        );
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
        for text in [
            "unix:///a/b.sock",
            "tcp://h:2375",
            "tcp://[::1]:9/base",
            "ssh://me@h:22/run/docker.sock",
            "ssh://[::1]",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }
}
