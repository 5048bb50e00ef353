//! One tokio broadcast channel for all watchers, which carries an `Arc` of each event: the closest relative of a shared ring
//! in tokio. No keys, no revisions, no history; a watcher that falls behind loses the oldest events.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, Sender};

use super::{Event, Fanout, ROOM, Watcher};

/// The sender.
pub struct TokioBroadcast {
    events: Sender<Arc<Event>>,
}

impl Fanout for TokioBroadcast {
    const NAME: &'static str = "tokio-broadcast";

    type Watcher = Receiver<Arc<Event>>;

    fn start() -> Self {
        Self {
            events: Sender::new(ROOM),
        }
    }

    async fn watch(&self, _: Bytes) -> Result<Receiver<Arc<Event>>> {
        Ok(self.events.subscribe())
    }

    async fn publish(&self, key: Bytes, value: Bytes) -> Result<()> {
        let sent = self.events.send(Arc::new(Event { key, value }));
        sent.context("nobody watches").map(drop)
    }
}

impl Watcher for Receiver<Arc<Event>> {
    type Delivery = Arc<Event>;

    async fn next(&mut self) -> Result<Arc<Event>> {
        self.recv().await.context("the watcher fell behind")
    }

    fn values(event: &Arc<Event>, mut read: impl FnMut(&[u8])) {
        read(&event.value);
    }
}
