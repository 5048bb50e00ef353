//! A watch, as its reader holds it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Batch, BatchKind, Batches, Delivery, Ended};
use crate::revision::{KeyspaceId, Position, Revision};

/// The name of a watch within its keyspace or server; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the batches of a watch come from: a registry in this process, or a server.
///
/// Dropping a source ends the watch and frees all it holds, at once.
pub trait WatchSource: Send + 'static {
    /// The next delivery, or the end. Not called again after the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>>;

    /// Whose keyspace what is delivered is of, where that may become another one: from a
    /// [`SnapshotBegin`](BatchKind::SnapshotBegin) on it is.
    fn keyspace(&self) -> Option<KeyspaceId> {
        None
    }

    /// See [`Watch::request_progress`]. By default there is no answer but the regular reports.
    fn request_progress(&mut self) {}
}

/// A running watch. It ends when it is dropped.
pub struct Watch {
    id: WatchId,
    created: Position,
    /// The keyspace that is watched; another one than that of `created` after a snapshot of another.
    keyspace: KeyspaceId,
    /// Everything up to here was delivered, in `keyspace`. Meaningless while not `resumable`.
    at: Revision,
    resumable: bool,
    /// Zero: none yet.
    last_delivered: Revision,
    source: Box<dyn WatchSource>,
    /// What the source has delivered at once and is yet to be returned.
    held: Option<Batches>,
    ended: Option<Box<Ended>>,
}

impl Watch {
    /// A watch that `source` feeds. `created` is its boundary; `resumable` says whether one can resume
    /// from there: not while a snapshot is to come, nor at a revision that does not exist yet.
    pub fn new(id: WatchId, created: Position, resumable: bool, source: Box<dyn WatchSource>) -> Self {
        Self {
            id,
            created,
            keyspace: created.keyspace,
            at: created.revision,
            resumable,
            last_delivered: Revision::default(),
            source,
            held: None,
            ended: None,
        }
    }

    /// Its name, by which operators see and end it.
    pub fn id(&self) -> WatchId {
        self.id
    }

    /// The boundary: everything that matches and happened after it is delivered, nothing before it.
    pub fn created(&self) -> Position {
        self.created
    }

    /// Where to resume from to get everything after what [`next`](Self::next) has returned so far.
    /// None while a snapshot is under way, or a start in the future has not been reached.
    pub fn position(&self) -> Option<Position> {
        self.resumable.then_some(Position {
            keyspace: self.keyspace,
            revision: self.at,
        })
    }

    /// The keyspace that what [`next`](Self::next) has returned is of. Where a keyspace is replaced under a watch that
    /// began with a snapshot, it gets another snapshot, and from its begin on this is the other one.
    pub fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The last revision that was delivered whole.
    pub fn last_delivered(&self) -> Option<Revision> {
        (self.last_delivered != Revision::default()).then_some(self.last_delivered)
    }

    /// Waits for the next batch.
    ///
    /// # Errors
    /// [`Ended`] when the watch is over; from then on always the same.
    ///
    /// # Cancel safety
    /// Safe: a batch is either returned or still there for the next call.
    pub async fn next(&mut self) -> Result<Batch, Ended> {
        poll_fn(|cx| self.poll_next_batch(cx)).await
    }

    /// [`next`](Self::next) for those who poll.
    #[inline]
    pub fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, Ended>> {
        if let Some(batch) = self.held.as_mut().and_then(Batches::pop_plain) {
            self.move_past(batch.revision());
            return Poll::Ready(Ok(batch));
        }
        self.poll_next_other(cx)
    }

    fn poll_next_other(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, Ended>> {
        loop {
            while let Some(held) = self.held.take() {
                let (batch, rest) = held.split_first();
                self.held = rest;
                if !batch.is_empty() {
                    self.move_past(batch.revision());
                    return Poll::Ready(Ok(batch));
                }
            }
            match ready!(self.poll_source(cx))? {
                Delivery::Batch(batch) => {
                    self.advance(&batch);
                    return Poll::Ready(Ok(batch));
                }
                Delivery::Batches(batches) => self.held = Some(batches),
            }
        }
    }

    /// [`poll_next_batch`](Self::poll_next_batch) for those who send on what they get: batches that
    /// were prepared together come together.
    pub fn poll_next_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        let delivery = match self.held.take() {
            Some(held) => Delivery::Batches(held),
            None => ready!(self.poll_source(cx))?,
        };
        match &delivery {
            Delivery::Batch(batch) => self.advance(batch),
            Delivery::Batches(batches) => {
                self.last_delivered = batches.last_shown().unwrap_or(self.last_delivered);
                self.move_to(batches.revision());
            }
        }
        Poll::Ready(Ok(delivery))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        if let Some(ended) = &self.ended {
            return Poll::Ready(Err((**ended).clone()));
        }
        let next = ready!(self.source.poll_next(cx));
        if let Err(ended) = &next {
            self.ended = Some(Box::new(ended.clone()));
        }
        Poll::Ready(next)
    }

    /// Asks for a report of progress as soon as there is nothing left to deliver and the start was
    /// reached, whatever the interval. The watch has to be polled afterwards. Until a start in the
    /// future is reached the report is owed; for its sake alone the watch wakes nobody, so who waits
    /// for it polls now and then.
    pub fn request_progress(&mut self) {
        self.source.request_progress();
    }

    fn advance(&mut self, batch: &Batch) {
        match batch.kind() {
            BatchKind::SnapshotBegin => {
                self.resumable = false;
                self.keyspace = self.source.keyspace().unwrap_or(self.keyspace);
            }
            BatchKind::Snapshot => {}
            BatchKind::Events if batch.is_partial() => {}
            BatchKind::Events => self.move_past(batch.revision()),
            BatchKind::SnapshotEnd | BatchKind::Progress => self.move_to(batch.revision()),
        }
    }

    /// Notes that a revision was delivered whole.
    #[inline]
    fn move_past(&mut self, revision: Revision) {
        self.last_delivered = revision;
        self.move_to(revision);
    }

    #[inline]
    fn move_to(&mut self, revision: Revision) {
        self.at = revision;
        self.resumable = true;
    }
}

impl Stream for Watch {
    type Item = Result<Batch, Ended>;

    /// The batches, then the end as the last item.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        self.poll_next_batch(cx).map(Some)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("id", &self.id)
            .field("created", &self.created)
            .field("position", &self.position())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
