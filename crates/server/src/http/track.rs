//! Counts requests, and those under way.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::is_grpc;
use crate::metrics::{Face, Metrics};

/// How many calls have not been answered yet; clones share it. A stream counts until it begins: by
/// then what it was asked to do has happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    count: Arc<watch::Sender<usize>>,
}

/// Counts one call until it is dropped.
struct Ticket(InFlight);

impl InFlight {
    fn enter(&self) -> Ticket {
        self.count.send_modify(|count| *count += 1);
        Ticket(self.clone())
    }

    /// Waits until no call is under way. Cancel-safe.
    pub(crate) async fn none(&self) {
        let mut count = self.count.subscribe();
        // The sender lives in `self`: the channel cannot close while this waits.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

/// The middleware.
pub(crate) async fn track(
    State((metrics, in_flight)): State<(Arc<Metrics>, InFlight)>,
    request: Request,
    next: Next,
) -> Response {
    let ticket = in_flight.enter();
    let face = if is_grpc(request.headers()) {
        Face::Grpc
    } else {
        Face::Http
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = request.uri().path().to_owned();
    let started = metrics.request_started();
    let response = next.run(request).await;
    drop(ticket);
    let code = match face {
        // A refusal travels in the headers; what begins to stream has been accepted.
        Face::Grpc => {
            Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()) as u16
        }
        Face::Http => response.status().as_u16(),
    };
    // Paths that callers make up must not become labels: there would be no end to them.
    let method = match (&route, face) {
        (None, _) => "other",
        (Some(_), Face::Grpc) if code == Code::Unimplemented as u16 => "other",
        (Some(_), Face::Grpc) => &path,
        (Some(route), Face::Http) => route.as_str(),
    };
    metrics.request_answered(started, face, method, code);
    tracing::debug!(path, code, "answered");
    response
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn it_waits_until_every_call_is_answered() {
        let in_flight = InFlight::default();
        let (first, second) = (in_flight.enter(), in_flight.enter());
        let mut none = pin!(in_flight.none());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(none.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(none.as_mut().poll(&mut cx).is_pending());
        drop(second);
        assert!(none.as_mut().poll(&mut cx).is_ready());
    }
}
