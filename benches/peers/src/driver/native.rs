//! Our own gRPC API, with the stubs that tonic generates, so that as much is decoded as of etcd's.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tidewatch_proto::v1;
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_proto::v1::watch_client::WatchClient;
use tidewatch_proto::v1::watch_response::Response;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{Face, PREFIX, Watch};

pub(crate) struct Native(Channel);

impl Face for Native {
    type Watch = Streaming<v1::WatchResponse>;

    async fn connect(to: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{to}"))?;
        Ok(Self(endpoint.connect().await.context("cannot connect")?))
    }

    async fn watch(&self, count: usize) -> Result<Vec<Self::Watch>> {
        let mut client = WatchClient::new(self.0.clone());
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = client.watch(everything()).await?.into_inner();
            let first = stream.message().await?.context("no answer to a watch")?;
            let Some(Response::Created(_)) = first.response else {
                bail!("a watch is refused: {first:?}");
            };
            streams.push(stream);
        }
        Ok(streams)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        let request = v1::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            ..v1::PutRequest::default()
        };
        KeyspaceClient::new(self.0.clone()).put(request).await?;
        Ok(())
    }
}

fn everything() -> v1::WatchRequest {
    let mut before = PREFIX.as_bytes().to_vec();
    if let Some(last) = before.last_mut() {
        *last += 1;
    }
    v1::WatchRequest {
        ranges: vec![v1::KeyRange {
            start: PREFIX.into(),
            end: Some(v1::key_range::End::Before(before.into())),
        }],
        ..v1::WatchRequest::default()
    }
}

impl Watch for Streaming<v1::WatchResponse> {
    async fn next(&mut self, mut read: impl FnMut(&[u8]) + Send) -> Result<()> {
        let response = self.message().await?.context("a stream ended")?;
        if let Some(Response::Ended(ended)) = response.response {
            bail!("a watch ended: {ended:?}");
        }
        for event in response.events.iter().flat_map(|revision| &revision.events) {
            read(&event.kv.as_ref().context("an event without an entry")?.value);
        }
        Ok(())
    }
}
