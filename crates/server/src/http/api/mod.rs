//! `/api/v1`: the fleet as JSON, for browsers and for programs in any language. `docs/http.md` describes it.

mod container;
mod directives;
mod host;
mod list;
mod log;
mod prometheus;
mod query;
mod workload;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body::Body as _;

use super::method_not_allowed;
use super::problem::Problem;
use crate::grpc::{DirectivesService, FleetService};

/// The routes.
pub(crate) fn router(fleet: FleetService, directives: DirectivesService) -> Router {
    Router::new()
        .route("/api/v1/containers", get(container::list))
        .route("/api/v1/hosts", get(host::list))
        .route("/api/v1/log", get(log::list))
        .route("/api/v1/sd/prometheus", get(prometheus::targets))
        .route("/api/v1/workloads", get(workload::list))
        .with_state(fleet)
        .merge(directives::router(directives))
        // Here, so that what follows comes before it.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(only_json))
}

/// Lets no body through but JSON. A web page may send a form or plain text to any address without asking
/// first; it may not do so with this content type.
async fn only_json(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || request.body().is_end_stream() || is_json(&request) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a body must be JSON; send it with the content type application/json",
    )
    .into_response()
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let media_type = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
