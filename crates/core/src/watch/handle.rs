//! A registered watcher, for those who work with the registry itself.

use bytes::Bytes;

use super::{Batch, Ended, OnOverflow, View, Watch, WatchId, WatchRequest};
use crate::key::KeyRange;

/// What a watcher is registered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatcherOptions {
    /// Which parts of events it wants.
    pub view: View,
    /// What happens when it falls behind by more than its room.
    pub on_overflow: OnOverflow,
    /// How many batches that is. None: the registry's setting.
    pub room: Option<usize>,
}

impl WatcherOptions {
    pub(super) fn request(self, range: KeyRange) -> WatchRequest {
        let Self {
            view,
            on_overflow,
            room,
        } = self;
        WatchRequest {
            view,
            on_overflow,
            room,
            ..WatchRequest::new([range])
        }
    }
}

/// A watcher of one key or prefix. It is unregistered when the handle is dropped, unless the watch was
/// taken out of it: then when the watch is.
#[derive(Debug)]
pub struct WatcherHandle {
    range: KeyRange,
    watch: Watch,
}

impl WatcherHandle {
    pub(super) fn new(range: KeyRange, watch: Watch) -> Self {
        Self { range, watch }
    }

    /// Its name.
    pub fn id(&self) -> WatchId {
        self.watch.id()
    }

    /// The key or prefix it watches.
    pub fn key(&self) -> &Bytes {
        self.range.start()
    }

    /// Whether it watches a prefix.
    pub fn is_prefix(&self) -> bool {
        self.range.as_single().is_none()
    }

    /// Waits for the next batch; see [`Watch::next`].
    ///
    /// # Errors
    /// [`Ended`] when the watch is over.
    pub async fn next(&mut self) -> Result<Batch, Ended> {
        self.watch.next().await
    }

    /// The watch alone, for a stream that lives on its own.
    pub fn into_watch(self) -> Watch {
        self.watch
    }
}
