//! What the reader of a watch has got, and so where its watch goes on. No input, no output: what is
//! said to it is what a server said, and what it answers is done by others.

use std::time::Duration;

use tidewatch_core::watch::{Batch, BatchKind, EndReason, Ended, Start, View, WatchRequest};
use tidewatch_core::{Error, Position, Revision};
use tidewatch_proto::watch::{Created, Delivery};

use crate::resuming::Step;

#[cfg(test)]
mod tests;

/// How often the server is to tell how far an idle watch is, if its reader has not asked. The
/// position of a watch whose keys rest moves on by this alone, so that what it resumes from is not
/// compacted; and a server that has fallen silent is found by it. It is the server's own default.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How many reports of progress may be missing before the server counts as dead.
const MISSED_REPORTS: u32 = 3;

/// Where a watch is.
pub(crate) struct Resume {
    request: WatchRequest,
    phase: Phase,
    /// The end of what has been delivered whole; the keyspace it belongs to stays the same. Its
    /// revision does not count until `resumable`.
    at: Position,
    resumable: bool,
    /// A revision that has been delivered in part, and how many of its events.
    partial: Option<(Revision, usize)>,
    /// How many events of that revision are still to arrive for the second time.
    repeated: usize,
    last_delivered: Option<Revision>,
}

/// What is expected from the server.
enum Phase {
    /// `created`, on a new connection. Leads to `Snapshot`, `Tail` or `Foreign`.
    Reopened,
    /// The entries, or the begin of them. Leads to `Tail`.
    Snapshot,
    /// Events and progress. Leads to `Snapshot` if the server starts over.
    Tail,
    /// The end: this keyspace is another.
    Foreign(Created),
}

/// The request as the server gets it.
pub(super) fn asked(request: &WatchRequest) -> WatchRequest {
    WatchRequest {
        progress_interval: request.progress_interval.or(Some(PROGRESS_INTERVAL)),
        ..request.clone()
    }
}

impl Resume {
    /// A watch that the server has created.
    pub(super) fn new(request: WatchRequest, created: &Created) -> Self {
        let keyspace = match request.start {
            Start::After(position) => position.keyspace,
            Start::Now | Start::At(_) => created.boundary.keyspace,
        };
        let phase = first_phase(&request);
        Self {
            request,
            phase,
            at: Position {
                keyspace,
                revision: created.boundary.revision,
            },
            resumable: created.resumable,
            partial: None,
            repeated: 0,
            last_delivered: None,
        }
    }

    /// Where it begins. Of a watch that was given a position, this is of that position's keyspace,
    /// even if the server turns out to have another.
    pub(super) fn boundary(&self) -> Position {
        self.at
    }

    /// What to ask for on a new connection.
    pub(super) fn reopen(&mut self) -> WatchRequest {
        self.phase = Phase::Reopened;
        let mut request = asked(&self.request);
        if let Some(position) = self.position() {
            request.start = Start::After(position);
            request.snapshot = false;
        }
        request
    }

