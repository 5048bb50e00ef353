//! The watch of a server's keyspace.

mod resume;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidewatch_core::Position;
use tidewatch_core::watch::{self, Batch, EndReason, Ended, Watch, WatchRequest, WatchSource};
use tidewatch_proto::v1;
use tidewatch_proto::v1::watch_client::WatchClient;
use tidewatch_proto::watch::{Delivery, delivery, one_by_one};
use tonic::Request;
use tonic::transport::Channel;

use self::resume::Resume;
use crate::connection::{Connection, MAX_ANSWER_BYTES};
use crate::failure::Failure;
use crate::resuming::{Conversation, Resuming, Sent, Step, begin};

/// Starts a watch. Its first connection is like a call: it is tried a few times, and fails if the
/// server does not want it.
pub(crate) async fn start(connection: Arc<Connection>, request: WatchRequest) -> Result<Watch, Failure> {
    let asked = resume::asked(&request);
    let view = request.view;
    let message = || v1::WatchRequest::from(&asked);
    let (open, first) = begin::<Resume>(&connection, message).await?;
    let created = match delivery(first, view)? {
        Delivery::Created(created) => created,
        other => return Err(Failure::Malformed(format!("a watch begins with {other:?}"))),
    };
    let resume = Resume::new(request, &created);
    let boundary = resume.boundary();
    let source = Source(Resuming::new(connection, resume, open));
    Ok(Watch::new(
        created.id,
        boundary,
        created.resumable,
        Box::new(source),
    ))
}

struct Source(Resuming<Resume>);

impl WatchSource for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<watch::Delivery, Ended>> {
        self.0.poll_next(cx).map_ok(watch::Delivery::Batch)
    }
}

impl Conversation for Resume {
    type Request = v1::WatchRequest;
    type Response = v1::WatchResponse;
    type Item = Batch;

    fn request(&mut self) -> v1::WatchRequest {
        (&self.reopen()).into()
    }

    fn send(channel: Channel, request: Request<v1::WatchRequest>) -> Sent<v1::WatchResponse> {
        let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Box::pin(async move { client.watch(request).await })
    }

    fn unpack(response: v1::WatchResponse) -> impl Iterator<Item = v1::WatchResponse> {
        one_by_one(response)
    }

    fn take(&mut self, response: v1::WatchResponse) -> Step<Batch> {
        match delivery(response, self.view()) {
            Ok(delivery) => self.deliver(delivery),
            Err(malformed) => self.violated(&malformed.to_string()),
        }
    }

    fn resume(&self) -> Option<Position> {
        self.position()
    }

    fn ended(&self, reason: EndReason) -> Ended {
        self.end(reason)
    }

    fn silence(&self) -> Option<Duration> {
        self.silence()
    }
}
