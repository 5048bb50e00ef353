//! What a watch is asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::error::Error;
use crate::key::KeyRange;
use crate::limits::MAX_WATCH_RANGES;
use crate::revision::{Position, Revision};
use crate::watch::{View, Watch};

/// What a watch is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// Which keys: at least one range, at most [`MAX_WATCH_RANGES`]. Where ranges overlap, an event
    /// is still delivered once.
    pub ranges: Vec<KeyRange>,
    /// From where on.
    pub start: Start,
    /// Begin with the entries as they are at the boundary. Goes with [`Start::Now`] only.
    pub snapshot: bool,
    /// Which parts of the events.
    pub view: View,
    /// How often an idle watch is told how far it is; at least 100 ms, and more than a year is taken for
    /// a year. None: never.
    pub progress_interval: Option<Duration>,
    /// What happens when the reader falls behind by more than `room`.
    pub on_overflow: OnOverflow,
    /// With [`OnOverflow::Cancel`], how many batches the reader may fall behind before the watch ends.
    /// None: the keyspace's setting, which is also the most. One that catches up counts as lagging when
    /// it has fallen off what it shares with others who watch the same keys, whatever is asked for here.
    pub room: Option<usize>,
    /// Whether events may be held back to be delivered together, for readers that send them on: while
    /// many such readers watch the same keys, each is woken at most once in
    /// [`max_batch_delay`](crate::WatchSettings::max_batch_delay). The first event after a pause is
    /// never held back.
    pub coalesce: bool,
    /// For whom the watch is, for operators who look at who watches.
    pub label: Option<Arc<str>>,
    /// A watch that the process keeps for itself: neither counted nor listed, so that limits and figures tell of
    /// those who came. Room for a few, which the process knows.
    pub internal: bool,
}

/// From where on a watch delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What happens from now on.
    Now,
    /// From this revision on, itself included. It may lie in the future: then nothing is delivered
    /// until it is reached.
    At(Revision),
    /// Everything after this position. One of another keyspace, or ahead of this one, ends the watch
    /// with [`EndReason::KeyspaceChanged`](super::EndReason::KeyspaceChanged).
    After(Position),
}

/// What happens to a watch whose reader falls behind by more than its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverflow {
    /// It reads on from the history at its own pace, and ends only if what it needs is compacted.
    #[default]
    CatchUp,
    /// It ends with [`EndReason::Overflow`](super::EndReason::Overflow), after what fitted its room.
    Cancel,
}

impl WatchRequest {
    /// A watch of these ranges from now on.
    pub fn new(ranges: impl Into<Vec<KeyRange>>) -> Self {
        Self {
            ranges: ranges.into(),
            start: Start::Now,
            snapshot: false,
            view: View::default(),
            progress_interval: None,
            on_overflow: OnOverflow::default(),
            room: None,
            coalesce: false,
            label: None,
            internal: false,
        }
    }

    /// Checks what can be checked without a keyspace. Every backend calls this first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |reason: &str| {
            Err(Error::InvalidArgument {
                what: "watch",
                reason: reason.into(),
            })
        };
        if self.ranges.is_empty() {
            return invalid("it has no range");
        }
        if self.ranges.len() > MAX_WATCH_RANGES {
            return invalid("it has more than 64 ranges");
        }
        if self.ranges.contains(&KeyRange::empty()) {
            return invalid("one of its ranges holds no key");
        }
        if self.snapshot && self.start != Start::Now {
            return invalid("a snapshot cannot be combined with a start revision or a position");
        }
        if self.start == Start::At(Revision(0)) {
            return invalid("revision 0 does not exist, the first one is 1");
        }
        if self.room == Some(0) {
            return invalid("its room must be at least 1");
        }
        if self
            .progress_interval
            .is_some_and(|interval| interval < MIN_PROGRESS_INTERVAL)
        {
            return invalid("its progress interval must be at least 100 ms");
        }
        Ok(())
    }
}

/// Shortest interval of progress reports, as in etcd.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Longest interval of progress reports: the moment after it is one that every clock can name.
pub(super) const MAX_PROGRESS_INTERVAL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A watch that is being described; see [`Keyspace::watch`](crate::Keyspace::watch).
#[must_use = "a watch begins with `start`"]
pub struct WatchBuilder {
    backend: Arc<dyn Backend>,
    request: WatchRequest,
}

impl WatchBuilder {
    /// A watch of one range, on `backend`.
    pub fn new(backend: Arc<dyn Backend>, range: KeyRange) -> Self {
        Self {
            backend,
            request: WatchRequest::new([range]),
        }
    }

    /// Watches another range too.
    pub fn and(mut self, range: KeyRange) -> Self {
        self.request.ranges.push(range);
        self
    }

    /// Begins at this revision, itself included, instead of now.
    pub fn from_revision(mut self, revision: Revision) -> Self {
        self.request.start = Start::At(revision);
        self
    }

    /// Goes on after a position that was kept; without one, begins now.
    pub fn resume(mut self, position: impl Into<Option<Position>>) -> Self {
        if let Some(position) = position.into() {
            self.request.start = Start::After(position);
        }
        self
    }

    /// Begins with the entries there are. If the watch resumes from a position there is no need for
    /// it, and it is not done.
    pub fn with_snapshot(mut self) -> Self {
        self.request.snapshot = true;
        self
    }

    /// Delivers the entry before each event.
    pub fn with_prev_kv(mut self) -> Self {
        self.request.view.prev_kv = true;
        self
    }

    /// Leaves out writes.
    pub fn without_puts(mut self) -> Self {
        self.request.view.no_put = true;
        self
    }

    /// Leaves out deletions.
    pub fn without_deletes(mut self) -> Self {
        self.request.view.no_delete = true;
        self
    }

    /// Leaves out values.
    pub fn keys_only(mut self) -> Self {
        self.request.view.keys_only = true;
        self
    }

    /// Reports progress whenever the watch has been idle for this long; at least 100 ms.
    pub fn progress_every(mut self, interval: Duration) -> Self {
        self.request.progress_interval = Some(interval);
        self
    }

    /// Says what happens when the reader falls behind.
    pub fn on_overflow(mut self, on_overflow: OnOverflow) -> Self {
        self.request.on_overflow = on_overflow;
        self
    }

    /// Says how many batches the reader may fall behind before the watch ends, with
    /// [`OnOverflow::Cancel`].
    pub fn room(mut self, batches: usize) -> Self {
        self.request.room = Some(batches);
        self
    }

    /// Says for whom the watch is; operators see it.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.request.label = Some(label.into());
        self
    }

    /// Makes it one of the process itself, that is neither counted nor listed.
    pub fn internal(mut self) -> Self {
        self.request.internal = true;
        self
    }

    /// Starts the watch.
    ///
    /// # Errors
    /// Those of [`Backend::watch`].
    pub async fn start(mut self) -> Result<Watch, Error> {
        if matches!(self.request.start, Start::After(_)) {
            self.request.snapshot = false;
        }
        self.backend.watch(self.request).await
    }
}
