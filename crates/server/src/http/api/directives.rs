//! `/api/v1/directives`: publishing directives, and asking what they say.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tidewatch_core::Revision;
use tidewatch_core::limits::MAX_VALUE_BYTES;
use tidewatch_directives::limits::MAX_SET_BYTES;
use tidewatch_directives::{Answer, Attribute, Rejection, Subject};

use super::query::Query;
use crate::grpc::DirectivesService;
use crate::http::problem::Problem;

/// The routes.
pub(super) fn router(service: DirectivesService) -> Router {
    let set = get(show).put(publish).post(publish).delete(clear);
    Router::new()
        .route("/api/v1/directives", set)
        .route("/api/v1/directives/effective", get(effective))
        // More than any set may have: what is between is told with a reason.
        .layer(DefaultBodyLimit::max(MAX_VALUE_BYTES))
        .with_state(service)
}

async fn show(State(service): State<DirectivesService>, uri: Uri) -> Result<Json<Value>, Problem> {
    Query::of(&uri, &[])?;
    let listing = service.listing().await?;
    Ok(Json(json!({
        "revision": listing.revision.0,
        "directives": listing.directives,
        "rejected": listing.rejected.map(|rejection| told(&rejection)),
    })))
}

async fn publish(
    State(service): State<DirectivesService>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let body = body.map_err(|refused| match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("a set of directives has at most {MAX_SET_BYTES} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        }
        status => Problem::new(status, refused.body_text()),
    })?;
    let at: Option<Revision> = Query::of(&uri, &["at"])?.one("at")?;
    let published = service.publisher.publish(&body, at).await?;
    Ok(Json(json!({
        "revision": published.revision.0,
        "published": published.set.len(),
    })))
}

async fn clear(State(service): State<DirectivesService>, uri: Uri) -> Result<Json<Value>, Problem> {
    Query::of(&uri, &[])?;
    let (revision, cleared) = service.publisher.clear().await?;
    Ok(Json(json!({"revision": revision.0, "cleared": cleared})))
}

async fn effective(State(service): State<DirectivesService>, uri: Uri) -> Result<Json<Answer>, Problem> {
    let mut known = Attribute::ALL.map(Attribute::as_str).to_vec();
    known.push("request_id");
    let query = Query::of(&uri, &known)?;
    let mut subject = Subject::new();
    for attribute in Attribute::ALL {
        if query.has(attribute.as_str()) {
            subject = subject.with(attribute, query.text(attribute.as_str())?);
        }
    }
    Ok(Json(service.effective(&subject, query.text("request_id")?)))
}

/// A rejection, as programs are told.
fn told(rejection: &Rejection) -> Value {
    json!({
        "reason": rejection.reason().slug(),
        "path": rejection.path(),
        "message": rejection.reason().explanation(),
    })
}
