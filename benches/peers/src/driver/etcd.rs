//! etcd's v3 API, with the crate `etcd-client`.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_client::{Client, WatchOptions, WatchStream};

use super::{Face, PREFIX, Watch};

pub(crate) struct Etcd(Client);

impl Face for Etcd {
    type Watch = WatchStream;

    async fn connect(to: SocketAddr) -> Result<Self> {
        let client = Client::connect([format!("http://{to}")], None).await;
        Ok(Self(client.context("cannot connect")?))
    }

    async fn watch(&self, count: usize) -> Result<Vec<WatchStream>> {
        let mut client = self.0.watch_client();
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = client
                .watch(PREFIX, Some(WatchOptions::new().with_prefix()))
                .await?;
            let first = stream.message().await?.context("no answer to a watch")?;
            ensure!(
                first.created() && !first.canceled(),
                "a watch is refused: {}",
                first.cancel_reason()
            );
            streams.push(stream);
        }
        Ok(streams)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.kv_client().put(key, value, None).await?;
        Ok(())
    }
}

impl Watch for WatchStream {
    async fn next(&mut self, mut read: impl FnMut(&[u8]) + Send) -> Result<()> {
        let response = self.message().await?.context("a stream ended")?;
        ensure!(
            !response.canceled(),
            "a watch was canceled: {}",
            response.cancel_reason()
        );
        for event in response.events() {
            read(event.kv().context("an event without an entry")?.value());
        }
        Ok(())
    }
}
