//! The stubs that are generated from our `.proto` files: they can say whatever the wire can.

use std::net::SocketAddr;

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::kv_client::KvClient;
use tidewatch_proto::etcdserverpb::lease_client::LeaseClient;
use tidewatch_proto::etcdserverpb::watch_client::WatchClient;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::compare::Face;
use crate::normal;
use crate::scenario::{Call, Step};
use crate::watching::{self, Wire};

/// The largest answer that is read.
const MAX_MESSAGE: usize = 64 << 20;

/// A client of one server.
#[derive(Clone, Debug)]
pub(crate) struct Stubs {
    channel: Channel,
}

impl Stubs {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect()
            .await?;
        Ok(Self { channel })
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub(crate) async fn stream(&self) -> Result<Stream, Status> {
        let (requests, outgoing) = mpsc::channel(16);
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        // etcd answers a stream only once it has a request.
        let first = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(watching::sentinel())),
        };
        requests
            .send(first)
            .await
            .map_err(|_| Status::internal("nobody reads the requests"))?;
        let responses = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Stream { requests, responses })
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: &Call) -> String {
        match call.clone() {
            Call::Range(request) => text(self.kv().range(request).await),
            Call::Put(request) => text(self.kv().put(request).await),
            Call::Delete(request) => text(self.kv().delete_range(request).await),
            Call::Txn(request) => text(self.kv().txn(request).await),
            Call::Compact(revision) => {
                let request = pb::CompactionRequest {
                    revision,
                    physical: true,
                };
                text(self.kv().compact(request).await)
            }
            Call::Grant { id, ttl } => {
                text(self.lease().lease_grant(pb::LeaseGrantRequest { id, ttl }).await)
            }
            Call::Revoke(id) => text(self.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await),
            Call::KeepAlive(id) => self.keep_alive(id).await,
            Call::TimeToLive(id) => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                let answer = self.lease().lease_time_to_live(request).await;
                text(answer.map(|answer| answer.map(normal::time_to_live)))
            }
            Call::Leases => text(self.lease().lease_leases(pb::LeaseLeasesRequest {}).await),
        }
    }

    async fn keep_alive(&self, id: i64) -> String {
        let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let mut answers = match self.lease().lease_keep_alive(requests).await {
            Ok(answers) => answers.into_inner(),
            Err(error) => return normal::status(&error),
        };
        let mut texts = Vec::new();
        loop {
            match answers.message().await {
                Ok(Some(answer)) => texts.push(normal::message(&answer)),
                Ok(None) => return texts.join("\n"),
                Err(error) => return texts.join("\n") + &normal::status(&error),
            }
        }
    }
}

impl Face for Stubs {
    async fn answer(&mut self, step: &Step) -> Option<String> {
        Some(match step {
            Step::Call(call) => self.call(call).await,
            Step::Watch(watch) => match self.stream().await {
                Ok(stream) => watching::observe(stream, self, watch).await,
                Err(error) => normal::status(&error),
            },
        })
    }
}

fn text<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> String {
    match answer {
        Ok(answer) => normal::message(answer.get_ref()),
        Err(error) => normal::status(&error),
    }
}

/// A stream of watches.
pub(crate) struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Wire for Stream {
    async fn ask(&mut self, request: RequestUnion) -> Result<(), String> {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| "the stream is closed".to_owned())
    }

    async fn message(&mut self) -> Result<Option<pb::WatchResponse>, String> {
        self.responses
            .message()
            .await
            .map_err(|error| normal::status(&error))
    }
}
