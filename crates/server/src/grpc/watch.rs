//! `tidewatch.v1.Watch`: a keyspace watch as a stream of messages.
//!
//! A stream holds its watch and nothing else: no task, no channel. The transport polls it only while
//! the client's flow control leaves room, and it polls the watch only then; so a client that does not
//! read costs what is between here and its socket, and its watch falls behind in the shared history.
//! The transport puts the messages that are ready at once into one frame.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tidewatch_core::{Batch, BatchKind, Ended, Keyspace, Watch};
use tidewatch_proto::v1;
use tidewatch_proto::watch::{MAX_RESPONSE_BYTES, created, ended, responses};
use tonic::{Request, Response, Status};

use super::{status, watch_slot};
use crate::connection::WatchSlot;
use crate::metrics::{Up, WatchMetrics};

/// The service.
#[derive(Clone)]
pub(crate) struct WatchService {
    pub(crate) keyspace: Keyspace,
    pub(crate) metrics: WatchMetrics,
}

#[tonic::async_trait]
impl v1::watch_server::Watch for WatchService {
    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let slot = watch_slot(&request)?;
        let request = request.into_inner().try_into().map_err(status)?;
        let watch = self.keyspace.backend().watch(request).await.map_err(status)?;
        Ok(Response::new(WatchStream::new(watch, slot, self.metrics.clone())))
    }
}

/// The messages of one watch: `created`, its batches, `ended`.
pub(crate) struct WatchStream {
    watch: Watch,
    /// What is to be sent before the watch is asked again: the pieces of one batch, which share its
    /// keys and values with the history.
    waiting: std::vec::IntoIter<v1::WatchResponse>,
    ended: bool,
    metrics: WatchMetrics,
    _counted: Up,
    _slot: Option<WatchSlot>,
}

impl WatchStream {
    pub(crate) fn new(watch: Watch, slot: Option<WatchSlot>, metrics: WatchMetrics) -> Self {
        let first = created(&watch);
        Self {
            watch,
            waiting: vec![first].into_iter(),
            ended: false,
            _counted: Up::new(&metrics.streams),
            _slot: slot,
            metrics,
        }
    }

    fn take(&mut self, next: Result<Batch, Ended>) {
        let messages = match next {
            Ok(batch) => {
                if batch.kind() == BatchKind::Events {
                    self.metrics.events_sent.inc_by(batch.len() as u64);
                }
                responses(&batch, MAX_RESPONSE_BYTES)
            }
            Err(end) => {
                self.ended = true;
                self.metrics.ended(end.reason.name());
                vec![ended(&end)]
            }
        };
        self.waiting = messages.into_iter();
    }
}

impl Stream for WatchStream {
    type Item = Result<v1::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.waiting.next() {
                self.metrics.messages_sent.inc();
                return Poll::Ready(Some(Ok(message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(next) = self.watch.poll_next_batch(cx) else {
                return Poll::Pending;
            };
            self.take(next);
        }
    }
}
