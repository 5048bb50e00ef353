//! What changed in the fleet, read from the keyspace's history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidewatch_core::watch::{EndReason, Start, View as Parts, WatchRequest};
use tidewatch_core::{Batch, BatchKind, Error, Event, EventKind, Keyspace, Revision, Status};
use tidewatch_fleet::{LogEntry, View, WorkloadId};
use tidewatch_proto::v1;
use tokio::sync::Semaphore;

use super::attempt::MAX_ATTEMPTS;

/// How many entries are returned unless the caller says otherwise.
const DEFAULT_ENTRIES: u32 = 1000;

/// How many are returned at most: more does not help people, and programs have watches.
pub(crate) const MAX_ENTRIES: u32 = 10_000;

/// The most bytes of values in the entries that are returned; the newest ones count. Clients accept
/// 64 MiB, and a value is in two entries: the one that wrote it and the one that replaced it.
const MAX_BYTES: usize = 16 << 20;

/// How soon a reader that has come to the end of the history is told so; the least that a watch
/// grants, because this is what the caller waits for at the end.
const PROGRESS: Duration = Duration::from_millis(100);

/// After how many batches other tasks get a turn: reading history waits for nothing by itself.
const BATCHES_PER_TURN: u32 = 256;

/// How many logs are read at a time; further ones wait for their turn. Each reads the whole history, and holds
/// what it found until then.
const MAX_READERS: usize = 4;

/// The turns of those who read the log. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct LogTurns(Arc<Semaphore>);

impl Default for LogTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_READERS)))
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the history was compacted faster than it could be read")]
struct Overtaken;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogQuery {
    pub(crate) since: Option<SystemTime>,
    pub(crate) until: Option<SystemTime>,
    pub(crate) workload: Option<WorkloadId>,
    /// The most entries; 0: as many as are usual.
    pub(crate) limit: u32,
}

impl LogQuery {
    fn entries(&self) -> usize {
        let entries = match self.limit {
            0 => DEFAULT_ENTRIES,
            limit => limit.min(MAX_ENTRIES),
        };
        entries as usize
    }

    /// Whether something of this time is asked for. What has no time is: nobody can tell.
    fn covers(&self, time: Option<SystemTime>) -> bool {
        time.is_none_or(|time| {
            self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
        })
    }

    /// Reads the history as it is now, oldest first.
    pub(crate) async fn run(self, keyspace: &Keyspace, turns: &LogTurns) -> Result<v1::LogResponse, Error> {
        let _turn = turns.0.acquire().await.map_err(|_| Error::Closed)?;
        let mut status = keyspace.status().await?;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(log) = self.clone().read(keyspace, &status).await? {
                return Ok(log.into_response(&status));
            }
            status = keyspace.status().await?;
        }
        Err(Error::Unavailable(Arc::new(Overtaken)))
    }

    /// None: the history no longer begins where it did.
    async fn read(self, keyspace: &Keyspace, status: &Status) -> Result<Option<Log>, Error> {
        let request = WatchRequest {
            start: Start::At(status.oldest),
            view: Parts {
                prev_kv: true,
                ..Parts::default()
            },
            progress_interval: Some(PROGRESS),
            ..WatchRequest::new(View::ranges())
        };
        let mut watch = keyspace.backend().watch(request).await?;
        let mut log = Log::new(self);
        for turn in 1.. {
            match watch.next().await {
                Ok(batch) => {
                    log.take(&batch, status.revision);
                    if batch.revision() >= status.revision && !batch.is_partial() {
                        break;
                    }
                }
                Err(ended) => match ended.reason {
                    EndReason::Compacted { .. } => return Ok(None),
                    EndReason::Failed(error) => return Err(error),
                    _ => return Err(Error::Closed),
                },
            }
            if turn % BATCHES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(log))
    }
}

/// The newest entries that match.
struct Log {
    query: LogQuery,
    entries: VecDeque<v1::LogEntry>,
    /// Of their values.
    bytes: usize,
    /// Some that match are older than these.
    more: bool,
    /// The time of the first revision of the history that has one.
    begins: Option<SystemTime>,
}

