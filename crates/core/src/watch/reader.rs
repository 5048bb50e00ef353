//! The reading side of a watcher.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::registry::{Leaving, WatchRegistry};
use super::request::MAX_PROGRESS_INTERVAL;
use super::selection::Entry;
use super::topic::{Canceler, Place, Read, Topic};
use super::{Batch, EndReason, Ended, Start, View, WatchRequest, WatchSource};
use crate::backend::BoxFuture;
use crate::error::Error;
use crate::revision::{Position, Revision};

/// Entries taken out of the shared ring at a time: enough to make the lock cheap, few enough that a
/// reader who stops holds on to little.
const TAKE: usize = 64;

/// Records of the history looked at at a time by a lagging reader, and the bytes of those that match
/// which it holds on to.
const SCAN: usize = 256;
const SCAN_BYTES: usize = 1 << 20;

/// Entries of a snapshot read at a time.
const PAGE: usize = 128;

/// Steps without a delivery before others get to run.
const STEPS: usize = 16;

/// A cursor into the history: first, if asked, over the state, then over the history itself until it
/// has caught up with the topic's ring, then over the ring.
pub(super) struct Reader {
    registry: Arc<WatchRegistry>,
    topic: Arc<Topic>,
    view: View,
    state: State,
    /// Every event up to here was delivered, or does not match.
    after: Revision,
    /// The history was looked at up to here; what matched is in `buffered`.
    scanned: Revision,
    /// No progress is reported below this revision.
    floor: Revision,
    last_delivered: Option<Revision>,
    buffered: VecDeque<Entry>,
    place: Option<Place>,
    canceler: Option<Arc<Canceler>>,
    /// Where the canceler is armed in the topic.
    armed: Option<usize>,
    progress: Option<Box<Progress>>,
    left: bool,
}

enum State {
    /// Until the position is known to belong to this history; then `Lagging`, or the end.
    Resuming(Position),
    /// Delivering the state as of `after`; then `Lagging`.
    Snapshot(Box<Snapshot>),
    /// Reading the history; `Synced` when the ring has what comes next.
    Lagging,
    /// Reading the ring; `Lagging` when it no longer has what comes next.
    Synced,
}

enum Snapshot {
    Begin,
    /// In the range of this index, after this key.
    Page {
        range: usize,
        key: Option<Bytes>,
    },
}

struct Progress {
    interval: Duration,
    due: Instant,
    sleep: BoxFuture<'static, ()>,
}

enum Step {
    Deliver(Batch),
    Again,
    Wait,
    End(EndReason),
}

