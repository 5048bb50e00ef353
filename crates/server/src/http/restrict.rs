//! What browsers are told not to do with answers.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

use super::is_grpc;

/// Unless a route says otherwise: what is here is data of this moment, to be shown and not to be run.
const RESTRICTIONS: [(HeaderName, HeaderValue); 4] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The middleware.
pub(crate) async fn restrict(request: Request, next: Next) -> Response {
    // No browser understands gRPC, and its clients read headers as metadata.
    let is_grpc = is_grpc(request.headers());
    let mut response = next.run(request).await;
    if !is_grpc {
        for (name, value) in RESTRICTIONS {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
    response
}
