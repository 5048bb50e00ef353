//! What one writes without a library: a bounded tokio channel for each watcher, and a loop that sends each an `Arc` of the
//! event. No keys, no revisions, no history; a watcher without room would lose the event.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Event, Fanout, ROOM, Watcher};

/// The senders.
#[derive(Default)]
pub struct TokioMpsc {
    watchers: Mutex<Vec<Sender<Arc<Event>>>>,
}

impl Fanout for TokioMpsc {
    const NAME: &'static str = "tokio-mpsc";

    type Watcher = Receiver<Arc<Event>>;

    fn start() -> Self {
        Self::default()
    }

    async fn watch(&self, _: Bytes) -> Result<Receiver<Arc<Event>>> {
        let (sender, receiver) = mpsc::channel(ROOM);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(sender);
        Ok(receiver)
    }

    async fn publish(&self, key: Bytes, value: Bytes) -> Result<()> {
        let event = Arc::new(Event { key, value });
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter() {
            watcher
                .try_send(Arc::clone(&event))
                .context("a watcher has no room")?;
        }
        Ok(())
    }
}

impl Watcher for Receiver<Arc<Event>> {
    type Delivery = Arc<Event>;

    async fn next(&mut self) -> Result<Arc<Event>> {
        self.recv().await.context("the channel is closed")
    }

    fn values(event: &Arc<Event>, mut read: impl FnMut(&[u8])) {
        read(&event.value);
    }
}
