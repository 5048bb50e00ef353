//! The promises of a watch, checked on a keyspace that is written to and watched at the same time: on a live server,
//! while it is killed and restarted, or on any other backend.
//!
//! A check goes in rounds, so that what it has to remember is bounded. In each round writers put, delete and carry out
//! transactions in a prefix of the round's own (`writer`), and watchers of every kind follow (`plan`, `reader`). Then
//! everybody is told the last revision, and when all have got there, each stream is judged by
//! [`tidewatch_core::check`].
//!
//! # Where the truth comes from
//! From the transactions, not from a watch: those that were acknowledged are carried out once more, in the order of their
//! revisions, by a map that is easy to get right (`ledger`). Of a transaction whose outcome is unknown, because its
//! connection broke, one has to be told whether and when it happened: for that alone the history of the round is read back
//! through a watch from its first revision. A revision in it that nobody acknowledged must be exactly what one of the
//! unknown transactions does at that point. So a history that is wrong does not pass for the truth. Two promises of the
//! keyspace are checked on the way:
//!
//! | promise | what it says |
//! |---|---|
//! | Durable | what was acknowledged is in the history, at the revision that was acknowledged |
//! | Serial | all answers and revisions are those of the transactions, carried out one after the other |
//!
//! That a slow watcher costs others nothing (Isolated) is not judged here: it is no property of a stream.

mod goal;
mod ledger;
mod plan;
mod reader;
mod report;
mod round;
mod writer;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tidewatch_client::{Client, Reconnect};
use tidewatch_core::txn::RangeRequest;
use tidewatch_core::{KeyRange, Keyspace, prefix};

pub use report::{Counts, Found, Report};

/// What is to be checked, and how hard.
#[derive(Clone, Debug)]
pub struct WatchCheck {
    /// How many writers there are at a time.
    pub writers: usize,
    /// How many watchers there are at a time; with [`KINDS`] of them there is one of each kind.
    pub watchers: usize,
    /// What writers do and watchers ask for is drawn from this. What happens between them is not: that is the server's
    /// doing.
    pub seed: u64,
    /// Where the keys are. It must be empty, and is when the check has ended.
    pub prefix: String,
    /// How long a watch may say nothing that has something to say.
    pub patience: Duration,
    /// What there has been so far, for those who look on.
    pub counts: Arc<Counts>,
}

/// How many kinds of watchers there are.
pub const KINDS: usize = plan::KINDS.len();

impl WatchCheck {
    /// A check with a few writers, two watchers of each kind, and a prefix of its own.
    pub fn new(seed: u64) -> Self {
        Self {
            writers: 4,
            watchers: 2 * KINDS,
            seed,
            prefix: format!("/check-watch/{:016x}/", fastrand::u64(..)),
            patience: round::PATIENCE,
            counts: Arc::default(),
        }
    }

    /// Checks a server, until `stop` is ready and for one round at least, or until a promise is broken. The server may
    /// be restarted meanwhile, as long as it keeps its keyspace and is back within a minute. Of several servers of one keyspace
    /// the first is taken, and another when that one cannot be reached.
    ///
    /// # Errors
    /// Where there is nothing to judge: the server is away for too long, refuses what it is asked for, has another
    /// keyspace all of a sudden, or the prefix is in use.
    pub async fn run_at(&self, endpoints: &[&str], stop: impl Future<Output = ()>) -> anyhow::Result<Report> {
        let (first, others) = endpoints.split_first().context("there is no server")?;
        // Watches have connections of their own, so that what is written does not wait for what is read.
        let client = async || {
            let counts = self.counts.clone();
            let client = Client::builder(*first).give_up_after(round::PATIENCE);
            let client = others
                .iter()
                .fold(client, |client, other| client.endpoint(*other));
            let tell = move |reconnect: &Reconnect| counts.reconnect(reconnect);
            client.on_reconnect(tell).connect().await
        };
        let (writes, watches) = (client().await?, client().await?);
        self.run(&writes.keyspace(), &watches.keyspace(), stop).await
    }

    /// The same for any keyspace, given twice: to write to and to watch.
    ///
    /// # Errors
    /// Those of [`run_at`](Self::run_at).
    pub async fn run(
        &self,
        writes: &Keyspace,
        watches: &Keyspace,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<Report> {
        let place = prefix(self.prefix.clone())?;
        ensure_empty(writes, place.clone()).await?;
        let stopping = AtomicBool::new(false);
        let mut stop = pin!(stop);
        let mut rounds = pin!(self.rounds(writes, watches, &stopping));
        let outcome = loop {
            tokio::select! {
                outcome = &mut rounds => break outcome,
                () = &mut stop, if !stopping.load(Ordering::Relaxed) => stopping.store(true, Ordering::Relaxed),
            }
        };
        // Also what a transaction of unknown outcome has left behind after the end of its round.
        let cleaned = round::clean_up(writes, &place).await;
        let found = outcome?;
        cleaned.with_context(|| format!("failed to clean up {}", self.prefix))?;
        Ok(Report {
            seed: self.seed,
            prefix: self.prefix.clone(),
            counts: self.counts.clone(),
            found,
        })
    }

    async fn rounds(
        &self,
        writes: &Keyspace,
        watches: &Keyspace,
        stopping: &AtomicBool,
    ) -> anyhow::Result<Vec<Found>> {
        let keyspace = writes.status().await?.keyspace;
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for number in 0.. {
            let round = round::Round {
                check: self,
                keyspace,
                writes,
                watches,
                stopping,
                prefix: format!("{}{number}/", self.prefix),
            };
            let found = round.run(rng.fork()).await?;
            self.counts.round();
            if !found.is_empty() || stopping.load(Ordering::Relaxed) {
                return Ok(found);
            }
        }
        unreachable!("there is always another number")
    }
}

async fn ensure_empty(keyspace: &Keyspace, place: KeyRange) -> anyhow::Result<()> {
    let request = RangeRequest {
        count_only: true,
        ..RangeRequest::new(place.clone())
    };
    let (_, found) = keyspace.range(request).await?;
    ensure!(
        found.count == 0,
        "there are {} keys below {place} already; name another prefix",
        found.count
    );
    Ok(())
}
