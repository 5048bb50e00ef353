//! What changed in the fleet, read from the keyspace's history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidewatch_core::watch::{EndReason, Start, View as Parts, WatchRequest};
use tidewatch_core::{Batch, BatchKind, Error, Event, EventKind, Keyspace, Revision, Status};
use tidewatch_fleet::{LogEntry, View, WorkloadId};
use tidewatch_proto::v1;

/// How many entries are returned unless the caller says otherwise, and at most: more does not help
/// people, and programs have watches.
const DEFAULT_ENTRIES: u32 = 1000;
const MAX_ENTRIES: u32 = 10_000;

/// The most bytes of values in the entries that are returned; the newest ones count. Clients accept
/// 64 MiB, and a value is in two entries: the one that wrote it and the one that replaced it.
const MAX_BYTES: usize = 16 << 20;

/// How soon a reader that has come to the end of the history is told so; the least that a watch
/// grants, because this is what the caller waits for at the end.
const PROGRESS: Duration = Duration::from_millis(100);

/// After how many batches other tasks get a turn: reading history waits for nothing by itself.
const BATCHES_PER_TURN: u32 = 256;

/// How often a read starts over because compaction overtook it. Once is rare; this often means that
/// the history is shorter than a read takes.
const MAX_ATTEMPTS: usize = 4;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the history was compacted faster than it could be read")]
struct Overtaken;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct LogQuery {
    since: Option<SystemTime>,
    workload: Option<WorkloadId>,
    limit: usize,
}

impl LogQuery {
    pub(super) fn new(since: Option<SystemTime>, workload: Option<WorkloadId>, limit: u32) -> Self {
        let limit = if limit == 0 {
            DEFAULT_ENTRIES
        } else {
            limit.min(MAX_ENTRIES)
        };
        Self {
            since,
            workload,
            limit: limit as usize,
        }
    }

    /// Reads the history as it is now, oldest first.
    pub(super) async fn run(self, keyspace: &Keyspace) -> Result<v1::LogResponse, Error> {
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
        if let (Some(since), Some(time)) = (self.query.since, batch.time())
            && time < since
        {
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
        while self.entries.len() > self.query.limit || self.bytes > MAX_BYTES {
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
    use super::*;

    #[test]
    fn a_log_of_large_values_keeps_the_newest_that_fit_and_says_that_there_are_more() {
        let mut log = Log::new(LogQuery::new(None, None, 0));
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
        let mut log = Log::new(LogQuery::new(None, None, 2));
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
