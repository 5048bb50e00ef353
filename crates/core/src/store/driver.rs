//! What runs for an embedded keyspace: commits, the expiry of leases, compaction, dispatch.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::shared::Shared;
use super::write::{Answers, Reply, Write};
use crate::backoff::Backoff;
use crate::error::Error;
use crate::journal::Journal;
use crate::revision::Revision;
use crate::txn::Header;
use crate::watch::{EndReason, WatchDispatcher, WatchRegistry};

/// How many changes wait for the driver before their callers wait for room. A few groups' worth.
pub(super) const MAX_QUEUED: usize = 4096;

/// Most changes in a group. Beyond this a commit takes longer for its bytes, not for its sync.
const MAX_GROUP_WRITES: usize = 1024;

/// A group is complete when it has this many bytes of keys and values. Its last member may be as
/// large as a transaction can be.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of keys and values that wait for the driver: a few groups' worth, too.
pub(super) const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// Most leases that end in one group. Each may take many keys with it.
const MAX_EXPIRED_AT_ONCE: usize = 64;

/// Pauses after the journal failed at what the driver does by itself.
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The one task of an embedded keyspace. It owns the journal.
pub(super) struct Driver {
    shared: Arc<Shared>,
    registry: Arc<WatchRegistry>,
    journal: Option<Box<dyn Journal>>,
    /// With a journal, the changes to commit.
    queue: Option<mpsc::Receiver<Write>>,
    /// A compaction that came while a group gathered: it is next.
    compaction: Option<(Revision, Reply<Header>)>,
    /// When to look at the age of the history again.
    next_age_check: Instant,
    /// Until when leases and history are left alone, after the journal failed.
    paused_until: Option<Instant>,
    backoff: Backoff,
    /// What is done for the dispatcher in the end; `run` takes it over.
    rest: Option<Rest>,
}

