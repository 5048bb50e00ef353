//! What is older than the cache: a few watches that many who resume from there share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tidewatch_core::history::Chunk;
use tidewatch_core::watch::{Archive, ArchiveReader};
use tidewatch_core::{EndReason, History, KeyspaceId, Position, Revision};
use tokio::sync::Notify;

/// The most watches in etcd beside the one that feeds the cache.
pub const MAX_BACKFILLS: usize = 4;

/// How many revisions further along than a backfill is one may be to wait for it, instead of having another one.
const WORTH_WAITING_FOR: u64 = 10_000;

/// The backfills there are, and who waits for one.
///
/// # Locks
/// In this order: the table, the readers of a fill. Neither is held while somebody is woken or a waker is dropped, which may be anybody's
/// code.
#[derive(Debug)]
pub(super) struct Fills {
    table: Mutex<Table>,
    next_reader: AtomicU64,
    /// Something for [`work`](super::filling) to do.
    pub(super) wake: Notify,
    begun: AtomicU64,
}

#[derive(Debug)]
struct Table {
    now: Position,
    closed: Option<EndReason>,
    running: Vec<Arc<Fill>>,
    /// Those who were not begun yet.
    fresh: Vec<Arc<Fill>>,
    queue: HashMap<u64, (Revision, Waker)>,
}

/// A part of the history that is read once, for all who are in it. They read at their own pace; who is too slow for what is kept
/// falls off and asks again.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) history: Arc<History>,
    readers: Mutex<Readers>,
    /// Somebody has read on, or gone.
    pub(super) moved: Notify,
}

#[derive(Debug, Default)]
struct Readers {
    count: usize,
    /// How far the foremost is.
    read: Revision,
    wakers: HashMap<u64, Waker>,
    over: Over,
}

/// Whether a fill goes on.
#[derive(Debug, Default)]
enum Over {
    #[default]
    No,
    /// It has come to where the cache begins, or nobody reads it.
    Done,
    /// Those who read it end for this reason.
    Ended(EndReason),
}

/// One who reads.
struct FillReader {
    fills: Arc<Fills>,
    keyspace: KeyspaceId,
    id: u64,
    fill: Option<Arc<Fill>>,
}

/// What a reader without a fill gets.
enum Place {
    In(Arc<Fill>),
    Queued,
    End(EndReason),
}

