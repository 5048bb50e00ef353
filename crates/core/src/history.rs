//! The recent past of a keyspace, shared by all who watch it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::error::Error;
use crate::event::{KeyValue, Record};
use crate::key::KeyRange;
use crate::revision::{KeyspaceId, Revision};

/// The records from some revision on, in order. The store appends what has become durable; the
/// dispatcher and lagging watchers read, each at their own pace, without copies of their own.
///
/// A reader never waits for another one, and a writer only for the short time in which a reader
/// takes references to some records.
#[derive(Debug)]
pub struct History {
    keyspace: KeyspaceId,
    /// Mirrors `Inner::current`, for readers who need nothing else.
    current: AtomicU64,
    inner: RwLock<Inner>,
    appended: Notify,
}

#[derive(Debug)]
struct Inner {
    records: VecDeque<Kept>,
    oldest: Revision,
    current: Revision,
    /// The bytes of all records there ever were, and of those that were forgotten.
    appended_bytes: u64,
    forgotten_bytes: u64,
}

#[derive(Debug)]
struct Kept {
    record: Arc<Record>,
    /// The bytes of all records before this one, forgotten ones too.
    bytes_before: u64,
}

/// What a reader has not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The bytes of the records.
    pub bytes: u64,
    /// When the first of them was committed, if that is known.
    pub since: Option<SystemTime>,
}

impl Inner {
    /// The index of the first record after a revision.
    fn first_after(&self, after: Revision) -> usize {
        self.records.partition_point(|kept| kept.record.revision <= after)
    }
}

/// A part of the history.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The records, in order.
    pub records: Vec<Arc<Record>>,
    /// Up to which revision the chunk is complete: there is no other record between the one it was
    /// read after and this.
    pub through: Revision,
}

impl History {
    /// A history without records, that begins at `oldest` and has come to `current`.
    pub fn new(keyspace: KeyspaceId, oldest: Revision, current: Revision) -> Arc<Self> {
        Arc::new(Self {
            keyspace,
            current: AtomicU64::new(current.0),
            inner: RwLock::new(Inner {
                records: VecDeque::new(),
                oldest,
                current,
                appended_bytes: 0,
                forgotten_bytes: 0,
            }),
            appended: Notify::new(),
        })
    }

    /// Whose history it is.
    pub fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The last revision there is.
    pub fn current(&self) -> Revision {
        Revision(self.current.load(Ordering::Acquire))
    }

    /// The oldest revision that can be read.
    pub fn oldest(&self) -> Revision {
        self.read().oldest
    }

    /// Bytes held by the records.
    pub fn bytes(&self) -> u64 {
        let inner = self.read();
        inner.appended_bytes - inner.forgotten_bytes
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.read().records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.read().records.is_empty()
    }

    /// The oldest record.
    pub fn front(&self) -> Option<Arc<Record>> {
        self.read().records.front().map(|kept| Arc::clone(&kept.record))
    }

    /// Adds records whose revisions are greater than all before. They are visible to everybody when
    /// this returns.
    pub fn append(&self, records: impl IntoIterator<Item = Arc<Record>>) {
        let mut inner = self.write();
        for record in records {
            debug_assert!(record.revision > inner.current, "revisions only grow");
            inner.current = record.revision;
            let bytes_before = inner.appended_bytes;
            inner.appended_bytes += record.size() as u64;
            inner.records.push_back(Kept { record, bytes_before });
        }
        self.publish(inner);
    }

    /// Notes that the keyspace has come to `revision` without a record of it: somebody else's writes,
    /// outside of what is kept here. Never goes back.
    pub fn advance(&self, revision: Revision) {
        let mut inner = self.write();
        inner.current = inner.current.max(revision);
        self.publish(inner);
    }

    /// Forgets the records before `oldest`, and returns them. Never goes back, and never beyond the
    /// revision after the current one.
    pub fn compact(&self, oldest: Revision) -> Vec<Arc<Record>> {
        let mut inner = self.write();
        let oldest = oldest.min(inner.current.next());
        if oldest <= inner.oldest {
            return Vec::new();
        }
        inner.oldest = oldest;
        let keep_from = inner
            .records
            .partition_point(|kept| kept.record.revision < oldest);
        let forgotten = inner.records.drain(..keep_from).map(|kept| kept.record).collect();
        inner.forgotten_bytes = match inner.records.front() {
            Some(first) => first.bytes_before,
            None => inner.appended_bytes,
        };
        forgotten
    }

    /// Begins anew after `revision`: what happened up to there was seen elsewhere, or by nobody. Never goes
    /// back. Readers that are not that far find that what they need next is compacted.
    pub fn restart(&self, revision: Revision) {
        let mut inner = self.write();
        debug_assert!(revision >= inner.current, "a history never goes back");
        inner.records.clear();
        inner.forgotten_bytes = inner.appended_bytes;
        inner.current = inner.current.max(revision);
        inner.oldest = inner.current.next();
        self.publish(inner);
    }

