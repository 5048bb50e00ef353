//! `tidewatch.v1.Watch`: a keyspace watch as a stream of messages.
//!
//! A stream holds its watch and nothing else: no task, no channel. The transport polls it only while
//! the client's flow control leaves room, and it polls the watch only then; so a client that does not
//! read costs what is between here and its socket, and its watch falls behind in the shared history.
//!
//! Events are encoded once for all streams of the same keys and view: what is sent of them is the same
//! bytes. While there are many such streams, their watches hold events back for a moment, so that a
//! message carries several revisions.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tidewatch_core::watch::{Batches, Delivery, WatchRequest};
use tidewatch_core::{Batch, BatchKind, BoxFuture, Ended, Keyspace, Watch};
use tidewatch_fleet::key;
use tidewatch_proto::watch::{MAX_RESPONSE_BYTES, NativeEvents, created, ended, responses};
use tidewatch_proto::{Prepared, PreparedCodec, v1};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};

use super::{status, watch_label, watch_slot};
use crate::connection::WatchSlot;
use crate::metrics::{Up, WatchMetrics};

/// The service. Not made from the generated one, because what it sends is partly encoded already.
#[derive(Clone)]
pub(crate) struct WatchService {
    pub(crate) keyspace: Keyspace,
    pub(crate) metrics: WatchMetrics,
    /// The largest request that is accepted, in bytes.
    pub(crate) max_request_bytes: usize,
}

const PATH: &str = "/tidewatch.v1.Watch/Watch";

impl NamedService for WatchService {
    const NAME: &'static str = v1::watch_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for WatchService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("tidewatch.v1.Watch has no such method").into_http());
            }
            let codec = PreparedCodec::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(service.max_request_bytes);
            Ok(grpc.server_streaming(service, request).await)
        })
    }
}

impl ServerStreamingService<v1::WatchRequest> for WatchService {
    type Response = Message;
    type ResponseStream = WatchStream;
    type Future = BoxFuture<'static, Result<Response<WatchStream>, Status>>;

    fn call(&mut self, request: Request<v1::WatchRequest>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.watch(request).await })
    }
}

impl WatchService {
    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let slot = watch_slot(&request)?;
        let label = watch_label(&request);
        let mut request: WatchRequest = request.into_inner().try_into().map_err(status)?;
        request.coalesce = true;
        request.label = label;
        let ranges = request.ranges.clone();
        let watch = self.keyspace.backend().watch(request).await.map_err(status)?;
        for range in &ranges {
            // The names of what it is about, for directives that want just that logged.
            let (workload, host) = key::about(range.start());
            tracing::debug!(workload, host, keys = %range, watch = watch.id().0, "a watch began");
        }
        Ok(Response::new(WatchStream::new(watch, slot, self.metrics.clone())))
    }
}

type Message = Prepared<v1::WatchResponse>;

/// The messages of one watch: `created`, its batches, `ended`.
pub(crate) struct WatchStream {
    watch: Watch,
    /// What is to be sent before the watch is asked again: the pieces of one delivery, which share its
    /// keys and values, or its bytes, with the history.
    waiting: VecDeque<Message>,
    ended: bool,
    metrics: WatchMetrics,
    _counted: Up,
    _slot: Option<WatchSlot>,
}

impl WatchStream {
    pub(crate) fn new(watch: Watch, slot: Option<WatchSlot>, metrics: WatchMetrics) -> Self {
        let first = created(&watch).into();
        Self {
            watch,
            waiting: VecDeque::from([first]),
            ended: false,
            _counted: Up::new(&metrics.streams),
            _slot: slot,
            metrics,
        }
    }

    /// What is sent of a delivery: the first message, and others that wait.
    fn take(&mut self, next: Result<Delivery, Ended>) {
        match next {
            Ok(Delivery::Batches(batches)) => self.take_batches(&batches),
            Ok(Delivery::Batch(batch)) => self.take_batch(&batch),
            Err(end) => {
                self.ended = true;
                self.metrics.ended(end.reason.name());
                self.waiting.push_back(ended(&end).into());
            }
        }
    }

    fn take_batches(&mut self, batches: &Batches) {
        for encoded in batches.encoded::<NativeEvents>().iter() {
            self.metrics.events_sent.inc_by(encoded.events as u64);
            self.waiting.push_back(Prepared {
                head: v1::WatchResponse::default(),
                rest: encoded.bytes.clone(),
            });
        }
    }

    fn take_batch(&mut self, batch: &Batch) {
        if batch.kind() == BatchKind::Events {
            self.metrics.events_sent.inc_by(batch.len() as u64);
        }
        let messages = responses(batch, MAX_RESPONSE_BYTES);
        self.waiting.extend(messages.into_iter().map(Into::into));
    }
}

impl Stream for WatchStream {
    type Item = Result<Message, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                self.metrics.messages_sent.inc();
                return Poll::Ready(Some(Ok(message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let next = ready!(self.watch.poll_next_delivery(cx));
            self.take(next);
        }
    }
}