impl Reader {
    pub(super) fn new(
        registry: Arc<WatchRegistry>,
        topic: Arc<Topic>,
        request: &WatchRequest,
        after: Revision,
        current: Revision,
        canceler: Option<Arc<Canceler>>,
    ) -> Self {
        let (state, floor) = match request.start {
            Start::Now if request.snapshot => (State::Snapshot(Box::new(Snapshot::Begin)), current),
            Start::Now => (State::Lagging, current),
            Start::At(revision) => (State::Lagging, revision),
            Start::After(position) => (State::Resuming(position), after),
        };
        let progress = request.progress_interval.map(|interval| {
            let interval = interval.min(MAX_PROGRESS_INTERVAL);
            let due = registry.clock().now() + interval;
            Box::new(Progress {
                interval,
                due,
                sleep: registry.clock().sleep_until(due),
            })
        });
        Self {
            registry,
            topic,
            view: request.view,
            state,
            after,
            scanned: after,
            floor,
            last_delivered: None,
            buffered: VecDeque::new(),
            place: None,
            canceler,
            armed: None,
            progress,
            left: false,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        if let Some(step) = self.take_buffered() {
            return step;
        }
        if matches!(self.registry.finished(), Some(EndReason::Draining { .. })) {
            // A server that goes away does not wait for readers to catch up: they resume elsewhere.
            return Step::End(self.registry.end_reason());
        }
        match &mut self.state {
            State::Resuming(position) => {
                let position = *position;
                self.check_position(position)
            }
            State::Snapshot(_) => self.read_snapshot(),
            State::Lagging => self.read_history(),
            State::Synced => self.read_ring(cx),
        }
    }

    fn take_buffered(&mut self) -> Option<Step> {
        while let Some(entry) = self.buffered.pop_front() {
            let revision = entry.record.revision;
            if let Some(canceler) = &self.canceler {
                if canceler
                    .overflowed_at()
                    .is_some_and(|overflowed_at| revision >= overflowed_at)
                {
                    return Some(Step::End(EndReason::Overflow));
                }
                canceler.delivered_one();
            }
            self.after = revision;
            let batch = Batch::shared(entry.record, entry.matching, self.view);
            if !batch.is_empty() {
                self.last_delivered = Some(revision);
                return Some(Step::Deliver(batch));
            }
        }
        self.after = self.after.max(self.scanned);
        None
    }

    fn check_position(&mut self, position: Position) -> Step {
        let history = self.registry.history();
        let (actual, current) = (history.keyspace(), history.current());
        if position.keyspace != actual || position.revision > current {
            return Step::End(EndReason::KeyspaceChanged { actual, current });
        }
        self.state = State::Lagging;
        Step::Again
    }

    fn read_snapshot(&mut self) -> Step {
        let State::Snapshot(snapshot) = &mut self.state else {
            return Step::Again;
        };
        let Some(reader) = self.registry.snapshots() else {
            return Step::End(EndReason::Failed(Error::Unsupported {
                what: "snapshots".into(),
            }));
        };
        let (at, key) = match &mut **snapshot {
            Snapshot::Begin => {
                **snapshot = Snapshot::Page { range: 0, key: None };
                return Step::Deliver(Batch::snapshot_begin(self.after));
            }
            Snapshot::Page { range, key } => (range, key),
        };
        let ranges = self.topic.selection.ranges();
        let Some(range) = ranges.get(*at) else {
            self.state = State::Lagging;
            return Step::Deliver(Batch::snapshot_end(self.after));
        };
        match reader.page(range, self.after, key.as_ref(), PAGE) {
            Ok(mut page) => {
                let complete = page.len() < PAGE;
                match page.last() {
                    Some(last) if !complete => *key = Some(last.key.clone()),
                    _ => (*at, *key) = (*at + 1, None),
                }
                let earlier = &ranges[..ranges.iter().position(|other| other == range).unwrap_or(0)];
                page.retain(|kv| !earlier.iter().any(|other| other.contains(&kv.key)));
                if page.is_empty() {
                    return Step::Again;
                }
                Step::Deliver(Batch::snapshot(self.after, page, self.view))
            }
            Err(Error::Compacted { .. }) => {
                // It took longer than the history lasts: begin anew, with what is there now.
                self.after = self.registry.history().current();
                (self.scanned, self.floor) = (self.after, self.after);
                **snapshot = Snapshot::Begin;
                Step::Again
            }
            Err(error) => Step::End(EndReason::Failed(error)),
        }
    }

    fn read_history(&mut self) -> Step {
        if self.topic.covers(self.after) {
            if let (Some(canceler), None) = (&self.canceler, self.armed) {
                self.armed = self.topic.arm(canceler, self.after);
                if self.armed.is_none() {
                    // The ring has moved on since it was asked.
                    return Step::Again;
                }
            }
            self.state = State::Synced;
            return Step::Again;
        }
        let chunk = match self.registry.history().read_after(self.after, SCAN) {
            Ok(chunk) => chunk,
            Err(Error::Compacted { requested, oldest }) => {
                return Step::End(EndReason::Compacted { requested, oldest });
            }
            Err(error) => return Step::End(EndReason::Failed(error)),
        };
        self.scanned = chunk.through;
        let mut bytes = 0;
        for record in &chunk.records {
            let Some(entry) = self.topic.selection.entry(record) else {
                continue;
            };
            bytes += record.size();
            self.buffered.push_back(entry);
            if bytes > SCAN_BYTES {
                self.scanned = record.revision;
                break;
            }
        }
        Step::Again
    }

    fn read_ring(&mut self, cx: &mut Context<'_>) -> Step {
        // Read before the ring is: what was dispatched by now and is not found was delivered.
        let dispatched = self.registry.dispatched();
        match self.topic.read(
            self.after,
            TAKE,
            &mut self.buffered,
            cx.waker(),
            self.place.take(),
        ) {
            Read::Entries => Step::Again,
            Read::Behind => {
                self.state = State::Lagging;
                Step::Again
            }
            Read::Finished => Step::End(self.registry.end_reason()),
            Read::Parked(place) => {
                self.place = Some(place);
                self.after = self.after.max(dispatched);
                self.scanned = self.after;
                self.report_progress(dispatched, cx)
            }
        }
    }

    fn report_progress(&mut self, dispatched: Revision, cx: &mut Context<'_>) -> Step {
        let Some(progress) = &mut self.progress else {
            return Step::Wait;
        };
        while progress.sleep.as_mut().poll(cx).is_ready() {
            let now = self.registry.clock().now();
            let report = now >= progress.due && dispatched >= self.floor;
            if now >= progress.due {
                progress.due = now + progress.interval;
            }
            progress.sleep = self.registry.clock().sleep_until(progress.due);
            if report {
                return Step::Deliver(Batch::progress(dispatched));
            }
        }
        Step::Wait
    }

    /// Notes that the watch has just said something, and so is not idle.
    fn delivered(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.due = self.registry.clock().now() + progress.interval;
        }
    }

    fn end(&mut self, reason: EndReason) -> Ended {
        self.leave();
        let history = self.registry.history();
        let resume = match (&reason, &self.state) {
            (EndReason::Compacted { .. } | EndReason::KeyspaceChanged { .. }, _) => None,
            (_, State::Snapshot(_)) => None,
            (_, State::Resuming(position)) => Some(*position),
            // One ahead of the history would be taken for another history's.
            (_, State::Lagging | State::Synced) if self.after > history.current() => None,
            (_, State::Lagging | State::Synced) => Some(Position {
                keyspace: history.keyspace(),
                revision: self.after,
            }),
        };
        Ended {
            reason,
            last_delivered: self.last_delivered,
            resume,
        }
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            let leaving = Leaving {
                prev_kv: self.view.prev_kv,
                place: self.place.take(),
                canceler: self.canceler.as_deref(),
                armed: self.armed.take(),
            };
            self.registry.leave(&self.topic, &leaving);
        }
    }
}

impl WatchSource for Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, Ended>> {
        for _ in 0..STEPS {
            match self.step(cx) {
                Step::Deliver(batch) => {
                    self.delivered();
                    return Poll::Ready(Ok(batch));
                }
                Step::Again => {}
                Step::Wait => return Poll::Pending,
                Step::End(reason) => return Poll::Ready(Err(self.end(reason))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}
