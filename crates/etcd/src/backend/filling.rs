//! The work of backfills.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tidewatch_core::{Backoff, Clock, EndReason, Error, KeyspaceId, Record, Replica, Revision};

use super::fill::{Fill, Fills};
use super::identity::marker_range;
use super::marker::Marker;
use super::namespace::Namespace;
use crate::failure::{Failure, FailureKind};
use crate::machine::assembly::Assembly;
use crate::machine::timing::{
    ANSWER_TIMEOUT, CATCH_UP_INTERVAL, CATCH_UP_TIMEOUT, FIRST_PAUSE, LOGIN_TIMEOUT, MAX_PAUSE, QUIET,
};
use crate::machine::{CheckRequest, Checked, Message, OpenRequest};
use crate::transport::{Transport, WatchStream};
use crate::version::Version;

/// How many bytes of records a backfill holds. When the foremost of its readers has read them, the older half goes.
const MAX_BYTES: u64 = 16 << 20;

/// How long the readers of a full backfill may keep still while others wait for a place. Whoever reads at all does so within
/// milliseconds.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What backfills need.
pub(super) struct Filling {
    pub(super) fills: Arc<Fills>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) endpoints: usize,
    pub(super) namespace: Namespace,
    pub(super) replica: Arc<Replica>,
    /// The cluster that is followed.
    pub(super) cluster: Arc<AtomicU64>,
    /// Whether the keyspace's identity is told by a Tidewatch, and not by a marker.
    pub(super) is_tidewatch: bool,
    pub(super) clock: Arc<dyn Clock>,
}

/// Why a stream of a backfill is over.
enum Over {
    /// It has come to where the cache begins.
    Reached,
    /// Nobody reads it.
    Abandoned,
    /// It has nothing to give now, and others wait for its place. Its readers wait with them.
    Yielded,
    /// What it was to begin with is gone.
    Compacted(Revision),
    /// It may not be read.
    Denied(String),
    /// It is to be tried again.
    Failed(Failure),
}

impl Filling {
    /// Fills what is asked for, for ever.
    pub(super) async fn run(&self) {
        let mut running = FuturesUnordered::new();
        loop {
            for fill in self.fills.take_fresh() {
                running.push(self.fill(fill));
            }
            let mut woken = pin!(self.fills.wake.notified());
            poll_fn(|cx| {
                while let std::task::Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
                woken.as_mut().poll(cx)
            })
            .await;
        }
    }

    async fn fill(&self, fill: Arc<Fill>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut endpoint = fastrand::usize(..self.endpoints);
        let reason = loop {
            if fill.is_abandoned() {
                break None;
            }
            match self.stream(&fill, endpoint).await {
                Over::Reached | Over::Abandoned | Over::Yielded => break None,
                Over::Compacted(oldest) => {
                    let requested = fill.history.current().next();
                    break Some(EndReason::Compacted { requested, oldest });
                }
                Over::Denied(reason) => {
                    break Some(EndReason::Failed(Error::PermissionDenied { reason }));
                }
                Over::Failed(error) => {
                    let pause = backoff.next_delay();
                    tracing::warn!(%error, ?pause, "a backfill from etcd is interrupted");
                    endpoint = (endpoint + 1) % self.endpoints;
                    self.clock.sleep(pause).await;
                }
            }
        };
        self.fills.ended(&fill, reason);
    }

    /// Reads on with this member.
    async fn stream(&self, fill: &Fill, endpoint: usize) -> Over {
        let opened = async {
            let (dialed, connection) = self.transport.dial(endpoint).await?;
            let stream = connection
                .open(OpenRequest {
                    range: self.namespace.all(),
                    from: fill.history.current().next(),
                    prev_kv: true,
                })
                .await?;
            // Looked at after the watch was accepted: what it says is of this keyspace's history.
            if self.namespace.has_marker() && !self.is_tidewatch {
                let checked = connection.check(CheckRequest {
                    range: marker_range(&self.namespace),
                    revision: None,
                });
                check_marker(&checked.await?, fill.history.keyspace())?;
            }
            Ok::<_, Failure>((dialed, connection, stream))
        };
        let limit = LOGIN_TIMEOUT + ANSWER_TIMEOUT;
        let (dialed, _connection, stream) = match select(pin!(opened), self.clock.sleep(limit)).await {
            Either::Left((Ok(opened), _)) => opened,
            Either::Left((Err(failure), _)) => return self.failed(failure),
            Either::Right(_) => return Over::Failed(silence(limit)),
        };
        let now = self.clock.now();
        let believes_progress = dialed.version.is_some_and(Version::tells_progress_truly);
        let following = Following {
            filling: self,
            fill,
            stream,
            believes_progress,
            watches_lag: dialed.is_tidewatch && !believes_progress,
            assembly: Assembly::default(),
            heard: now,
            changed: now,
            is_answered: false,
        };
        following.run().await
    }

    /// What is gone, or too large to be had, is as good as compacted: it will not come by trying again. Nor does what is denied;
    /// who resumes later finds out whether it has been granted.
    fn failed(&self, failure: Failure) -> Over {
        match failure.kind {
            FailureKind::Compacted | FailureKind::TooLarge => {
                Over::Compacted(self.replica.extent().watchable)
            }
            FailureKind::Denied => Over::Denied(failure.text),
            _ => Over::Failed(failure),
        }
    }

    /// Where the cache begins: up to there it is to be filled.
    fn target(&self) -> Revision {
        self.replica.extent().watchable.prev()
    }
}

