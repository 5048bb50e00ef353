//! The answer to a request for progress: one revision for all watches of a stream.
//!
//! It is never less than what any watch of the stream was sent, lest who takes it for its position go
//! back; and never more than what each was sent. So all have to be at one revision while it is told,
//! which under load they are not by themselves. Hence there are two rounds:
//!
//! 1. Every watch has to have what there was when progress was asked for. Nobody waits for anybody: one
//!    that has much to catch up on only delays the answer.
//! 2. If one of them was sent more meanwhile, every watch has to have that too, and stops there, which
//!    is the [barrier](Sweep::barrier). All were near it a moment ago.
//!
//! A watch tells how far it is by what it delivers, or by a report once there is nothing left.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidewatch_core::{BoxFuture, Clock, Revision};

use super::watcher::{Watcher, Watchers};

/// How often watches that wait for a start in the future are asked again. They cannot report as soon as
/// they have delivered what there is, and nobody wakes them for that.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The same while others wait: who has read the history itself may be ahead of those who are told of
/// changes by as long as these may be held back.
const BARRIER_RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Finds out how far all are.
pub(super) struct Sweep {
    clock: Arc<dyn Clock>,
    running: Option<Running>,
    /// It was asked for while it was running, and so has to run again, up to there at least. However
    /// often that was, one more answer will do.
    again: Option<Revision>,
}

struct Running {
    /// How many have not told yet.
    missing: usize,
    least: Option<Revision>,
    /// Who has delivered this need not report.
    target: Revision,
    /// Nobody goes beyond the target.
    barrier: bool,
    retry: BoxFuture<'static, ()>,
    /// One of those that could not report was asked again, the others were not.
    retried: bool,
}

impl Sweep {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            running: None,
            again: None,
        }
    }

    /// Begins, unless there is nobody to ask. `current` is what there is by now. [`retry`](Self::retry)
    /// has to be polled afterwards.
    pub(super) fn request(&mut self, current: Revision, watchers: &mut Watchers) {
        if self.running.is_some() {
            self.again = Some(current);
        } else {
            self.begin(current, false, watchers);
        }
    }

    fn begin(&mut self, target: Revision, barrier: bool, watchers: &mut Watchers) {
        if watchers.is_empty() {
            return;
        }
        watchers.iter_mut().for_each(Watcher::ask);
        self.running = Some(Running {
            missing: watchers.len(),
            least: None,
            target,
            barrier,
            retry: self.clock.sleep(retry_interval(barrier)),
            retried: false,
        });
    }

    /// Includes a watch that was just created: the answer is for it too.
    pub(super) fn joined(&mut self, watcher: &mut Watcher) {
        if let Some(running) = &mut self.running {
            running.missing += 1;
            watcher.ask();
        }
    }

    /// The revision beyond which nobody may say anything for now.
    pub(super) fn barrier(&self) -> Option<Revision> {
        let running = self.running.as_ref().filter(|running| running.barrier);
        running.map(|running| running.target)
    }

    /// Whether who has delivered this is far enough.
    pub(super) fn is_reached(&self, delivered: Revision) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.target <= delivered)
    }

    /// Whether a report of this will do. Who makes another is asked again in a while.
    pub(super) fn takes(&self, reported: Revision) -> bool {
        self.barrier().is_none_or(|barrier| barrier <= reported)
    }

    /// Takes how far a watch is; none: one that was asked has gone. When it was the last, returns what to
    /// answer, if that is known; and [`retry`](Self::retry) has to be polled. `sent` is the last revision
    /// that any watch of the stream was sent.
    pub(super) fn reported(
        &mut self,
        revision: Option<Revision>,
        sent: Revision,
        watchers: &mut Watchers,
    ) -> Poll<Option<Revision>> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        running.missing -= 1;
        running.least = running.least.into_iter().chain(revision).min();
        if running.missing > 0 {
            if std::mem::take(&mut running.retried) {
                owing(watchers).for_each(Watcher::ask);
            }
            return Poll::Pending;
        }
        let (least, barrier) = (running.least, self.barrier());
        self.running = None;
        // The start of each was reached, or it would not have reported.
        let common = watchers
            .iter_mut()
            .map(|watcher| watcher.start)
            .fold(sent, Ord::max);
        if barrier.is_none() && least.is_some_and(|least| least < common) {
            self.begin(common, true, watchers);
            return Poll::Ready(None);
        }
        watchers.iter_mut().for_each(Watcher::release);
        if let Some(current) = self.again.take() {
            self.begin(current, false, watchers);
        }
        Poll::Ready(least.map(|least| barrier.unwrap_or(least)))
    }

    /// Lets those who could not report try again now and then. To be polled whenever that is said, and
    /// when it wakes.
    pub(super) fn retry(&mut self, watchers: &mut Watchers, cx: &mut Context<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        while let Poll::Ready(()) = running.retry.as_mut().poll(cx) {
            running.retry = self.clock.sleep(retry_interval(running.barrier));
            running.retried = true;
            // When the last to start can report, all can.
            if let Some(last) = owing(watchers).max_by_key(|watcher| watcher.start) {
                last.ask();
            }
        }
    }
}

fn retry_interval(barrier: bool) -> Duration {
    if barrier {
        BARRIER_RETRY_INTERVAL
    } else {
        RETRY_INTERVAL
    }
}

/// Those who have not told how far they are.
fn owing(watchers: &mut Watchers) -> impl Iterator<Item = &mut Watcher> {
    watchers.iter_mut().filter(|watcher| watcher.asked)
}
