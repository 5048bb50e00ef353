//! A watch, as its reader holds it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Batch, BatchKind, Ended};
use crate::revision::{Position, Revision};

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
    /// The next batch, or the end. Not called again after the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, Ended>>;
}

/// A running watch. It ends when it is dropped.
pub struct Watch {
    id: WatchId,
    created: Position,
    position: Option<Position>,
    last_delivered: Option<Revision>,
    source: Box<dyn WatchSource>,
    ended: Option<Ended>,
}

impl Watch {
    /// A watch that `source` feeds. `created` is its boundary; `resumable` says whether one can resume
    /// from there: not while a snapshot is to come, nor at a revision that does not exist yet.
    pub fn new(id: WatchId, created: Position, resumable: bool, source: Box<dyn WatchSource>) -> Self {
        let position = resumable.then_some(created);
        Self {
            id,
            created,
            position,
            last_delivered: None,
            source,
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
        self.position
    }

    /// The last revision that was delivered whole.
    pub fn last_delivered(&self) -> Option<Revision> {
        self.last_delivered
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
    pub fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, Ended>> {
        if let Some(ended) = &self.ended {
            return Poll::Ready(Err(ended.clone()));
        }
        let Poll::Ready(next) = self.source.poll_next(cx) else {
            return Poll::Pending;
        };
        match &next {
            Ok(batch) => self.advance(batch),
            Err(ended) => self.ended = Some(ended.clone()),
        }
        Poll::Ready(next)
    }

    fn advance(&mut self, batch: &Batch) {
        match batch.kind() {
            BatchKind::SnapshotBegin => self.position = None,
            BatchKind::Snapshot => {}
            BatchKind::Events if batch.is_partial() => {}
            BatchKind::Events => {
                self.last_delivered = Some(batch.revision());
                self.move_to(batch.revision());
            }
            BatchKind::SnapshotEnd | BatchKind::Progress => self.move_to(batch.revision()),
        }
    }

    fn move_to(&mut self, revision: Revision) {
        self.position = Some(Position {
            keyspace: self.created.keyspace,
            revision,
        });
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
            .field("position", &self.position)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
