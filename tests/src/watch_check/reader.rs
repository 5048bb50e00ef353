//! Those who watch, and the record of what they were told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use fastrand::Rng;
use tidewatch_core::check::{Observed, Violation};
use tidewatch_core::watch::{OnOverflow, Start, WatchRequest};
use tidewatch_core::{Batch, BatchKind, EndReason, Ended, Keyspace, Position, Watch};

use super::goal::Goals;
use super::plan::Plan;
use super::report::Counts;
use super::round::patiently;
use super::writer::Written;

/// How often a watcher leaves, or is ended, before it stays.
const MAX_STREAMS: usize = 100;

/// A watcher of a round.
pub(super) struct Reader {
    pub(super) plan: Plan,
    pub(super) keyspace: Keyspace,
    pub(super) rng: Rng,
    pub(super) counts: Arc<Counts>,
    pub(super) goals: Goals,
    pub(super) patience: Duration,
    pub(super) written: Arc<Written>,
}

/// What a watcher was told.
pub(super) struct Told {
    pub(super) plan: Plan,
    /// One after the other.
    pub(super) streams: Vec<Stream>,
    /// Why it has not got to the goal.
    pub(super) stuck: Option<Violation>,
}

/// What one watch told.
pub(super) struct Stream {
    /// Whether it goes on where the one before was left.
    pub(super) resumes: bool,
    pub(super) observed: Observed,
}

/// Why a stream was left.
enum Left {
    /// It has got to the goal.
    Arrived,
    /// The reader goes, and comes back.
    Gone,
    /// By its own end.
    Ended(Ended),
    /// Nothing comes any more.
    Stuck,
}

impl Reader {
    /// Watches until it has got to the goal.
    pub(super) async fn run(mut self) -> anyhow::Result<Told> {
        self.joining().await;
        let mut request = self.plan.request.clone();
        let mut streams = Vec::new();
        let stuck = loop {
            let backend = self.keyspace.backend();
            let started = patiently(|| backend.watch(request.clone())).await;
            let mut watch = started.context("failed to start a watch")?;
            let resumes = !streams.is_empty() && matches!(request.start, Start::After(_));
            self.counts.stream(resumes);
            let mut observed = Observed::new(request.clone(), watch.created());
            let stays = streams.len() >= MAX_STREAMS;
            let left = self.read(&mut watch, &mut observed, stays).await;
            let resume = match &left {
                Left::Arrived | Left::Gone | Left::Stuck => watch.position(),
                Left::Ended(ended) => {
                    self.counts.ended(ended);
                    observed.end(ended.clone());
                    ended.resume
                }
            };
            streams.push(Stream { resumes, observed });
            match left {
                Left::Arrived => break None,
                Left::Stuck => break Some(self.nothing_comes(resume)),
                Left::Gone => {}
                Left::Ended(ended) => {
                    if let Err(violation) = can_go_on(&ended, watch.created())? {
                        break Some(violation);
                    }
                }
            }
            request = self.next_request(resume, stays);
        };
        Ok(Told {
            plan: self.plan,
            streams,
            stuck,
        })
    }

    async fn joining(&mut self) {
        let joins_after = self.plan.joins_after;
        tokio::select! {
            () = self.written.reached(joins_after) => {}
            _ = self.goals.wait() => {}
        }
    }

    fn next_request(&self, resume: Option<Position>, stays: bool) -> WatchRequest {
        let mut request = self.plan.request.clone();
        if let Some(position) = resume {
            request.start = Start::After(position);
            request.snapshot = false;
        }
        if stays {
            request.on_overflow = OnOverflow::CatchUp;
        }
        request
    }

    async fn read(&mut self, watch: &mut Watch, observed: &mut Observed, stays: bool) -> Left {
        let leaves_after = self.plan.leaves_after.filter(|_| !stays);
        let mut left = leaves_after.map(|most| self.rng.usize(1..=most));
        loop {
            if self.has_arrived(watch) {
                return Left::Arrived;
            }
            if left == Some(0) {
                return Left::Gone;
            }
            left = left.map(|left| left - 1);
            if !observed.batches().is_empty() {
                self.pause().await;
            }
            match self.next(watch).await {
                Some(Ok(batch)) => {
                    match batch.kind() {
                        BatchKind::Events => self.counts.delivered(batch.len()),
                        BatchKind::Progress => self.counts.progress(),
                        BatchKind::SnapshotBegin | BatchKind::Snapshot | BatchKind::SnapshotEnd => {}
                    }
                    observed.see(batch);
                }
                Some(Err(ended)) => return Left::Ended(ended),
                None if self.has_arrived(watch) => return Left::Arrived,
                None => return Left::Stuck,
            }
        }
    }

    fn has_arrived(&self, watch: &Watch) -> bool {
        let Some(goal) = self.goals.known() else {
            return false;
        };
        let goal = goal.of(self.plan.request.view);
        watch.position().is_some_and(|position| position.revision >= goal)
    }

    /// The next thing the watch says. None if the goal becomes known and the reader is there, or if nothing comes
    /// although it is not.
    async fn next(&mut self, watch: &mut Watch) -> Option<Result<Batch, Ended>> {
        if self.goals.known().is_none() {
            tokio::select! {
                next = watch.next() => return Some(next),
                _ = self.goals.wait() => {}
            }
        }
        // It may also have become known while the reader took its time, after the last thing there was.
        if self.has_arrived(watch) {
            return None;
        }
        tokio::time::timeout(self.patience, watch.next()).await.ok()
    }

    fn nothing_comes(&self, position: Option<Position>) -> Violation {
        let goal = self.goals.known().map(|goal| goal.of(self.plan.request.view));
        let detail = format!(
            "{goal:?} did not come within {:?}, it stands at {position:?}",
            self.patience
        );
        Violation {
            promise: "Reliable",
            detail,
        }
    }

    /// Takes its time, as long as there is more to come.
    async fn pause(&mut self) {
        let Some(longest) = self.plan.pause.filter(|_| self.goals.known().is_none()) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(longest.mul_f64(self.rng.f64())) => {}
            _ = self.goals.wait() => {}
        }
    }
}

/// Whether another watch can follow on this end. One that goes by a position of this very keyspace has to be taken for it.
fn can_go_on(ended: &Ended, created: Position) -> anyhow::Result<Result<(), Violation>> {
    match &ended.reason {
        EndReason::Canceled | EndReason::Overflow => Ok(Ok(())),
        EndReason::KeyspaceChanged { actual, current } if *actual == created.keyspace => Ok(Err(Violation {
            promise: "Resumable",
            detail: format!("the server told the position {created} and is at {current}"),
        })),
        EndReason::KeyspaceChanged { .. } => bail!("the server has another keyspace than before: {ended}"),
        _ => Err(ended.clone()).context("a watch cannot go on"),
    }
}
