//! Requests that are larger than the server reads at all. The transport refuses them before anybody here
//! sees them, and in a word of its own; etcd's clients know another.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// How the transport begins to say it.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// A service whose refusals of what is too large are etcd's.
#[derive(Clone, Debug)]
pub(crate) struct Bounded<S>(pub(crate) S);

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

type Answered = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = Answered, Error = Infallible>,
{
    type Response = Answered;
    type Error = Infallible;
    type Future = MapOk<S::Future, fn(Answered) -> Answered>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map_ok(answered)
    }
}

/// An answer in etcd's words. One that has a status before its body is nothing but a refusal.
fn answered(answer: Answered) -> Answered {
    match Status::from_header_map(answer.headers()) {
        Some(status) if is_too_large(&status) => refusal(status).into_http(),
        _ => answer,
    }
}

/// What reading a request came to, in etcd's words.
pub(crate) fn refusal(status: Status) -> Status {
    if is_too_large(&status) {
        return Status::resource_exhausted(format!(
            "grpc: received message larger than max ({})",
            status.message()
        ));
    }
    status
}

fn is_too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().starts_with(TOO_LARGE)
}
