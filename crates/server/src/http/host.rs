//! The check of the `Host` header: a web page that makes its own name point to an address of ours ("DNS
//! rebinding") reaches this server from the browser of whoever opened it. Its requests carry that name, so
//! that the server answers to names that are its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Version, header};
use tonic::Status;

use super::is_grpc;
use super::problem::Problem;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::site::machine_name;

/// Which names the server answers to: always to those of the loopback interface and to those that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRule {
    listener: Listener,
    /// The names that the server was given, in small letters.
    given: Arc<[String]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Listener {
    /// For this machine alone: no other names.
    Loopback,
    /// For others, too, who may call this machine by any address, by a name that no page on the Internet can have,
    /// and by these.
    Open(Arc<[String]>),
}

impl HostRule {
    /// The rule for a listener on `addr`.
    pub(crate) fn new(addr: SocketAddr, config: &Config) -> Self {
        let listener = if addr.ip().is_loopback() {
            Listener::Loopback
        } else {
            let own = config.host_address.iter().chain(&config.host_name);
            Listener::Open(own.chain([&machine_name()]).map(|name| normal(name)).collect())
        };
        Self {
            listener,
            given: config.allowed_hosts.iter().map(|name| normal(name)).collect(),
        }
    }

    /// Whether the server was told that this name is one of its own.
    pub(crate) fn is_given(&self, host: &str) -> bool {
        self.given.contains(&normal(host))
    }

    fn accepts(&self, authority: &str, version: Version) -> bool {
        let Some(host) = host(authority) else {
            return false;
        };
        let ip: Option<IpAddr> = host.parse().ok();
        if self.is_given(&host) || host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        match &self.listener {
            Listener::Loopback => false,
            // No browser speaks HTTP/2 without TLS, so that this comes from no page.
            Listener::Open(_) if version == Version::HTTP_2 => true,
            Listener::Open(own) => ip.is_some() || is_private(&host) || own.contains(&host),
        }
    }
}

/// The host of an authority, without brackets and port. None: it is none.
fn host(authority: &str) -> Option<String> {
    // Credentials before an `@` are no part of a Host header; whoever sends them is up to something.
    if authority.contains('@') {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    host.map(normal).filter(|host| !host.is_empty())
}

/// Whether a name means something in a private network only.
fn is_private(host: &str) -> bool {
    !host.contains(['.', ':']) || PRIVATE_DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// Domains that are kept for private use: by ICANN's decision of 2024, RFC 6762, RFC 6761 and RFC 8375.
const PRIVATE_DOMAINS: [&str; 4] = [".internal", ".local", ".localhost", ".home.arpa"];

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The middleware.
pub(crate) async fn check_host(
    State((rule, metrics)): State<(HostRule, Arc<Metrics>)>,
    request: Request,
    next: Next,
) -> Response {
    let authority = request
        .uri()
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    match authority {
        Some(authority) if rule.accepts(authority, request.version()) => next.run(request).await,
        // No browser leaves it out.
        None if rule.listener != Listener::Loopback => next.run(request).await,
        _ => {
            metrics.request_refused();
            refuse(&rule, &request, authority.unwrap_or_default())
        }
    }
}

fn refuse(rule: &HostRule, request: &Request, authority: &str) -> Response {
    let answers_to = match &rule.listener {
        Listener::Loopback => {
            "this server listens on the loopback interface and answers to localhost, 127.0.0.1 and [::1]"
        }
        Listener::Open(_) => {
            "this server answers to addresses, to names of private networks, to this machine's and to --host-address"
        }
    };
    let detail =
        format!("{answers_to}, and to what `tidewatch serve --allowed-host` names, but not to {authority:?}");
    if is_grpc(request.headers()) {
        return Status::permission_denied(detail).into_http::<axum::body::Body>();
    }
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(listen: &str) -> HostRule {
        let config = Config {
            host_address: Some("web1.example.org".into()),
            allowed_hosts: vec!["TW.example".into(), "10.0.0.9".into()],
            ..Config::default()
        };
        HostRule::new(listen.parse().unwrap(), &config)
    }

    fn check(rule: &HostRule, names: &[&str], is_accepted: bool) {
        for name in names {
            assert_eq!(
                rule.accepts(name, Version::HTTP_11),
                is_accepted,
                "{name} {rule:?}"
            );
        }
    }

    /// Names that are the server's wherever it listens.
    const OURS: [&str; 11] = [
        "localhost",
        "LOCALHOST:7480",
        "localhost.",
        "127.0.0.1:80",
        "127.8.0.1",
        "[::1]",
        "[::1]:7480",
        "tw.example",
        "tw.example:443",
        "TW.EXAMPLE.",
        "10.0.0.9:7480",
    ];

    /// Names that are somebody else's wherever it listens.
    const THEIRS: [&str; 8] = [
        "",
        "evil.example:7480",
        "localhost.example.org",
        "127.0.0.1.nip.io",
        "x.tw.example",
        "evil.local.example",
        "a@localhost",
        "a@b",
    ];

    /// Names that are those of a machine in a network.
    const OPEN: [&str; 8] = [
        "10.0.0.1",
        "10.0.0.1:7480",
        "[::2]:7480",
        "[fd00::1]",
        "tidewatch:7480",
        "host.docker.internal:7480",
        "tidewatch.default.svc.cluster.local",
        "web1.example.org",
    ];

    #[test]
    fn a_loopback_listener_answers_to_names_of_the_loopback_interface_and_those_it_was_given() {
        for listen in ["127.0.0.1:1", "[::1]:1"] {
            let rule = rule(listen);
            check(&rule, &OURS, true);
            check(&rule, &OPEN, false);
            check(&rule, &THEIRS, false);
            assert!(!rule.accepts("evil.example", Version::HTTP_2));
        }
    }

    #[test]
    fn an_open_listener_answers_to_no_name_that_a_page_could_have() {
        for listen in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            let rule = rule(listen);
            check(&rule, &OURS, true);
            check(&rule, &OPEN, true);
            check(&rule, &[machine_name().as_str()], true);
            check(&rule, &THEIRS, false);
            assert!(rule.accepts("tidewatch.internal.example:7480", Version::HTTP_2));
        }
    }
}
