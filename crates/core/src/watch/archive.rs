//! What a history no longer holds.

use std::task::{Context, Poll};

use crate::history::Chunk;
use crate::revision::{Position, Revision};
use crate::watch::EndReason;

/// Where records are to be had that a [`History`](crate::History) has forgotten, or never had. A watch that
/// needs what its history does not hold reads here until it has come to where the history begins; without
/// an archive it ends with [`EndReason::Compacted`].
pub trait Archive: Send + Sync + 'static {
    /// Begins to read what follows a position.
    fn open(&self, after: Position) -> Box<dyn ArchiveReader>;
}

/// One who reads in an [`Archive`]. Dropping it ends that.
pub trait ArchiveReader: Send {
    /// At most `max` records after a revision, which is where the reader was opened or how far it has read
    /// since. What is returned goes further than `after`. An error ends the watch: the records are
    /// [compacted](EndReason::Compacted), or of [another keyspace](EndReason::KeyspaceChanged).
    fn poll_read(
        &mut self,
        after: Revision,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Chunk, EndReason>>;
}