    /// Reads at most `max` records after a revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the revision after `after` is no longer there.
    pub fn read_after(&self, after: Revision, max: usize) -> Result<Chunk, Error> {
        let inner = self.read();
        if after.next() < inner.oldest {
            return Err(Error::Compacted {
                requested: after.next(),
                oldest: inner.oldest,
            });
        }
        let from = inner.first_after(after);
        let kept = inner.records.range(from..).take(max);
        let records: Vec<_> = kept.map(|kept| Arc::clone(&kept.record)).collect();
        let through = match records.last() {
            Some(last) if from + records.len() < inner.records.len() => last.revision,
            _ => inner.current.max(after),
        };
        Ok(Chunk { records, through })
    }

    /// What a reader that has read up to `after` has not read yet, or can read no more.
    pub fn unread(&self, after: Revision) -> Unread {
        let inner = self.read();
        match inner.records.get(inner.first_after(after)) {
            Some(first) => Unread {
                bytes: inner.appended_bytes - first.bytes_before,
                since: first.record.time,
            },
            None => Unread {
                bytes: 0,
                since: None,
            },
        }
    }

    /// Waits until something was appended since the last call returned. For one caller, the
    /// dispatcher. Cancel-safe.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    fn publish(&self, inner: RwLockWriteGuard<'_, Inner>) {
        self.current.store(inner.current.0, Ordering::Release);
        drop(inner);
        self.appended.notify_one();
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a keyspace at a revision, as far as a watch with a snapshot needs it.
pub trait SnapshotReader: Send + Sync + 'static {
    /// At most `limit` entries of `range` at `revision`, in the order of keys, from the first key
    /// after `after` on. Fewer than `limit` only at the end.
    ///
    /// # Errors
    /// [`Error::Compacted`].
    fn page(
        &self,
        range: &KeyRange,
        revision: Revision,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Error>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn record(revision: u64) -> Arc<Record> {
        let kv = KeyValue {
            key: "/a".into(),
            value: "v".into(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Arc::new(Record {
            revision: Revision(revision),
            time: None,
            events: [Event::put(kv, None)].into(),
        })
    }

    fn revisions(chunk: &Chunk) -> Vec<u64> {
        chunk.records.iter().map(|record| record.revision.0).collect()
    }

    #[test]
    fn a_chunk_says_how_far_it_is_complete() {
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        history.append([record(2), record(5), record(6)]);
        let chunk = history.read_after(Revision(1), 2).unwrap();
        assert_eq!((revisions(&chunk), chunk.through), (vec![2, 5], Revision(5)));
        history.advance(Revision(9));
        let chunk = history.read_after(Revision(5), 2).unwrap();
        assert_eq!((revisions(&chunk), chunk.through), (vec![6], Revision(9)));
        let chunk = history.read_after(Revision(12), 2).unwrap();
        assert_eq!((revisions(&chunk), chunk.through), (vec![], Revision(12)));
    }

    #[test]
    fn nothing_follows_the_greatest_revision() {
        let greatest = Revision(u64::MAX);
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        history.append([record(2)]);
        let chunk = history.read_after(greatest, 9).unwrap();
        assert_eq!((revisions(&chunk), chunk.through), (vec![], greatest));
        history.advance(greatest);
        assert_eq!(history.compact(greatest).len(), 1);
        assert_eq!(history.read_after(greatest, 9).unwrap().through, greatest);
    }

    #[test]
    fn a_history_that_begins_anew_has_nothing_of_what_was_before() {
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        history.append([record(2), record(3)]);
        history.restart(Revision(7));
        assert_eq!((history.current(), history.oldest()), (Revision(7), Revision(8)));
        assert_eq!((history.len(), history.bytes()), (0, 0));
        history.read_after(Revision(3), 9).unwrap_err();
        history.append([record(9)]);
        assert_eq!(revisions(&history.read_after(Revision(7), 9).unwrap()), [9]);
    }

    #[test]
    fn compaction_keeps_its_revision_and_refuses_what_is_before() {
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        history.append((2..=6).map(record));
        let before = history.bytes();
        assert_eq!(history.compact(Revision(4)).len(), 2);
        assert!(history.bytes() < before);
        assert_eq!(revisions(&history.read_after(Revision(3), 9).unwrap()), [4, 5, 6]);
        let error = history.read_after(Revision(2), 9).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Compacted {
                    requested: Revision(3),
                    oldest: Revision(4)
                }
            ),
            "{error}"
        );
        assert!(
            history.compact(Revision(2)).is_empty(),
            "compaction never goes back"
        );
    }
}