impl Log {
    fn new(query: LogQuery) -> Self {
        Self {
            query,
            entries: VecDeque::new(),
            bytes: 0,
            more: false,
            begins: None,
        }
    }

    fn take(&mut self, batch: &Batch, until: Revision) {
        if batch.kind() != BatchKind::Events || batch.revision() > until {
            return;
        }
        self.begins = self.begins.or(batch.time());
        if !self.query.covers(batch.time()) {
            return;
        }
        for event in batch {
            let event = event.to_owned();
            let Some(entry) = tidewatch_fleet::log::entry(&event, batch.time()) else {
                continue;
            };
            if self.query.workload.is_some() && entry.key.workload() != self.query.workload.as_ref() {
                continue;
            }
            self.push(message(entry, &event));
        }
    }

    fn push(&mut self, entry: v1::LogEntry) {
        self.bytes += bytes(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > self.query.entries() || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= bytes(&oldest);
            self.more = true;
        }
    }

    fn into_response(self, status: &Status) -> v1::LogResponse {
        let compacted = status.oldest > Revision::INITIAL;
        let reaches = match (self.query.since, self.begins) {
            (Some(since), Some(begins)) => begins <= since,
            _ => false,
        };
        v1::LogResponse {
            header: v1::StatusResponse::from(status).header,
            entries: self.entries.into(),
            more: self.more,
            history_begins: if compacted && !reaches { status.oldest.0 } else { 0 },
        }
    }
}

fn bytes(entry: &v1::LogEntry) -> usize {
    entry.json.len() + entry.prev_json.len()
}

fn message(entry: LogEntry, event: &Event) -> v1::LogEntry {
    let name = |name: Option<&dyn ToString>| name.map(ToString::to_string).unwrap_or_default();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let kind = match entry.kind {
        EventKind::Put => v1::EventKind::Put,
        EventKind::Delete => v1::EventKind::Delete,
    };
    v1::LogEntry {
        revision: entry.revision.0,
        time: entry.time.map(Into::into),
        key: entry.key.to_string(),
        kind: kind.into(),
        workload: name(entry.key.workload().map(|it| it as _)),
        host: name(entry.key.host().map(|it| it as _)),
        row: name(entry.key.row().map(|it| it as _)),
        state_before: name(entry.before.as_ref().map(|it| it as _)),
        state_after: name(entry.after.as_ref().map(|it| it as _)),
        message: entry.message,
        json: text(&event.kv.value),
        prev_json: event
            .prev
            .as_ref()
            .map(|prev| text(&prev.value))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_log_is_read_when_it_is_its_turn() {
        let keyspace = Keyspace::memory();
        let driver = tokio::spawn(keyspace.driver());
        let turns = LogTurns::default();
        let taken: Vec<_> = (0..MAX_READERS).map(|_| turns.0.try_acquire().unwrap()).collect();
        let mut log = Box::pin(LogQuery::default().run(&keyspace, &turns));
        assert!((&mut log).now_or_never().is_none());
        drop(taken);
        assert_eq!(log.await.unwrap().entries.len(), 0);
        driver.abort();
    }

    #[test]
    fn a_log_of_large_values_keeps_the_newest_that_fit_and_says_that_there_are_more() {
        let mut log = Log::new(LogQuery::default());
        for revision in 1..=100 {
            log.push(v1::LogEntry {
                revision,
                json: "x".repeat(1 << 20),
                ..v1::LogEntry::default()
            });
        }
        let kept: Vec<_> = log.entries.iter().map(|entry| entry.revision).collect();
        assert_eq!(kept, (85..=100).collect::<Vec<_>>());
        assert!(log.more);
    }

    #[test]
    fn a_log_keeps_as_many_entries_as_were_asked_for() {
        let mut log = Log::new(LogQuery {
            limit: 2,
            ..LogQuery::default()
        });
        for revision in 1..=2 {
            log.push(v1::LogEntry {
                revision,
                ..v1::LogEntry::default()
            });
        }
        assert!(!log.more);
        log.push(v1::LogEntry::default());
        assert_eq!((log.entries.len(), log.more), (2, true));
    }
}