impl Fills {
    pub(super) fn new(now: Position) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table {
                now,
                closed: None,
                running: Vec::new(),
                fresh: Vec::new(),
                queue: HashMap::new(),
            }),
            next_reader: AtomicU64::new(0),
            wake: Notify::new(),
            begun: AtomicU64::new(0),
        })
    }

    /// How many there are.
    pub(super) fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// How many there have been.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Another keyspace is there from now on: what was read of the one before ends.
    pub(super) fn replace(&self, now: Position) {
        let reason = EndReason::KeyspaceChanged {
            actual: now.keyspace,
            current: now.revision,
        };
        let cleared = {
            let mut table = self.lock();
            table.now = now;
            table.clear()
        };
        cleared.end(&reason);
    }

    /// Ends everything.
    pub(super) fn close(&self, reason: &EndReason) {
        let cleared = {
            let mut table = self.lock();
            table.closed.get_or_insert_with(|| reason.clone());
            table.clear()
        };
        cleared.end(reason);
    }

    /// Whether somebody waits for a place.
    pub(super) fn has_queued(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// The backfills that are to be begun.
    pub(super) fn take_fresh(&self) -> Vec<Arc<Fill>> {
        std::mem::take(&mut self.lock().fresh)
    }

    /// Notes that a backfill is over, so that there is a place for those who had none.
    pub(super) fn ended(&self, fill: &Arc<Fill>, reason: Option<EndReason>) {
        fill.end(reason);
        let queued: Vec<_> = {
            let mut table = self.lock();
            table.running.retain(|other| !Arc::ptr_eq(other, fill));
            // They stay in the queue until they have one, so that the first of them begins where all can join.
            table.queue.values().map(|(_, waker)| waker.clone()).collect()
        };
        queued.into_iter().for_each(Waker::wake);
    }

    fn begin(&self, table: &mut Table, after: Revision) -> Arc<Fill> {
        let queued = table.queue.values().map(|(after, _)| *after).min();
        let after = queued.map_or(after, |queued| queued.min(after));
        let fill = Arc::new(Fill {
            history: History::new(table.now.keyspace, after.next(), after),
            readers: Mutex::default(),
            moved: Notify::new(),
        });
        table.running.push(fill.clone());
        table.fresh.push(fill.clone());
        self.begun.fetch_add(1, Ordering::Relaxed);
        fill
    }

    fn place(&self, keyspace: KeyspaceId, id: u64, after: Revision, cx: &Context<'_>) -> Place {
        let waker = cx.waker().clone();
        let mut table = self.lock();
        if let Some(reason) = &table.closed {
            return Place::End(reason.clone());
        }
        if table.now.keyspace != keyspace {
            return Place::End(EndReason::KeyspaceChanged {
                actual: table.now.keyspace,
                current: table.now.revision,
            });
        }
        let is_full = table.running.len() >= MAX_BACKFILLS;
        let fits = |fill: &&Arc<Fill>| {
            let reach = if is_full { u64::MAX } else { WORTH_WAITING_FOR };
            fill.history.oldest() <= after.next()
                && after.0 <= fill.history.current().0.saturating_add(reach)
                && !fill.is_over()
        };
        // The one that is nearest.
        let found = table.running.iter().filter(fits);
        let found = found.max_by_key(|fill| fill.history.current()).cloned();
        let is_begun = found.is_none();
        let fill = match found {
            Some(fill) => fill,
            None if !is_full => self.begin(&mut table, after),
            None => {
                // Dropped after the lock, which is why it has a name.
                let _before = table.queue.insert(id, (after, waker));
                drop(table);
                return Place::Queued;
            }
        };
        fill.lock().count += 1;
        let _before = table.queue.remove(&id);
        drop(table);
        if is_begun {
            self.wake.notify_one();
        }
        Place::In(fill)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was in the table.
struct Cleared {
    running: Vec<Arc<Fill>>,
    queue: HashMap<u64, (Revision, Waker)>,
}

impl Table {
    fn clear(&mut self) -> Cleared {
        self.fresh.clear();
        Cleared {
            running: std::mem::take(&mut self.running),
            queue: std::mem::take(&mut self.queue),
        }
    }
}

impl Cleared {
    fn end(self, reason: &EndReason) {
        for fill in self.running {
            fill.end(Some(reason.clone()));
        }
        self.queue.into_values().for_each(|(_, waker)| waker.wake());
    }
}

impl Fill {
    /// Whether nobody reads it, or it is over.
    pub(super) fn is_abandoned(&self) -> bool {
        let readers = self.lock();
        !matches!(readers.over, Over::No) || readers.count == 0
    }

    /// Whether the foremost reader has read all there is.
    pub(super) fn is_read(&self) -> bool {
        self.lock().read >= self.history.current()
    }

    /// Wakes those who wait for more.
    pub(super) fn tell(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    fn is_over(&self) -> bool {
        !matches!(self.lock().over, Over::No)
    }

    fn end(&self, reason: Option<EndReason>) {
        {
            let mut readers = self.lock();
            if matches!(readers.over, Over::No) {
                readers.over = reason.map_or(Over::Done, Over::Ended);
            }
        }
        self.tell();
        self.moved.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FillReader {
    fn leave(&mut self) {
        if let Some(fill) = self.fill.take() {
            let _waker = {
                let mut readers = fill.lock();
                readers.count -= 1;
                readers.wakers.remove(&self.id)
            };
            fill.moved.notify_one();
        }
    }

    /// Reads in the place it has. None: it has no place any more.
    fn read(
        &self,
        fill: &Fill,
        after: Revision,
        max: usize,
        cx: &Context<'_>,
    ) -> Option<Poll<Result<Chunk, EndReason>>> {
        let chunk = fill.history.read_after(after, max).ok()?;
        let waker = cx.waker().clone();
        let mut readers = fill.lock();
        // Also of one that joined further along, and finds nothing yet: it has what there is.
        let has_moved = chunk.through > readers.read;
        readers.read = readers.read.max(chunk.through);
        if chunk.through > after {
            drop(readers);
            fill.moved.notify_one();
            return Some(Poll::Ready(Ok(chunk)));
        }
        match &readers.over {
            Over::Ended(reason) => Some(Poll::Ready(Err(reason.clone()))),
            Over::Done => None,
            Over::No => {
                let _before = readers.wakers.insert(self.id, waker);
                drop(readers);
                if has_moved {
                    fill.moved.notify_one();
                }
                // Whoever adds something wakes afterwards those who were there.
                if fill.history.current() > after {
                    cx.waker().wake_by_ref();
                }
                Some(Poll::Pending)
            }
        }
    }
}

impl ArchiveReader for FillReader {
    fn poll_read(
        &mut self,
        after: Revision,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Chunk, EndReason>> {
        loop {
            if let Some(fill) = &self.fill {
                if let Some(read) = self.read(fill, after, max, cx) {
                    return read;
                }
                self.leave();
            }
            match self.fills.place(self.keyspace, self.id, after, cx) {
                Place::In(fill) => self.fill = Some(fill),
                Place::Queued => return Poll::Pending,
                Place::End(reason) => return Poll::Ready(Err(reason)),
            }
        }
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        self.leave();
        // Dropped after the lock is.
        let _waker = self.fills.lock().queue.remove(&self.id);
    }
}

/// The archive of a replica.
#[derive(Debug)]
pub(super) struct Older(pub(super) Arc<Fills>);

impl Archive for Older {
    fn open(&self, after: Position) -> Box<dyn ArchiveReader> {
        Box::new(FillReader {
            fills: self.0.clone(),
            keyspace: after.keyspace,
            id: self.0.next_reader.fetch_add(1, Ordering::Relaxed),
            fill: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use tidewatch_core::{Event, KeyValue, Record};

    use super::*;

    const NOW: Position = Position {
        keyspace: KeyspaceId(7),
        revision: Revision(100_000),
    };

    fn open(fills: &Arc<Fills>, after: u64) -> Box<dyn ArchiveReader> {
        Older(fills.clone()).open(Position {
            revision: Revision(after),
            ..NOW
        })
    }

    fn poll(reader: &mut Box<dyn ArchiveReader>, after: u64) -> Poll<Result<Vec<u64>, &'static str>> {
        let mut cx = Context::from_waker(Waker::noop());
        reader
            .poll_read(Revision(after), 9, &mut cx)
            .map(|read| match read {
                Ok(chunk) => Ok(chunk.records.iter().map(|record| record.revision.0).collect()),
                Err(reason) => Err(reason.name()),
            })
    }

    fn append(fill: &Fill, revision: u64) {
        let kv = KeyValue {
            key: "/a".into(),
            value: "v".into(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        fill.history.append([Arc::new(Record {
            revision: Revision(revision),
            time: None,
            events: [Event::put(kv, None)].into(),
        })]);
        fill.tell();
    }

    #[test]
    fn those_who_are_near_share_a_backfill() {
        let fills = Fills::new(NOW);
        let (mut one, mut other) = (open(&fills, 10), open(&fills, 20));
        assert!(poll(&mut one, 10).is_pending() && poll(&mut other, 20).is_pending());
        let fresh = fills.take_fresh();
        assert_eq!((fresh.len(), fills.running()), (1, 1));
        append(&fresh[0], 15);
        append(&fresh[0], 25);
        assert_eq!(poll(&mut one, 10), Poll::Ready(Ok(vec![15, 25])));
        assert_eq!(poll(&mut other, 20), Poll::Ready(Ok(vec![25])));
        drop(one);
        assert!(!fresh[0].is_abandoned());
        drop(other);
        assert!(fresh[0].is_abandoned(), "nobody reads it any more");
    }

    #[test]
    fn who_joins_further_along_has_read_what_is_before() {
        let fills = Fills::new(NOW);
        let (mut one, mut other) = (open(&fills, 10), open(&fills, 20));
        assert!(poll(&mut one, 10).is_pending());
        let fill = fills.take_fresh().remove(0);
        append(&fill, 15);
        assert!(!fill.is_read());
        assert!(poll(&mut other, 20).is_pending());
        assert!(fill.is_read(), "it has what it needs of what there is");
    }

    #[test]
    fn there_are_so_many_and_who_comes_later_gets_one_that_suits_all_who_wait() {
        let fills = Fills::new(NOW);
        let far = |at: usize| 90_000 - 20_000 * at as u64;
        let mut readers: Vec<_> = (0..MAX_BACKFILLS).map(|at| open(&fills, far(at))).collect();
        for (at, reader) in readers.iter_mut().enumerate() {
            assert!(poll(reader, far(at)).is_pending());
        }
        let running = fills.take_fresh();
        assert_eq!(running.len(), MAX_BACKFILLS);
        let (mut late, mut later) = (open(&fills, 50), open(&fills, 20));
        assert!(poll(&mut late, 50).is_pending() && poll(&mut later, 20).is_pending());
        assert!(fills.take_fresh().is_empty(), "there is no room for more");
        fills.ended(&running[0], None);
        assert!(poll(&mut late, 50).is_pending());
        let fresh = fills.take_fresh();
        assert_eq!(
            fresh[0].history.current(),
            Revision(20),
            "it begins where the other can join"
        );
        assert!(poll(&mut later, 20).is_pending() && fills.take_fresh().is_empty());
        append(&fresh[0], 60);
        assert_eq!(poll(&mut late, 50), Poll::Ready(Ok(vec![60])));
        assert_eq!(poll(&mut later, 20), Poll::Ready(Ok(vec![60])));
    }

    #[test]
    fn who_falls_off_begins_again_where_it_is() {
        let fills = Fills::new(NOW);
        let mut slow = open(&fills, 10);
        assert!(poll(&mut slow, 10).is_pending());
        let fill = fills.take_fresh().remove(0);
        append(&fill, 11);
        assert_eq!(poll(&mut slow, 10), Poll::Ready(Ok(vec![11])));
        (12..30).for_each(|revision| append(&fill, revision));
        fill.history.compact(Revision(20));
        assert!(poll(&mut slow, 11).is_pending());
        assert_eq!(fills.take_fresh().remove(0).history.current(), Revision(11));
        assert!(fill.is_abandoned());
    }

    /// Looks, when it is woken or dropped, whether it could do something with a backfill.
    struct Looks(Arc<Fills>);

    impl Looks {
        fn look(&self) {
            let table = self.0.table.try_lock().expect("nobody holds the table");
            for fill in &table.running {
                drop(fill.readers.try_lock().expect("nobody holds the readers"));
            }
        }
    }

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.look();
        }
    }

    impl Drop for Looks {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                self.look();
            }
        }
    }

    #[test]
    fn nobody_is_woken_or_forgotten_under_a_lock() {
        let fills = Fills::new(NOW);
        let looking = |reader: &mut Box<dyn ArchiveReader>, after: u64| {
            // Each of its own, so that what replaces another drops it.
            let waker = Waker::from(Arc::new(Looks(fills.clone())));
            let read = reader.poll_read(Revision(after), 9, &mut Context::from_waker(&waker));
            assert!(read.is_pending());
        };
        let far = |at: usize| 90_000 - 20_000 * at as u64;
        for ends_with in 0..3 {
            let mut readers: Vec<_> = (0..MAX_BACKFILLS).map(|at| open(&fills, far(at))).collect();
            for (at, reader) in readers.iter_mut().enumerate() {
                looking(reader, far(at));
                looking(reader, far(at));
            }
            let running = fills.take_fresh();
            let (mut queued, mut gone) = (open(&fills, 50), open(&fills, 20));
            for _ in 0..2 {
                looking(&mut queued, 50);
                looking(&mut gone, 20);
            }
            drop(gone);
            append(&running[0], far(0) + 5);
            drop(readers.pop());
            match ends_with {
                0 => fills.ended(&running[0], None),
                1 => fills.replace(NOW),
                _ => fills.close(&EndReason::Closed),
            }
            drop((queued, readers));
            for fill in &running {
                fills.ended(fill, None);
            }
        }
    }

    #[test]
    fn another_keyspace_and_the_end_end_every_reader() {
        let fills = Fills::new(NOW);
        let mut reader = open(&fills, 10);
        assert!(poll(&mut reader, 10).is_pending());
        let now = Position {
            keyspace: KeyspaceId(8),
            ..NOW
        };
        fills.replace(now);
        assert_eq!(poll(&mut reader, 10), Poll::Ready(Err("keyspace_changed")));
        assert_eq!(
            poll(&mut open(&fills, 10), 10),
            Poll::Ready(Err("keyspace_changed"))
        );
        fills.close(&EndReason::Closed);
        assert_eq!(poll(&mut open(&fills, 10), 10), Poll::Ready(Err("closed")));
    }
}
