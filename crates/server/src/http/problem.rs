//! Errors of the HTTP face, as RFC 9457 says.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tidewatch_core::Error;

/// What `application/problem+json` carries.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    /// The parameter of the query that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// Why a set of directives is rejected, and the path of the field, if it is one.
    #[serde(flatten)]
    rejected: Option<Rejected>,
}

/// What is wrong with a set of directives.
#[derive(Clone, Debug, Serialize)]
struct Rejected {
    reason: &'static str,
    path: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            parameter: None,
            rejected: None,
        }
    }

    /// A query that makes no sense, because of one of its parameters.
    pub(crate) fn with_parameter(name: &str, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, detail)
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::InvalidArgument { what, reason } => {
                return Self::with_parameter(what, format!("invalid {what}: {reason}"));
            }
            error if error.is_invalid_argument() => StatusCode::BAD_REQUEST,
            Error::Compacted { .. } => {
                let detail = "the history was compacted faster than it could be read; ask again";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            }
            Error::Unavailable(_) | Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Error::LimitExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::PermissionDenied { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, told(&error))
    }
}

impl From<tidewatch_fleet::Error> for Problem {
    fn from(error: tidewatch_fleet::Error) -> Self {
        match error {
            tidewatch_fleet::Error::Keyspace(error) => error.into(),
            error => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

impl From<tidewatch_directives::Error> for Problem {
    fn from(error: tidewatch_directives::Error) -> Self {
        use tidewatch_directives::Error;

        let status = match &error {
            Error::Rejected(rejection) => {
                let rejected = Rejected {
                    reason: rejection.reason().slug(),
                    path: rejection.path().to_owned(),
                };
                return Self {
                    rejected: Some(rejected),
                    ..Self::new(StatusCode::BAD_REQUEST, error.to_string())
                };
            }
            Error::Keyspace(error) => return error.clone().into(),
            Error::NotFound { .. } => StatusCode::NOT_FOUND,
            // Another revision, or what is stored, stands against it.
            _ => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

/// An error with what caused it.
fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}
