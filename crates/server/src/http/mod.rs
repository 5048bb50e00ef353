//! The HTTP face.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 as long as the process can answer |
//! | `GET /readyz` | 200 while serving; 503 with the reason while recovering and draining |
//! | `GET /metrics` | the metrics, in Prometheus' text form (`OpenMetrics`) |
//! | `GET /api/v1/…` | the fleet as JSON; see [`api`] |
//!
//! Everything else is 404. Errors are `application/problem+json`.

pub(crate) mod api;
mod gate;
mod host;
mod origin;
mod problem;
mod restrict;
mod track;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use tidewatch_proto::error;
use tonic::Status;

pub(crate) use gate::Gate;
pub(crate) use host::HostRule;
use problem::Problem;
pub(crate) use track::InFlight;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) in_flight: InFlight,
    pub(crate) host_rule: HostRule,
}

/// Adds the HTTP routes to `grpc`, and around all of them what every request passes through.
pub(crate) fn router(grpc: Router, api: Router, state: &HttpState) -> Router {
    let routes = grpc
        .layer(middleware::from_fn(only_grpc))
        .merge(api)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(state.readiness.clone()))
        .route("/metrics", get(metrics).with_state(state.metrics.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    layered(routes, state)
}

/// What answers until the keyspace is recovered.
pub(crate) fn startup_router(state: &HttpState) -> Router {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(state.readiness.clone()))
        .route("/metrics", get(metrics).with_state(state.metrics.clone()))
        .fallback(not_ready)
        .method_not_allowed_fallback(method_not_allowed);
    layered(routes, state)
}

fn layered(routes: Router, state: &HttpState) -> Router {
    routes
        .layer(middleware::from_fn_with_state(
            (state.metrics.clone(), state.in_flight.clone()),
            track::track,
        ))
        // Outside of it: what is refused for its origin or name is not looked at, and its path becomes no label.
        .layer(middleware::from_fn_with_state(
            (state.host_rule.clone(), state.metrics.clone()),
            origin::check_origin,
        ))
        .layer(middleware::from_fn_with_state(
            (state.host_rule.clone(), state.metrics.clone()),
            host::check_host,
        ))
        .layer(middleware::from_fn(restrict::restrict))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.obstacle() {
        None => "ok\n".into_response(),
        Some(obstacle) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, obstacle).into_response(),
    }
}

async fn metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode().await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE_OPENMETRICS)], text).into_response(),
        Err(error) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to write the metrics: {error}"),
        )
        .into_response(),
    }
}

const CONTENT_TYPE_OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    if is_grpc(request.headers()) {
        return Status::unimplemented(format!("there is no method {path}")).into_http::<axum::body::Body>();
    }
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}")).into_response()
}

async fn not_ready(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return error::unavailable("the server is recovering").into_http::<axum::body::Body>();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is recovering").into_response()
}

async fn method_not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{path} does not know {method}"),
    )
}

/// Lets nothing but gRPC calls through to the services, which themselves take any request. A web page may
/// send a form or plain text to any address without asking first, also to this machine's own; it may
/// not do so with gRPC's content type.
async fn only_grpc(request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "this is a gRPC service; call it with the content type application/grpc",
    )
    .into_response()
}

/// Whether a request is a gRPC call, and so expects errors in gRPC's form.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tidewatch_core::SystemClock;
    use tower::ServiceExt;

    use super::*;
    use crate::config::Config;
    use crate::readiness::Stage;

    fn state() -> HttpState {
        let config = Config::default();
        HttpState {
            readiness: Readiness::new(),
            metrics: Arc::new(Metrics::new(SystemClock::shared())),
            in_flight: InFlight::default(),
            host_rule: HostRule::new(config.listen, &config),
        }
    }

    async fn get(router: &Router, path: &str, content_type: &str) -> Response {
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::empty())
            .unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_recovers_is_alive_not_ready_and_says_so_to_everybody() {
        let state = state();
        let gate = Gate::new(startup_router(&state));
        for (path, status) in [
            ("/healthz", StatusCode::OK),
            ("/metrics", StatusCode::OK),
            ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
            ("/anything", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(
                get(&gate.router(), path, "text/plain").await.status(),
                status,
                "{path}"
            );
        }
        let call = get(&gate.router(), "/tidewatch.v1.Keyspace/Get", "application/grpc").await;
        let status = Status::from_header_map(call.headers()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::Unavailable, "the server is recovering")
        );
        let told = error::from_status(&status);
        assert!(
            matches!(told, Some(tidewatch_core::Error::Unavailable(_))),
            "without it a client would have to take the outcome of a write for unknown: {told:?}"
        );

        gate.open(router(Router::new(), Router::new(), &state));
        state.readiness.advance(Stage::Serving);
        assert_eq!(
            get(&gate.router(), "/readyz", "text/plain").await.status(),
            StatusCode::OK
        );
        assert_eq!(
            get(&gate.router(), "/anything", "text/plain").await.status(),
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn a_server_that_drains_is_alive_and_not_ready() {
        let state = state();
        let router = router(Router::new(), Router::new(), &state);
        state.readiness.advance(Stage::Draining);
        assert_eq!(
            get(&router, "/healthz", "text/plain").await.status(),
            StatusCode::OK
        );
        let ready = get(&router, "/readyz", "text/plain").await;
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
