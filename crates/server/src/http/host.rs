//! The check of the `Host` header: a web page that makes its own name point to 127.0.0.1 ("DNS
//! rebinding") reaches a loopback listener from the browser of whoever opened it. Its requests
//! carry that name, so that a listener for this machine alone answers to this machine's names only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tonic::Status;

use super::is_grpc;
use super::problem::Problem;
use crate::metrics::Metrics;

/// Which names the server answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostRule {
    /// The names of this machine's loopback interface.
    LoopbackOnly,
    /// Every name.
    Any,
}

impl HostRule {
    /// The rule for a listener on `addr`.
    pub(crate) fn for_listener(addr: SocketAddr) -> Self {
        if addr.ip().is_loopback() {
            Self::LoopbackOnly
        } else {
            Self::Any
        }
    }

    fn accepts(self, authority: &str) -> bool {
        self == Self::Any || is_loopback_name(authority)
    }
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
        Some(authority) if rule.accepts(authority) => next.run(request).await,
        None if rule == HostRule::Any => next.run(request).await,
        _ => {
            metrics.request_refused();
            refuse(&request, authority.unwrap_or_default())
        }
    }
}

fn refuse(request: &Request, authority: &str) -> Response {
    let detail = format!(
        "this server listens on the loopback interface and answers to localhost, 127.0.0.1 and [::1] only, \
         not to {authority:?}"
    );
    if is_grpc(request.headers()) {
        return Status::permission_denied(detail).into_http::<axum::body::Body>();
    }
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

fn is_loopback_name(authority: &str) -> bool {
    // Credentials before an `@` are no part of a Host header; whoever sends them is up to something.
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_answers_to_names_of_the_loopback_interface_only() {
        for name in [
            "localhost",
            "LOCALHOST:7480",
            "localhost.",
            "127.0.0.1:80",
            "127.8.0.1",
            "[::1]",
            "[::1]:7480",
        ] {
            assert!(HostRule::LoopbackOnly.accepts(name), "{name}");
        }
        for name in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "a@localhost",
            "[::2]",
        ] {
            assert!(!HostRule::LoopbackOnly.accepts(name), "{name}");
            assert!(HostRule::Any.accepts(name), "{name}");
        }
    }

    #[test]
    fn the_rule_follows_the_listener() {
        let rule = |addr: &str| HostRule::for_listener(addr.parse().unwrap());
        assert_eq!(rule("127.0.0.1:1"), HostRule::LoopbackOnly);
        assert_eq!(rule("[::1]:1"), HostRule::LoopbackOnly);
        assert_eq!(rule("0.0.0.0:1"), HostRule::Any);
    }
}