/// Why the driver goes on.
enum Step {
    /// A change came.
    Write(Write),
    /// A deadline passed, or somebody asked it to look.
    Look,
    /// All is done.
    End,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        registry: Arc<WatchRegistry>,
        journal: Option<(Box<dyn Journal>, mpsc::Receiver<Write>)>,
    ) -> Self {
        let (journal, queue) = journal.unzip();
        let next_age_check = shared.clock.now();
        let rest = Some(Rest::new(registry.clone()));
        Self {
            shared,
            registry,
            journal,
            queue,
            compaction: None,
            next_age_check,
            paused_until: None,
            backoff: Backoff::new(RETRY_BASE, RETRY_MAX),
            rest,
        }
    }

    /// Runs until the keyspace is closed and all that was accepted is done and handed to watchers.
    pub(super) async fn run(mut self) {
        // Dropped last: the work may be done, and the driver with it, while there is still something to hand on.
        let mut rest = self.rest.take();
        let mut dispatch = pin!(WatchDispatcher::new(self.registry.clone()).run());
        let mut work = pin!(self.work());
        let (mut working, mut dispatching) = (true, true);
        poll_fn(|cx| {
            working = working && work.as_mut().poll(cx).is_pending();
            dispatching = dispatching && dispatch.as_mut().poll(cx).is_pending();
            if working || dispatching {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        if let Some(rest) = &mut rest {
            rest.handed_on = true;
        }
    }

    async fn work(mut self) {
        loop {
            self.expire_leases().await;
            self.bound_history().await;
            match self.step().await {
                Step::Write(write) => self.take(write).await,
                Step::Look => {}
                Step::End => break,
            }
        }
    }

    async fn step(&mut self) -> Step {
        if self.shared.closing().is_some() {
            return match &mut self.queue {
                Some(queue) => {
                    queue.close();
                    queue.recv().await.map_or(Step::End, Step::Write)
                }
                None => Step::End,
            };
        }
        let mut sleep = self.shared.clock.sleep_until(self.next_look());
        let mut woken = pin!(self.shared.wake.notified());
        let queue = &mut self.queue;
        poll_fn(|cx| {
            if let Some(queue) = queue
                && let Poll::Ready(write) = queue.poll_recv(cx)
            {
                return Poll::Ready(write.map_or(Step::End, Step::Write));
            }
            let look = woken.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready();
            if look {
                Poll::Ready(Step::Look)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The next moment at which there is something to do.
    fn next_look(&self) -> Instant {
        let deadline = self.shared.read().next_deadline();
        let next = deadline.map_or(self.next_age_check, |at| at.min(self.next_age_check));
        self.paused_until.map_or(next, |until| next.max(until))
    }

    async fn take(&mut self, first: Write) {
        let group = self.gather(first);
        if !group.is_empty() {
            self.commit_group(group).await;
        }
        if let Some((revision, reply)) = self.compaction.take() {
            let done = self.compact_on_request(revision).await;
            // Whoever asked may have gone.
            drop(reply.send(done));
        }
    }

    /// What has gathered while the last group was written.
    fn gather(&mut self, first: Write) -> Vec<Write> {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(write) = next {
            if let Write::Compact(revision, reply) = write {
                self.compaction = Some((revision, reply));
                break;
            }
            if let Write::Txn(_, room, _) = &write {
                bytes += room.num_permits();
            }
            group.push(write);
            if group.len() >= MAX_GROUP_WRITES || bytes >= MAX_GROUP_BYTES {
                break;
            }
            next = self.queue.as_mut().and_then(|queue| queue.try_recv().ok());
        }
        group
    }

    async fn commit_group(&mut self, group: Vec<Write>) {
        let answers = Answers::evaluate(&self.shared, &mut self.shared.write(), group);
        let committed = self.commit().await;
        answers.send(&committed);
    }

    /// Makes durable and visible what was evaluated, or takes it back.
    async fn commit(&mut self) -> Result<(), Error> {
        let entries = self.shared.read().entries();
        let done = match &mut self.journal {
            Some(journal) if !entries.is_empty() => journal.commit(entries).await,
            _ => Ok(()),
        };
        let mut state = self.shared.write();
        match done {
            Ok(()) => {
                state.publish(&self.shared.history);
                Ok(())
            }
            Err(cause) => {
                state.undo();
                Err(Error::Journal(cause))
            }
        }
    }

    /// Ends the leases that have expired, each at a revision of its own.
    async fn expire_leases(&mut self) {
        let now = self.shared.clock.now();
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        {
            let mut state = self.shared.write();
            let expired = state.expired(now, MAX_EXPIRED_AT_ONCE);
            if expired.is_empty() {
                return;
            }
            for id in expired {
                // It is there, because nobody else ends leases between the two.
                let ended = state.end_lease(id, self.shared.clock.system_time());
                debug_assert!(ended.is_ok());
            }
        }
        let committed = self.commit().await;
        self.pause_after(committed, "expire leases");
    }

    /// Compacts when the history has outgrown its window.
    async fn bound_history(&mut self) {
        let now = self.shared.clock.now();
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        // If there is more to forget, it looks again as soon as those who wait have had their turn.
        if let Some(target) = self.shared.outgrown(&mut self.next_age_check) {
            let compacted = self.compact(target).await;
            self.pause_after(compacted, "compact the history");
        }
    }

    async fn compact_on_request(&mut self, revision: Revision) -> Result<Header, Error> {
        let committed = {
            let state = self.shared.read();
            state.check_compaction(revision)?;
            state.committed()
        };
        self.compact(revision).await?;
        Ok(self.shared.header(committed))
    }

    /// The journal first: what it no longer has must not be promised any longer, but may be there.
    async fn compact(&mut self, target: Revision) -> Result<(), Error> {
        if let Some(journal) = &mut self.journal {
            journal.compact(target).await.map_err(Error::Journal)?;
        }
        self.shared.compact(target).await;
        Ok(())
    }

    fn pause_after(&mut self, result: Result<(), Error>, what: &str) {
        let Err(error) = result else {
            self.backoff.reset();
            self.paused_until = None;
            return;
        };
        let pause = self.backoff.next_delay();
        self.paused_until = Some(self.shared.clock.now() + pause);
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(cause, ?pause, "failed to {what}: {error}");
    }
}

impl Drop for Driver {
    /// Without its driver a keyspace is at its end: whoever waits for something is told so.
    fn drop(&mut self) {
        self.shared.close(EndReason::Closed);
        self.registry
            .close(self.shared.closing().unwrap_or(EndReason::Closed));
    }
}

/// Hands on what is committed when it is dropped, if its dispatcher did not come to that: because it was
/// dropped as well, or never run.
struct Rest {
    registry: Arc<WatchRegistry>,
    handed_on: bool,
}

impl Rest {
    fn new(registry: Arc<WatchRegistry>) -> Self {
        Self {
            registry,
            handed_on: false,
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.handed_on {
            return;
        }
        // The registry is closed by now, so that another dispatcher waits for nothing.
        let mut dispatch = pin!(WatchDispatcher::new(self.registry.clone()).run());
        let mut cx = Context::from_waker(Waker::noop());
        while dispatch.as_mut().poll(&mut cx).is_pending() {}
    }
}
