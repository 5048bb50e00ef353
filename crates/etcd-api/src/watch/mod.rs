//! `etcdserverpb.Watch`: many watches on one stream.
//!
//! A [stream](stream::WatchStream) holds its watches and nothing else: no task, no channel. The
//! transport polls it only while the client's flow control leaves room, and it polls a watch only then,
//! those that have something to say in turn. So a client that does not read costs what is between here
//! and its socket, and its watches fall behind in the shared history; and a watch that has much to say
//! holds up the others by no more than one response.
//!
//! What is sent of events is encoded once for all watches of the same keys and [form](form); a response
//! is a small head and these bytes.

mod done;
mod form;
mod ready;
mod request;
mod stream;
mod sweep;
mod watcher;

use std::any::Any;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{Peekable, StreamExt};
use tidewatch_core::Error;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::{Prepared, PreparedCodec};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{self, Extensions};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::api::EtcdApi;
use form::Piece;
use stream::WatchStream;

/// What a server has to say about the streams of watches it serves.
pub trait WatchHost: Send + Sync + 'static {
    /// A client opens a stream, with a request of these extensions.
    fn open(&self, extensions: &Extensions) -> Box<dyn StreamHost>;
}

/// What a server has to say about one stream of watches, and is told about it. Dropped with the stream.
pub trait StreamHost: Send + 'static {
    /// Takes room for one watch, until what is returned is dropped.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::PermissionDenied`]: then there will be no watch.
    fn room(&mut self) -> Result<Box<dyn Any + Send>, Error> {
        Ok(Box::new(()))
    }

    /// For whom the watches are, for operators who look at who watches.
    fn label(&self) -> Option<Arc<str>> {
        None
    }

    /// A message with so many events is sent.
    fn sent(&mut self, events: usize) {
        let _ = events;
    }

    /// A watch ended otherwise than by its client; see
    /// [`EndReason::name`](tidewatch_core::EndReason::name).
    fn ended(&mut self, reason: &'static str) {
        let _ = reason;
    }
}

/// A host that has nothing to say.
pub(crate) struct NoHost;

impl WatchHost for NoHost {
    fn open(&self, _: &Extensions) -> Box<dyn StreamHost> {
        Box::new(Self)
    }
}

impl StreamHost for NoHost {}

/// A response: the head, and events that were encoded before.
type Message = Prepared<pb::WatchResponse, Piece>;

type WatchCodec = PreparedCodec<pb::WatchResponse, pb::WatchRequest, Piece>;

/// The service. Not made from the generated one, because what it sends is partly encoded already.
#[derive(Clone)]
pub(crate) struct WatchService {
    pub(crate) api: EtcdApi,
}

const PATH: &str = "/etcdserverpb.Watch/Watch";

impl NamedService for WatchService {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl Service<http::Request<Body>> for WatchService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("etcdserver: there is no such method").into_http());
            }
            let max = service.api.limits.max_request_bytes;
            let mut grpc = Grpc::new(WatchCodec::default()).max_decoding_message_size(max);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl StreamingService<pb::WatchRequest> for WatchService {
    type Response = Message;
    type ResponseStream = Peekable<WatchStream>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    /// Answers with the first message, as etcd does: clients take the head of the answer to mean that their watch has begun,
    /// and put what they want to see.
    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        let host = self.api.host.open(request.extensions());
        let stream = WatchStream::new(self.api.clone(), host, request.into_inner());
        Box::pin(async move {
            let mut stream = stream.peekable();
            if let Some(Err(_)) = Pin::new(&mut stream).peek().await
                && let Some(Err(refused)) = stream.next().await
            {
                return Err(refused);
            }
            Ok(Response::new(stream))
        })
    }
}