/// A stream of a backfill.
struct Following<'a> {
    filling: &'a Filling,
    fill: &'a Fill,
    stream: Box<dyn WatchStream>,
    believes_progress: bool,
    /// The member may be behind what was read through it; see [`Machine`](crate::machine::Machine).
    watches_lag: bool,
    assembly: Assembly,
    /// When it last said anything.
    heard: Instant,
    /// When it last told of a change.
    changed: Instant,
    /// It has answered how far it is.
    is_answered: bool,
}

impl Following<'_> {
    async fn run(mut self) -> Over {
        let clock = &self.filling.clock;
        let mut ask_at = clock.now() + CATCH_UP_INTERVAL;
        loop {
            if self.fill.is_abandoned() {
                return Over::Abandoned;
            }
            if self.fill.history.current() >= self.filling.target() {
                return Over::Reached;
            }
            if self.is_full() {
                let moved = pin!(self.fill.moved.notified());
                let is_stalled = matches!(select(moved, clock.sleep(STALLED_AFTER)).await, Either::Right(_));
                if is_stalled && self.filling.fills.has_queued() {
                    // What it holds is not to be held beside what its successors hold.
                    self.fill.history.compact(self.fill.history.current().next());
                    return Over::Yielded;
                }
                // Nobody listened meanwhile.
                self.heard = clock.now();
                continue;
            }
            let message = {
                let stream = &mut self.stream;
                let said = poll_fn(|cx| stream.poll_message(cx));
                let moved = pin!(self.fill.moved.notified());
                match select(said, select(clock.sleep_until(ask_at), moved)).await {
                    Either::Left((message, _)) => Some(message),
                    Either::Right(_) => None,
                }
            };
            let now = clock.now();
            match message {
                Some(Ok(message)) => {
                    self.heard = now;
                    if let Some(over) = self.told(message, now) {
                        return over;
                    }
                }
                Some(Err(failure)) => return self.filling.failed(failure),
                None if now >= self.heard + CATCH_UP_TIMEOUT => {
                    return Over::Failed(silence(CATCH_UP_TIMEOUT));
                }
                None => {}
            }
            if now >= ask_at {
                ask_at = now + CATCH_UP_INTERVAL;
                self.stream.ask_progress();
            }
            // An older etcd answers whether or not events are on their way, so silence proves nothing: until an event comes that the
            // cache has too, it may have more to tell. While it has nothing, others may have the place.
            if self.is_answered
                && !self.assembly.is_open()
                && now >= self.changed + QUIET
                && self.filling.fills.has_queued()
            {
                return Over::Yielded;
            }
        }
    }

    /// Whether no more is to be read now.
    fn is_full(&self) -> bool {
        let history = &self.fill.history;
        if history.bytes() <= MAX_BYTES {
            return false;
        }
        if !self.fill.is_read() {
            return true;
        }
        while history.bytes() > MAX_BYTES / 2
            && let Some(first) = history.front()
        {
            history.compact(first.revision.next());
        }
        false
    }

    fn told(&mut self, message: Message, now: Instant) -> Option<Over> {
        let header = message.header;
        if header.cluster != 0 && header.cluster != self.filling.cluster.load(Ordering::Relaxed) {
            return Some(Over::Failed(Failure::unreachable("another cluster answers")));
        }
        if message.compact_revision > Revision(0) {
            return Some(Over::Compacted(message.compact_revision));
        }
        if message.canceled {
            return Some(self.filling.failed(Failure::canceled(&message.reason)));
        }
        if message.created {
            let is_behind = header.revision > Revision(0) && header.revision < self.fill.history.current();
            let text = "the member that accepted the watch is behind what was read";
            return (is_behind && !self.watches_lag).then(|| Over::Failed(Failure::unreachable(text)));
        }
        if message.events.is_empty() && !message.fragment {
            if !self.assembly.is_open() {
                if self.believes_progress {
                    self.advance(header.revision);
                } else {
                    self.is_answered = true;
                }
            }
            return None;
        }
        self.changed = now;
        self.is_answered = false;
        let delivered = self.fill.history.current();
        for record in self.assembly.add(message.events, message.fragment, delivered) {
            self.append(record);
        }
        self.fill.tell();
        None
    }

    fn append(&self, record: Record) {
        let namespace = &self.filling.namespace;
        let events: Box<[_]> = record
            .events
            .into_iter()
            .filter_map(|event| namespace.event(event))
            .collect();
        if events.is_empty() {
            self.fill.history.advance(record.revision);
        } else {
            self.fill.history.append([Arc::new(Record { events, ..record })]);
        }
    }

    fn advance(&self, revision: Revision) {
        self.fill.history.advance(revision);
        self.fill.tell();
    }
}

/// Whether the marker that was read is this keyspace's. A cluster that lost its history keeps its id, but not its marker, as soon as
/// that is found out.
fn check_marker(checked: &Checked, keyspace: KeyspaceId) -> Result<(), Failure> {
    let marker = checked
        .found
        .as_ref()
        .and_then(|kv| Marker::decode(&kv.value).ok());
    if marker.is_some_and(|marker| marker.keyspace(checked.header.cluster) == keyspace) {
        Ok(())
    } else {
        Err(Failure::unreachable("another keyspace answers"))
    }
}

fn silence(limit: Duration) -> Failure {
    Failure::unreachable(format!("no answer within {limit:?}"))
}

#[cfg(test)]
mod tests;
