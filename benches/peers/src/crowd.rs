//! Many consumers, each in a task of its own, that read what is published in rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::contender::{Fanout, Watcher};
use crate::payload::{self, checksum};

/// Consumers of one key. They are the same tasks in every round, as connections would be.
pub struct Crowd {
    readers: JoinSet<anyhow::Error>,
    round: Arc<Round>,
    size: usize,
}

struct Round {
    events: usize,
    /// Readers that have not read all of the round's events.
    unfinished: AtomicUsize,
    /// Of everything that was read.
    checksum: AtomicU64,
    finished: Notify,
}

impl Crowd {
    /// Starts `size` watchers of a key, which will get `events` of them in every round.
    ///
    /// # Errors
    /// A watch that cannot be started.
    pub async fn gather<F: Fanout>(fanout: &F, key: &str, size: usize, events: usize) -> Result<Self> {
        let round = Arc::new(Round {
            events,
            unfinished: AtomicUsize::new(0),
            checksum: AtomicU64::new(0),
            finished: Notify::new(),
        });
        let mut readers = JoinSet::new();
        for _ in 0..size {
            let watcher = fanout.watch(payload::key(key)).await?;
            let round = Arc::clone(&round);
            readers.spawn(async move {
                let Err(ended) = read(watcher, &round).await;
                ended
            });
        }
        Ok(Self { readers, round, size })
    }

    /// Publishes the values, and waits until everyone has read all of them.
    ///
    /// # Errors
    /// A watch that ended, or a checksum that is not that of what was published.
    pub async fn round<F: Fanout>(&mut self, fanout: &F, key: &str, values: &[Bytes]) -> Result<()> {
        ensure!(
            values.len() == self.round.events,
            "a round has {} events",
            self.round.events
        );
        self.round.checksum.store(0, Ordering::Relaxed);
        self.round.unfinished.store(self.size, Ordering::Release);
        for value in values {
            fanout.publish(payload::key(key), value.clone()).await?;
        }
        tokio::select! {
            biased;
            () = self.round.finished.notified() => {}
            Some(ended) = self.readers.join_next() => bail!("a reader is gone: {:#}", ended?),
        }
        let published = values
            .iter()
            .map(|value| checksum(value))
            .fold(0, u64::wrapping_add);
        let read = self.round.checksum.load(Ordering::Relaxed);
        ensure!(
            read == published.wrapping_mul(self.size as u64),
            "what was read is not what was published"
        );
        Ok(())
    }
}

async fn read<W: Watcher>(mut watcher: W, round: &Round) -> Result<std::convert::Infallible> {
    let mut events = 0;
    let mut sum = 0;
    loop {
        let delivery = watcher.next().await?;
        W::values(&delivery, |value| {
            events += 1;
            sum = checksum(value).wrapping_add(sum);
        });
        if events == round.events {
            round.checksum.fetch_add(sum, Ordering::Relaxed);
            (events, sum) = (0, 0);
            if round.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
                round.finished.notify_one();
            }
        }
    }
}