    /// Takes what the server said.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Step<Batch> {
        match (&self.phase, delivery) {
            (Phase::Reopened, Delivery::Created(created)) => self.created(created),
            (_, Delivery::Created(_)) => self.violated("it creates the watch a second time"),
            (_, Delivery::Ended(ended)) => self.server_ended(ended),
            (Phase::Foreign(created), Delivery::Batch(_)) => Step::End(self.changed(created)),
            (Phase::Reopened, Delivery::Batch(_)) => self.violated("it does not say where the watch begins"),
            (_, Delivery::Batch(batch)) => self.batch(batch),
        }
    }

    /// The end of a watch whose server does not keep its promises: better than to pass on what is
    /// wrong.
    pub(super) fn violated(&self, how: &str) -> Step<Batch> {
        let what = format!("the way this server watches: {how}");
        Step::End(self.end(EndReason::Failed(Error::Unsupported { what })))
    }

    pub(super) fn end(&self, reason: EndReason) -> Ended {
        let lost = matches!(
            reason,
            EndReason::Compacted { .. } | EndReason::KeyspaceChanged { .. }
        );
        Ended {
            reason,
            last_delivered: self.last_delivered,
            resume: self.position().filter(|_| !lost),
        }
    }

    /// Where to go on; none while there is nowhere but the start.
    pub(super) fn position(&self) -> Option<Position> {
        self.resumable.then_some(self.at)
    }

    pub(super) fn view(&self) -> View {
        self.request.view
    }

    pub(super) fn silence(&self) -> Option<Duration> {
        let interval = self.request.progress_interval.unwrap_or(PROGRESS_INTERVAL);
        // Before a start that lies in the future there is no progress to tell.
        let speaks = self.resumable || self.request.snapshot || matches!(self.phase, Phase::Reopened);
        speaks.then_some(interval * MISSED_REPORTS)
    }

    fn created(&mut self, created: Created) -> Step<Batch> {
        if created.boundary.keyspace != self.at.keyspace {
            if self.resumable {
                // The server was asked for a position, and will say what its keyspace has instead.
                self.phase = Phase::Foreign(created);
                return Step::Ignore;
            }
            return Step::End(self.changed(&created));
        }
        if self.resumable {
            self.phase = Phase::Tail;
        } else {
            self.phase = first_phase(&self.request);
            self.resumable = created.resumable;
            self.at = created.boundary;
        }
        self.repeated = self.partial.map_or(0, |(_, events)| events);
        Step::Resumed
    }

    fn changed(&self, created: &Created) -> Ended {
        self.end(EndReason::KeyspaceChanged {
            actual: created.boundary.keyspace,
            current: created.boundary.revision,
        })
    }

    fn server_ended(&mut self, ended: Ended) -> Step<Batch> {
        match ended.reason {
            EndReason::Draining { retry_after } => {
                Step::Interrupted("the server is shutting down".into(), retry_after)
            }
            EndReason::Closed | EndReason::Failed(Error::Closed | Error::Unavailable(_)) => {
                Step::Interrupted(
                    format!("the server ended the watch: {}", ended.reason),
                    Duration::ZERO,
                )
            }
            reason => Step::End(self.end(reason)),
        }
    }

    fn batch(&mut self, batch: Batch) -> Step<Batch> {
        let in_snapshot = matches!(self.phase, Phase::Snapshot);
        match batch.kind() {
            BatchKind::SnapshotBegin if !self.request.snapshot => {
                self.violated("it sends a snapshot that was not asked for")
            }
            BatchKind::SnapshotBegin => {
                self.phase = Phase::Snapshot;
                self.resumable = false;
                (self.partial, self.repeated) = (None, 0);
                Step::Deliver(batch)
            }
            BatchKind::Snapshot if in_snapshot => Step::Deliver(batch),
            BatchKind::SnapshotEnd if in_snapshot => {
                self.phase = Phase::Tail;
                self.whole(batch.revision());
                Step::Deliver(batch)
            }
            BatchKind::Snapshot | BatchKind::SnapshotEnd => {
                self.violated("it sends a snapshot that has not begun")
            }
            BatchKind::Events | BatchKind::Progress if in_snapshot => {
                self.violated("it does not complete the snapshot")
            }
            BatchKind::Progress => self.progress(batch),
            BatchKind::Events => self.events(batch),
        }
    }

    fn progress(&mut self, batch: Batch) -> Step<Batch> {
        let revision = batch.revision();
        if self.partial.is_some_and(|(partial, _)| revision >= partial) {
            return self.violated("it reports progress before a revision is complete");
        }
        if revision < self.at.revision || (revision == self.at.revision && !self.resumable) {
            // From before its start, where nothing can be missing.
            return Step::Ignore;
        }
        self.whole(revision);
        if self.request.progress_interval.is_some() {
            Step::Deliver(batch)
        } else {
            Step::Ignore
        }
    }

    fn events(&mut self, batch: Batch) -> Step<Batch> {
        let revision = batch.revision();
        if revision <= self.at.revision {
            return self.violated("it repeats a revision");
        }
        let before = match self.partial {
            Some((partial, _)) if partial != revision => {
                return self.violated("it leaves out the rest of a revision");
            }
            Some((_, events)) => events,
            None => 0,
        };
        let total = batch.len();
        let again = total.min(self.repeated);
        self.repeated -= again;
        if batch.is_partial() {
            self.partial = Some((revision, before + total - again));
            if again == total {
                return Step::Ignore;
            }
        } else if again == total {
            return self.violated("a revision has fewer events than it had before");
        } else {
            self.last_delivered = Some(revision);
            self.whole(revision);
        }
        Step::Deliver(without_first(batch, again))
    }

    /// Everything up to here has been delivered.
    fn whole(&mut self, revision: Revision) {
        self.at.revision = revision;
        self.resumable = true;
        (self.partial, self.repeated) = (None, 0);
    }
}

fn first_phase(request: &WatchRequest) -> Phase {
    if request.snapshot {
        Phase::Snapshot
    } else {
        Phase::Tail
    }
}

/// The batch without its first `n` events.
fn without_first(batch: Batch, n: usize) -> Batch {
    if n == 0 {
        return batch;
    }
    let rest = batch
        .iter()
        .skip(n)
        .map(tidewatch_core::watch::EventRef::to_owned);
    let (revision, time, view) = (batch.revision(), batch.time(), batch.view());
    Batch::events(revision, time, rest.collect(), view, batch.is_partial())
}
