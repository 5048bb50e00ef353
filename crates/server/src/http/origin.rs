//! The check of where a browser's request comes from: a page of somebody else's must not use the browser of
//! whoever opened it to ask this server.
//!
//! Browsers say so themselves. `Origin` names the page's origin on everything but plain reads, and
//! `Sec-Fetch-Site` how it stands to ours, also on those. Programs that are no browsers send neither.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use tonic::Status;

use super::host::HostRule;
use super::is_grpc;
use super::problem::Problem;
use crate::metrics::Metrics;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The middleware.
pub(crate) async fn check_origin(
    State((rule, metrics)): State<(HostRule, Arc<Metrics>)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(from) = foreign(&rule, request.uri(), request.headers()) else {
        return next.run(request).await;
    };
    metrics.request_refused();
    let detail = format!(
        "{from} may not ask this server: a browser is answered on pages that this server serves itself, and \
         programs that are no browsers send neither Origin nor Sec-Fetch-Site"
    );
    if is_grpc(request.headers()) {
        return Status::permission_denied(detail).into_http::<axum::body::Body>();
    }
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// Whose page a request comes from, if it is not one of ours.
fn foreign(rule: &HostRule, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let origin = origin.to_str().unwrap_or_default();
        let same = origins.next().is_none() && is_ours(origin, rule, uri, headers);
        return (!same).then(|| format!("a page of {origin:?}"));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(SEC_FETCH_SITE)? {
        // `none`: the person typed the address.
        "same-origin" | "none" => None,
        // A link that is followed shows our answer to the person and to nobody else.
        _ if text(SEC_FETCH_MODE) == Some("navigate") => None,
        site => Some(format!("another site's page ({site})")),
    }
}

/// Whether an origin is the address that was asked, or a name that the server was given: a proxy in front may
/// ask under another one. The scheme only tells the port that is not written: in front of this server
/// something else may speak TLS.
fn is_ours(origin: &str, rule: &HostRule, uri: &Uri, headers: &HeaderMap) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(from)) = (origin.scheme(), origin.authority()) else {
        return false;
    };
    // On another port of that name there may be somebody else.
    if rule.is_given(from.host()) && port(from, scheme) == Some(usual_port(scheme)) {
        return true;
    }
    let asked = uri.authority().cloned().or_else(|| {
        let host = headers.get(header::HOST)?;
        host.to_str().ok()?.parse().ok()
    });
    asked.is_some_and(|asked| {
        from.host().eq_ignore_ascii_case(asked.host()) && port(from, scheme) == port(&asked, scheme)
    })
}

fn port(authority: &Authority, scheme: &Scheme) -> Option<u16> {
    let is_written = authority.port().is_some();
    if is_written {
        authority.port_u16()
    } else {
        Some(usual_port(scheme))
    }
}

fn usual_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn is_foreign(host: &str, given: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        let config = Config {
            allowed_hosts: vec!["given.example".into()],
            ..Config::default()
        };
        let rule = HostRule::new(config.listen, &config);
        foreign(&rule, &Uri::from_static("/api/v1/hosts"), &headers).is_some()
    }

    #[test]
    fn a_page_of_this_server_may_ask_and_so_may_a_program() {
        for (host, given) in [
            ("localhost:7480", &[][..]),
            ("localhost:7480", &[("origin", "http://localhost:7480")]),
            ("LocalHost:7480", &[("origin", "http://localhost:7480")]),
            ("[::1]:7480", &[("origin", "http://[::1]:7480")]),
            ("tw.example", &[("origin", "https://tw.example")]),
            ("tw.example", &[("origin", "http://tw.example:80")]),
            ("tw.example:443", &[("origin", "https://tw.example")]),
            ("127.0.0.1:7480", &[("origin", "https://given.example")]),
            ("127.0.0.1:7480", &[("origin", "https://given.example:443")]),
            ("given.example:8443", &[("origin", "https://given.example:8443")]),
            ("localhost:7480", &[("sec-fetch-site", "same-origin")]),
            ("localhost:7480", &[("sec-fetch-site", "none")]),
            (
                "localhost:7480",
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
            ),
        ] {
            assert!(!is_foreign(host, given), "{host} {given:?}");
        }
    }

    #[test]
    fn a_page_of_anybody_else_may_not() {
        for given in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "http://localhost")],
            &[("origin", "http://localhost:8080")],
            &[("origin", "http://localhost:7480.evil.example")],
            &[("origin", "http://localhost:99999")],
            &[("origin", "https://given.example:8443")],
            &[("origin", "https://given.example.evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "localhost:7480")],
            &[
                ("origin", "http://localhost:7480"),
                ("origin", "http://evil.example"),
            ],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")],
            &[("origin", "http://evil.example"), ("sec-fetch-mode", "navigate")],
        ] {
            assert!(is_foreign("localhost:7480", given), "{given:?}");
        }
    }
}
