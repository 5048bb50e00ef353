//! The reading side of a watcher.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::archive::ArchiveReader;
use super::canceler::Canceler;
use super::registry::{Leaving, WatchRegistry};
use super::request::MAX_PROGRESS_INTERVAL;
use super::run::{Batches, Hold, OpenRun};
use super::topic::{Cursor, Read};
use super::waiting::Place;
use super::watcher::{Watcher, WatcherState};
use super::{Batch, Delivery, EndReason, Ended, Start, WatchRequest, WatchSource};
use crate::backend::BoxFuture;
use crate::error::Error;
use crate::history::Chunk;
use crate::revision::{Position, Revision};

/// Records of the history looked at at a time by a lagging reader. Of those that match it holds on to
/// a run.
const SCAN: usize = 256;

/// Entries of a snapshot read at a time.
const PAGE: usize = 128;

/// Steps without a delivery before others get to run.
const STEPS: usize = 16;

/// Entries delivered without a pause before others get to run, though there are more.
const BURST: u32 = 1024;

/// A cursor into the history: first, if asked, over the state, then over the history itself until it
/// has caught up with the topic's ring, then over the ring.
pub(super) struct Reader {
    registry: Arc<WatchRegistry>,
    watcher: Arc<Watcher>,
    state: State,
    /// Every event up to here was delivered, or does not match.
    after: Revision,
    /// The history was looked at up to here; what matched is held.
    scanned: Revision,
    /// No progress is reported below this revision.
    floor: Revision,
    last_delivered: Option<Revision>,
    /// What is to be delivered next.
    held: Option<Batches>,
    /// Entries taken since the reader last had nothing to deliver.
    taken: u32,
    patient: bool,
    place: Option<Place>,
    canceler: Option<Arc<Canceler>>,
    /// Where the canceler is armed in the topic.
    armed: Option<usize>,
    /// Where it reads what the history does not hold.
    archive: Option<Box<dyn ArchiveReader>>,
    progress: Option<Box<Progress>>,
    /// A report of progress is owed.
    asked: bool,
    left: bool,
}

enum State {
    /// Until the position is known to belong to this history; then `Lagging`, or the end.
    Resuming(Box<Position>),
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
    Deliver(Delivery),
    Again,
    /// Others get to run first.
    Yield,
    Wait,
    End(EndReason),
}

