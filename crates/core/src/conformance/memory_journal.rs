//! A journal in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::backend::BoxFuture;
use crate::error::Cause;
use crate::event::{Event, EventKind, KeyValue, Record};
use crate::journal::{Entry, Journal, Recovered};
use crate::lease::{LeaseGrant, LeaseId};
use crate::revision::{KeyspaceId, Revision};

/// A journal that remembers as long as a clone of it lives, and fails or waits when it is told to.
///
/// Clones share one log: opening a clone is a restart.
///
/// ```
/// use std::sync::Arc;
/// use tidewatch_core::conformance::{MemoryJournal, block_on, drive};
/// use tidewatch_core::{Keyspace, ManualClock};
///
/// # block_on(async {
/// let journal = MemoryJournal::new();
/// let clock = Arc::new(ManualClock::new());
/// let ks = Keyspace::builder().journal(journal.clone()).clock(clock).open().await?;
/// journal.fail_commit(1);
/// let failed = drive(ks.driver(), ks.put("/a", "1")).await;
/// assert!(failed.is_err() && journal.commits() == 0);
/// # Ok::<(), tidewatch_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MemoryJournal {
    log: Arc<Mutex<Log>>,
    /// Whether commits wait.
    held: Arc<watch::Sender<bool>>,
    /// How many commits have begun.
    begun: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct Log {
    keyspace: KeyspaceId,
    revision: Revision,
    oldest: Revision,
    base: BTreeMap<Bytes, KeyValue>,
    records: Vec<Record>,
    leases: BTreeMap<LeaseId, LeaseGrant>,
    commits: u64,
    failing: BTreeSet<u64>,
    failing_compactions: bool,
}

impl MemoryJournal {
    /// A new log.
    #[expect(clippy::new_without_default, reason = "each one is another keyspace")]
    pub fn new() -> Self {
        let log = Log {
            keyspace: KeyspaceId::random(),
            revision: Revision::INITIAL,
            oldest: Revision::INITIAL,
            base: BTreeMap::new(),
            records: Vec::new(),
            leases: BTreeMap::new(),
            commits: 0,
            failing: BTreeSet::new(),
            failing_compactions: false,
        };
        Self {
            log: Arc::new(Mutex::new(log)),
            held: Arc::new(watch::Sender::new(false)),
            begun: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Makes the `nth` commit from now on fail: 1 is the next one, 0 the one that waits.
    pub fn fail_commit(&self, nth: u64) {
        let begun = *self.begun.borrow();
        self.lock().failing.insert(begun + nth);
    }

    /// Makes every compaction fail, or none.
    pub fn fail_compactions(&self, fail: bool) {
        self.lock().failing_compactions = fail;
    }

    /// Lets commits wait from now on.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets commits go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// How many commits have been made durable.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// How many commits have begun, also those that wait or failed.
    pub fn begun(&self) -> u64 {
        *self.begun.borrow()
    }

    /// Waits until this many commits have begun.
    pub async fn wait_begun(&self, commits: u64) {
        let begun = self
            .begun
            .subscribe()
            .wait_for(|&begun| begun >= commits)
            .await
            .map(|_| ());
        debug_assert!(begun.is_ok(), "the sender lives in self");
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn remember(&mut self, entry: &Entry) {
        match entry {
            Entry::Record(record) => {
                self.revision = record.revision;
                self.records.push(without_prev(record));
            }
            Entry::LeaseGranted(grant) => drop(self.leases.insert(grant.id, *grant)),
            Entry::LeaseEnded(id) => drop(self.leases.remove(id)),
        }
    }

    fn forget(&mut self, oldest: Revision) {
        self.oldest = oldest;
        let kept = self.records.partition_point(|record| record.revision < oldest);
        for record in self.records.drain(..kept) {
            for event in record.events {
                match event.kind {
                    EventKind::Put => self.base.insert(event.kv.key.clone(), event.kv),
                    EventKind::Delete => self.base.remove(&event.kv.key),
                };
            }
        }
    }
}

/// What a journal has to keep of a record.
pub(super) fn without_prev(record: &Record) -> Record {
    let strip = |event: &Event| Event {
        prev: None,
        ..event.clone()
    };
    Record {
        events: record.events.iter().map(strip).collect(),
        ..*record
    }
}

impl Journal for MemoryJournal {
    fn name(&self) -> &'static str {
        "memory-journal"
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, Cause>> {
        let log = self.lock();
        let recovered = Recovered {
            keyspace: log.keyspace,
            revision: log.revision,
            oldest: log.oldest,
            base: log.base.values().cloned().collect(),
            records: log.records.clone(),
            leases: log.leases.values().copied().collect(),
        };
        Box::pin(std::future::ready(Ok(recovered)))
    }

    fn commit(&mut self, group: Vec<Entry>) -> BoxFuture<'_, Result<(), Cause>> {
        Box::pin(async move {
            let mut number = 0;
            self.begun.send_modify(|begun| {
                *begun += 1;
                number = *begun;
            });
            let released = self.held.subscribe().wait_for(|held| !held).await.map(|_| ());
            debug_assert!(released.is_ok(), "the sender lives in self");
            let mut log = self.lock();
            if log.failing.remove(&number) {
                return Err(refused("this commit was to fail"));
            }
            for entry in &group {
                log.remember(entry);
            }
            log.commits += 1;
            Ok(())
        })
    }

    fn compact(&mut self, oldest: Revision) -> BoxFuture<'_, Result<(), Cause>> {
        let mut log = self.lock();
        let done = if log.failing_compactions {
            Err(refused("compactions were to fail"))
        } else {
            log.forget(oldest);
            Ok(())
        };
        drop(log);
        Box::pin(std::future::ready(done))
    }
}

fn refused(why: &str) -> Cause {
    Arc::new(std::io::Error::other(why))
}
