//! Ours: a keyspace in memory, with its driver as a task.
//!
//! Publishing is [`Keyspace::put`]: what a program that has a keyspace does, with validation, evaluation, index and history.

use anyhow::Result;
use bytes::Bytes;
use tidewatch_core::{Batch, Keyspace, Watch, key};

use super::{Fanout, Watcher};

/// A keyspace in memory.
pub struct Tidewatch {
    keyspace: Keyspace,
}

impl Tidewatch {
    /// The keyspace itself.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }
}

impl Fanout for Tidewatch {
    const NAME: &'static str = "tidewatch";

    type Watcher = Watch;

    fn start() -> Self {
        let keyspace = Keyspace::memory();
        tokio::spawn(keyspace.driver());
        Self { keyspace }
    }

    async fn watch(&self, name: Bytes) -> Result<Watch> {
        Ok(self.keyspace.watch(key(name)?).start().await?)
    }

    async fn publish(&self, name: Bytes, value: Bytes) -> Result<()> {
        self.keyspace.put(name, value).await?;
        Ok(())
    }
}

impl Watcher for Watch {
    type Delivery = Batch;

    async fn next(&mut self) -> Result<Batch> {
        Ok(Watch::next(self).await?)
    }

    fn values(batch: &Batch, mut read: impl FnMut(&[u8])) {
        for event in batch {
            read(event.value());
        }
    }
}