impl Reader {
    pub(super) fn new(
        registry: Arc<WatchRegistry>,
        watcher: Arc<Watcher>,
        request: &WatchRequest,
        after: Revision,
        current: Revision,
        canceler: Option<Arc<Canceler>>,
    ) -> Self {
        let (state, floor) = match request.start {
            Start::Now if request.snapshot => (State::Snapshot(Box::new(Snapshot::Begin)), current),
            Start::Now => (State::Lagging, current),
            Start::At(revision) => (State::Lagging, revision),
            Start::After(position) => (State::Resuming(Box::new(position)), after),
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
        watcher.set_position(after);
        Self {
            registry,
            watcher,
            state,
            after,
            scanned: after,
            floor,
            last_delivered: None,
            held: None,
            taken: 0,
            patient: request.coalesce,
            place: None,
            canceler,
            armed: None,
            archive: None,
            progress,
            asked: false,
            left: false,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        if self.watcher.is_canceled() {
            return Step::End(EndReason::Canceled);
        }
        if let Some(step) = self.deliver_held() {
            return step;
        }
        if self.taken >= BURST {
            self.taken = 0;
            return Step::Yield;
        }
        if matches!(self.registry.finished(), Some(EndReason::Draining { .. })) {
            // A server that goes away does not wait for readers to catch up: they resume elsewhere.
            return Step::End(self.registry.end_reason());
        }
        match &mut self.state {
            State::Resuming(position) => {
                let position = **position;
                self.check_position(position)
            }
            State::Snapshot(_) => self.read_snapshot(),
            State::Lagging => self.read_history(cx),
            State::Synced => self.read_ring(cx),
        }
    }

    fn deliver_held(&mut self) -> Option<Step> {
        let batches = self.held.take()?;
        let Some(canceler) = &self.canceler else {
            self.delivered_through(self.scanned.max(batches.revision()));
            self.last_delivered = Some(batches.last_shown()?);
            return Some(Step::Deliver(Delivery::Batches(batches)));
        };
        // Who may be cancelled in the middle of a run gets it batch by batch.
        let (batch, rest) = batches.split_first();
        let revision = batch.revision();
        if canceler
            .overflowed_at()
            .is_some_and(|overflowed_at| revision >= overflowed_at)
        {
            return Some(Step::End(EndReason::Overflow));
        }
        canceler.delivered_one();
        let through = match rest {
            Some(_) => revision,
            None => revision.max(self.scanned),
        };
        self.held = rest;
        self.delivered_through(through);
        if batch.is_empty() {
            return Some(Step::Again);
        }
        self.last_delivered = Some(revision);
        Some(Step::deliver(batch))
    }

    fn delivered_through(&mut self, revision: Revision) {
        self.after = revision;
        self.watcher.set_position(revision);
    }

    fn hold(&mut self, hold: Arc<Hold>, first: u32) {
        let batches = Batches::new(hold, first, self.watcher.view);
        self.taken = self.taken.saturating_add(batches.len());
        self.held = Some(batches);
    }

    fn set_state(&mut self, state: State) {
        let shown = match state {
            State::Resuming(_) => WatcherState::Starting,
            State::Snapshot(_) => WatcherState::Snapshot,
            State::Lagging => WatcherState::Lagging,
            State::Synced => WatcherState::Synced,
        };
        self.state = state;
        let before = self.watcher.set_state(shown);
        self.registry.turned(before, shown);
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
                self.watcher.set_state(WatcherState::Snapshot);
                return Step::deliver(Batch::snapshot_begin(self.after));
            }
            Snapshot::Page { range, key } => (range, key),
        };
        let ranges = self.watcher.topic.selection.ranges();
        let Some(range) = ranges.get(*at) else {
            let end = Batch::snapshot_end(self.after);
            self.state = State::Lagging;
            return Step::deliver(end);
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
                Step::deliver(Batch::snapshot(self.after, page, self.watcher.view))
            }
            Err(Error::Compacted { .. }) => {
                // It took longer than the history lasts: begin anew, with what is there now.
                self.after = self.registry.history().current();
                (self.scanned, self.floor) = (self.after, self.after);
                self.watcher.set_position(self.after);
                **snapshot = Snapshot::Begin;
                Step::Again
            }
            Err(error) => Step::End(EndReason::Failed(error)),
        }
    }

    fn read_history(&mut self, cx: &mut Context<'_>) -> Step {
        if let Some(place) = self.place.take() {
            self.watcher.topic.unpark(self.patient, place);
        }
        if self.watcher.topic.covers(self.after) {
            if let Some(canceler) = &self.canceler {
                if canceler.overflowed_at().is_some_and(|at| at <= self.after.next()) {
                    // What its room was lost for may hold nothing for it.
                    return Step::End(EndReason::Overflow);
                }
                if self.armed.is_none() {
                    self.armed = self.watcher.topic.arm(canceler, self.after);
                }
                if self.armed.is_none() {
                    // The ring has moved on since it was asked.
                    return Step::Again;
                }
            }
            self.set_state(State::Synced);
            return Step::Again;
        }
        self.set_state(State::Lagging);
        let chunk = match self.registry.history().read_after(self.after, SCAN) {
            Ok(chunk) => {
                self.archive = None;
                chunk
            }
            Err(Error::Compacted { requested, oldest }) => match self.read_archive(cx) {
                None => return Step::End(EndReason::Compacted { requested, oldest }),
                Some(Poll::Pending) => return self.wait_for_archive(cx),
                Some(Poll::Ready(Ok(chunk))) => chunk,
                Some(Poll::Ready(Err(reason))) => return Step::End(reason),
            },
            Err(error) => return Step::End(EndReason::Failed(error)),
        };
        let mut run = OpenRun::default();
        self.scanned = chunk.through;
        let mut before = self.after;
        for record in &chunk.records {
            if let Some(entry) = self.watcher.topic.selection.entry(record) {
                let bytes = record.size();
                if run.is_full_for(bytes, SCAN) {
                    self.scanned = before;
                    break;
                }
                run.push(entry, bytes);
            }
            before = record.revision;
        }
        if let Some(hold) = run.seal() {
            self.hold(hold, 0);
        } else {
            self.delivered_through(self.after.max(self.scanned));
        }
        Step::Again
    }

    /// Reads what the history does not hold; none if there is nowhere to.
    fn read_archive(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<Chunk, EndReason>>> {
        let reader = if let Some(reader) = &mut self.archive {
            reader
        } else {
            let after = Position {
                keyspace: self.registry.history().keyspace(),
                revision: self.after,
            };
            self.archive.insert(self.registry.archive()?.open(after))
        };
        Some(reader.poll_read(self.after, SCAN, cx))
    }

    /// The archive wakes it; so does who cancels it, who looks for it in its topic.
    fn wait_for_archive(&mut self, cx: &mut Context<'_>) -> Step {
        let cursor = self.cursor(cx);
        self.place = Some(self.watcher.topic.park(cursor));
        if self.watcher.is_canceled() {
            // Who canceled it looked for it before it was there.
            return Step::Again;
        }
        Step::Wait
    }

    fn cursor(&mut self, cx: &Context<'_>) -> Cursor {
        Cursor {
            reader: self.watcher.id,
            after: self.after,
            patient: self.patient,
            place: self.place.take(),
            // Cloned here and not while the topic is locked.
            waker: cx.waker().clone(),
        }
    }

    fn read_ring(&mut self, cx: &mut Context<'_>) -> Step {
        // Read before the ring is: what was dispatched by now and is not found was delivered.
        let dispatched = self.registry.dispatched();
        if let Some(place) = &self.place
            && !self.patient
            && place.is_of(cx.waker())
            && self.watcher.topic.is_quiet(place)
        {
            return self.wait(dispatched, cx);
        }
        let cursor = self.cursor(cx);
        match self.watcher.topic.read(cursor) {
            Read::Run(hold, first, place) => {
                self.place = place;
                self.hold(hold, first);
                Step::Again
            }
            Read::Behind => {
                self.set_state(State::Lagging);
                Step::Again
            }
            Read::Finished => Step::End(self.registry.end_reason()),
            Read::Parked(place) => {
                self.place = Some(place);
                self.wait(dispatched, cx)
            }
        }
    }

    /// Waits for more, being parked. What was dispatched, by the time this was asked, was delivered.
    fn wait(&mut self, dispatched: Revision, cx: &mut Context<'_>) -> Step {
        if self.watcher.is_canceled() {
            // Who canceled it looked for it before it was there.
            return Step::Again;
        }
        self.delivered_through(self.after.max(dispatched));
        self.scanned = self.after;
        self.taken = 0;
        self.report_progress(dispatched, cx)
    }

    fn report_progress(&mut self, dispatched: Revision, cx: &mut Context<'_>) -> Step {
        // At the boundary or beyond it: what was dispatched by now was delivered, and before the boundary
        // there is nothing to deliver.
        if self.asked && self.after >= self.floor {
            self.asked = false;
            return Step::deliver(Batch::progress(self.after));
        }
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
                // A reader that has just read the history may be ahead of the dispatcher.
                return Step::deliver(Batch::progress(self.after));
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
            (_, State::Resuming(position)) => Some(**position),
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
                patient: self.patient,
                place: self.place.take(),
                canceler: self.canceler.as_deref(),
                armed: self.armed.take(),
            };
            self.registry.leave(&self.watcher, &leaving);
        }
    }
}

impl Step {
    fn deliver(batch: Batch) -> Self {
        Self::Deliver(Delivery::Batch(batch))
    }
}

impl WatchSource for Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        for _ in 0..STEPS {
            match self.step(cx) {
                Step::Deliver(delivery) => {
                    self.delivered();
                    return Poll::Ready(Ok(delivery));
                }
                Step::Again => {}
                Step::Yield => break,
                Step::Wait => return Poll::Pending,
                Step::End(reason) => return Poll::Ready(Err(self.end(reason))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn request_progress(&mut self) {
        self.asked = true;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}
