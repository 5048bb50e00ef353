//! d-engine's watch: `WatchRegistry` and `WatchDispatcher` of `d-engine-core`, put together as its own builder of nodes does.
//!
//! Publishing is the call that its state machine makes after it has applied an entry: a send into the broadcast channel that
//! the dispatcher reads. Its log, its state machine and its storage are not part of what is measured, so for each event they
//! do less than we do. Heartbeats are off, as ours are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use d_engine_core::watch::{WatchDispatcher, WatchEvent, WatchEventType, WatchRegistry, WatcherHandle};
use d_engine_proto::client::{WatchEventType as PublishedType, WatchResponse};
use tokio::sync::{broadcast, mpsc};

use super::{Fanout, ROOM, Watcher};

/// A registry and a dispatcher.
pub struct DEngine {
    registry: Arc<WatchRegistry>,
    events: broadcast::Sender<WatchResponse>,
    revision: Arc<AtomicU64>,
}

impl Fanout for DEngine {
    const NAME: &'static str = "d-engine";

    type Watcher = WatcherHandle;

    fn start() -> Self {
        let (unregister, unregistered) = mpsc::unbounded_channel();
        let registry = Arc::new(WatchRegistry::new(ROOM, unregister));
        let (events, published) = broadcast::channel(ROOM);
        let revision = Arc::new(AtomicU64::new(0));
        let (registry_, revision_) = (Arc::clone(&registry), Arc::clone(&revision));
        tokio::spawn(WatchDispatcher::new(registry_, published, unregistered, revision_, 0).run());
        Self {
            registry,
            events,
            revision,
        }
    }

    async fn watch(&self, key: Bytes) -> Result<WatcherHandle> {
        Ok(self.registry.register(key, false)?)
    }

    async fn publish(&self, key: Bytes, value: Bytes) -> Result<()> {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        let event = WatchResponse {
            key,
            value,
            prev_value: Bytes::new(),
            event_type: PublishedType::Put.into(),
            error: 0,
            revision,
        };
        let sent = self.events.send(event);
        sent.context("the dispatcher is gone").map(drop)
    }
}

impl Watcher for WatcherHandle {
    type Delivery = WatchEvent;

    async fn next(&mut self) -> Result<WatchEvent> {
        match self.receiver_mut().recv().await {
            Some(event) if event.event_type == WatchEventType::Put => Ok(event),
            Some(event) => bail!("d-engine ended the watch: {:?}", event.event_type),
            None => bail!("d-engine dropped the watcher"),
        }
    }

    fn values(event: &WatchEvent, mut read: impl FnMut(&[u8])) {
        read(&event.value);
    }
}
