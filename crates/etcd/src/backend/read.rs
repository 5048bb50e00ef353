//! Reads and the beginnings of watches: how far the cache has to be for them.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tidewatch_core::error::Cause;
use tidewatch_core::key::RangeEnd;
use tidewatch_core::txn::{Header, Op, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::{Start, WatchRequest};
use tidewatch_core::{Error, KeyRange, KeyspaceId, Position, Revision, Watch};

use super::Inner;
use super::identity::marker_range;
use crate::calls::{CallFailure, Refusal};
use crate::failure::Failure;
use crate::machine::OpenRequest;

/// How long the cache may take to come to where etcd is: another member, and an election.
pub(super) const CATCH_UP_BUDGET: Duration = Duration::from_secs(8);

/// After so long without an event etcd is asked how far the watch is. Events are there within a millisecond or two.
const FIRST_ASK: Duration = Duration::from_millis(2);

/// How often it is asked again: a member may be behind the one that told the revision.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// How long an event is waited for where there may be none and nothing else would tell.
const EVENT_GRACE: Duration = Duration::from_millis(20);

/// The same of a Tidewatch that does tell progress. It may have come to an etcd that does not since it said so.
const PROGRESS_GRACE: Duration = Duration::from_secs(1);

/// How long it may take to find out where history begins. etcd looks after such watches every 100 ms.
const FLOOR_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the cache is, seen from a revision that etcd has come to.
pub(super) enum Caught {
    /// It has everything up to there.
    Up,
    /// It may have; nobody can tell.
    Unproven(Revision),
}

impl Inner {
    pub(super) async fn range(&self, request: RangeRequest) -> Result<(Header, RangeResponse), Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        if !request.serializable
            && let Caught::Unproven(_) = self.catch_up().await?
        {
            return self.range_there(&request).await;
        }
        match self.replica.range(request.clone()).await {
            Err(Error::Compacted { .. }) => self.range_there(&request).await,
            answer => answer,
        }
    }

    /// Reads in etcd.
    async fn range_there(&self, request: &RangeRequest) -> Result<(Header, RangeResponse), Error> {
        if let Some(requested) = request.revision {
            self.check_compacted(requested)?;
        }
        let there = self.shared.namespace.request(request);
        match self.shared.upstream.range(&there).await {
            Ok((header, response)) => Ok((
                self.header(header.revision),
                self.shared.namespace.ranged(response),
            )),
            Err(failure) => {
                let requested = request.revision.unwrap_or_default();
                Err(self.read_error(failure, requested, requested).await)
            }
        }
    }

    /// Carries out a transaction that only reads.
    pub(super) async fn reads(&self, txn: &Txn) -> Result<TxnResponse, Error> {
        if is_serializable(txn) || matches!(self.catch_up().await?, Caught::Up) {
            match self.replica.reads(txn) {
                Err(Error::Compacted { .. }) => {}
                answer => return answer,
            }
        }
        let (oldest, newest) = revisions(txn);
        if oldest > Revision(0) {
            self.check_compacted(oldest)?;
        }
        let there = self.shared.namespace.txn(txn);
        match self.shared.upstream.reads(&there).await {
            Ok((header, (succeeded, responses))) => Ok(TxnResponse {
                header: self.header(header.revision),
                succeeded,
                responses: self.shared.namespace.responses(responses),
            }),
            Err(failure) => Err(self.read_error(failure, oldest, newest).await),
        }
    }

    fn check_compacted(&self, requested: Revision) -> Result<(), Error> {
        let oldest = self.compacted();
        if requested < oldest {
            return Err(Error::Compacted { requested, oldest });
        }
        Ok(())
    }

    /// What a failed read means that asked for these revisions.
    pub(super) async fn read_error(&self, failure: CallFailure, oldest: Revision, newest: Revision) -> Error {
        match failure {
            CallFailure::NotDone(failure) | CallFailure::Lost(failure) => Error::Unavailable(cause(failure)),
            CallFailure::Refused(refusal, text) => match refusal {
                Refusal::Compacted => self.compacted_error(oldest).await,
                Refusal::Future => Error::FutureRevision {
                    requested: newest,
                    current: self.replica.position().revision,
                },
                Refusal::Denied => Error::PermissionDenied { reason: text },
                Refusal::AnswerTooLarge => Error::InvalidArgument {
                    what: "range",
                    reason: "what it holds is more than etcd sends in one answer; read it with a limit"
                        .into(),
                },
                _ => Error::Unsupported { what: text },
            },
        }
    }

    /// etcd refuses a revision that it has forgotten, and does not say where it begins. A watch is told.
    pub(super) async fn compacted_error(&self, requested: Revision) -> Error {
        if requested >= self.compacted() {
            self.find_floor(requested).await;
        }
        Error::Compacted {
            requested,
            oldest: self.compacted().max(requested.next()),
        }
    }

    /// Finds out where etcd's history begins, as far as a watch from `from` is told.
    pub(super) async fn find_floor(&self, from: Revision) {
        let namespace = &self.shared.namespace;
        let find = async {
            let range = if namespace.has_marker() {
                marker_range(namespace)
            } else {
                // A Tidewatch has no key with so long a name. A watch of another one may have nothing to tell, so this is asked first.
                let range = KeyRange::unchecked(&b"\0"[..], RangeEnd::Single);
                let read = RangeRequest {
                    revision: Some(from),
                    ..RangeRequest::new(range.clone())
                };
                if self.shared.upstream.range(&read).await.is_ok() {
                    return Ok(());
                }
                range
            };
            let endpoint = fastrand::usize(..self.shared.access.endpoints().max(1));
            let (_, connection) = self.shared.transport.dial(endpoint).await?;
            let mut stream = connection
                .open(OpenRequest {
                    range,
                    from,
                    prev_kv: false,
                })
                .await?;
            loop {
                let message = std::future::poll_fn(|cx| stream.poll_message(cx)).await?;
                if message.compact_revision > Revision(0) {
                    self.note_compacted(message.compact_revision);
                }
                // The marker was written once, which is told if it is still known.
                if message.canceled || !message.events.is_empty() {
                    return Ok::<_, Failure>(());
                }
            }
        };
        select(pin!(find), self.shared.clock.sleep(FLOOR_TIMEOUT)).await;
    }

    /// Waits until the cache holds everything that was acknowledged to anybody before this was asked.
    pub(super) async fn catch_up(&self) -> Result<Caught, Error> {
        let late = |what: &str| {
            let text = format!("{what} within {CATCH_UP_BUDGET:?}");
            Error::Unavailable(cause(Failure::unreachable(text)))
        };
        let mut budget = self.shared.clock.sleep(CATCH_UP_BUDGET);
        loop {
            if self.is_closed() {
                return Err(Error::Closed);
            }
            let before = self.replica.position();
            let head = match select(pin!(self.shared.upstream.head()), budget).await {
                Either::Left((Ok(header), rest)) => {
                    budget = rest;
                    header.revision
                }
                Either::Left((Err(failure), _)) => {
                    return Err(self.read_error(failure, Revision(0), Revision(0)).await);
                }
                Either::Right(_) => {
                    return Err(match self.shared.upstream.failure() {
                        Some(failure) => Error::Unavailable(cause(failure)),
                        None => late("etcd has not told its revision"),
                    });
                }
            };
            if head >= before.revision {
                match select(pin!(self.catch_up_from(before.keyspace, head)), budget).await {
                    // The keyspace has become another one meanwhile.
                    Either::Left((Err(Error::KeyspaceChanged { .. }), rest)) => budget = rest,
                    Either::Left((outcome, _)) => return outcome,
                    Either::Right(_) => {
                        return Err(late(&format!(
                            "the watch of etcd has not come to revision {head}"
                        )));
                    }
                }
            }
            // A cluster that shows less than it has shown is another one; whoever follows it finds that out.
            match select(self.shared.clock.sleep(ASK_INTERVAL), budget).await {
                Either::Left(((), rest)) => budget = rest,
                Either::Right(_) => return Err(late("etcd has shown no revision as new as one before")),
            }
        }
    }

    /// Waits until the cache has come to a revision of etcd's.
    ///
    /// # Errors
    /// [`Error::KeyspaceChanged`], [`Error::Unavailable`].
    pub(super) async fn catch_up_to(&self, revision: Revision) -> Result<Caught, Error> {
        self.catch_up_from(self.replica.position().keyspace, revision)
            .await
    }

    async fn catch_up_from(&self, keyspace: KeyspaceId, revision: Revision) -> Result<Caught, Error> {
        let mut reached = pin!(self.replica.reached(Position { keyspace, revision }));
        if let Some(reached) = reached.as_mut().now_or_never() {
            return reached.map(|()| Caught::Up);
        }
        let begun = self.shared.clock.now();
        let mut pause = FIRST_ASK;
        loop {
            match select(reached, self.shared.clock.sleep(pause)).await {
                Either::Left((outcome, _)) => return outcome.map(|()| Caught::Up),
                Either::Right(((), rest)) => reached = rest,
            }
            let now = self.shared.clock.now();
            let waited = now - begun;
            let grace = if self.shared.believes_progress() {
                // At first what was asked before this began to wait was too early to know; later it may just not have helped.
                let since = now.checked_sub(pause).map_or(begun, |since| since.max(begun));
                self.shared.ask_progress(since);
                self.shared.is_tidewatch().then_some(PROGRESS_GRACE)
            } else {
                (!self.shared.has_every_revision()).then_some(EVENT_GRACE)
            };
            if grace.is_some_and(|grace| waited >= grace) {
                return Ok(Caught::Unproven(revision));
            }
            pause = ASK_INTERVAL;
            if waited >= CATCH_UP_BUDGET {
                let text = format!(
                    "the watch of etcd has not come to revision {revision} within {CATCH_UP_BUDGET:?}"
                );
                return Err(Error::Unavailable(cause(Failure::unreachable(text))));
            }
        }
    }

    pub(super) async fn watch(&self, mut request: WatchRequest) -> Result<Watch, Error> {
        request.validate()?;
        if self.is_closed() {
            return self.replica.watch(request);
        }
        let now = self.replica.position();
        let is_known = match request.start {
            Start::Now => false,
            Start::At(_) => true,
            Start::After(position) => position.keyspace == now.keyspace && position.revision <= now.revision,
        };
        if !is_known && let Caught::Unproven(head) = self.catch_up().await? {
            match request.start {
                Start::Now if request.snapshot => self.prove_state().await?,
                // What comes to the cache late is before it.
                Start::Now => request.start = Start::At(head.next()),
                Start::After(position) if position.keyspace == now.keyspace && position.revision <= head => {
                    request.start = Start::At(position.revision.next());
                }
                Start::At(_) | Start::After(_) => {}
            }
        }
        self.replica.watch(request)
    }

    /// Waits until what is in the cache is what etcd holds, though nobody tells up to which revision: no key was written since, and
    /// there are as many. It takes etcd a look at every key.
    async fn prove_state(&self) -> Result<(), Error> {
        let begun = self.shared.clock.now();
        loop {
            let extent = self.replica.extent();
            let newer = RangeRequest {
                min_mod_revision: Some(extent.current.next()),
                limit: Some(1),
                keys_only: true,
                ..RangeRequest::new(KeyRange::all())
            };
            let (_, newer) = self.range_there(&newer).await?;
            if newer.kvs.is_empty() && newer.count == extent.keys {
                return Ok(());
            }
            if self.shared.clock.now() - begun >= CATCH_UP_BUDGET {
                let text = "the watch of etcd does not show what etcd holds";
                return Err(Error::Unavailable(cause(Failure::unreachable(text))));
            }
            let next = Position {
                revision: extent.current.next(),
                ..self.replica.position()
            };
            let more = pin!(self.replica.reached(next));
            select(more, self.shared.clock.sleep(ASK_INTERVAL)).await;
        }
    }
}

/// Whether all that a transaction does is to read what may be old.
fn is_serializable(txn: &Txn) -> bool {
    let mut ops = txn.then.iter().chain(&txn.otherwise).peekable();
    ops.peek().is_some() && ops.all(|op| matches!(op, Op::Range(request) if request.serializable))
}

/// The lowest and the highest revision that a transaction reads at; zero if it reads at none but the current one.
pub(super) fn revisions(txn: &Txn) -> (Revision, Revision) {
    let mut found = (Revision(0), Revision(0));
    let mut add = |(oldest, newest): (Revision, Revision)| {
        if oldest > Revision(0) && (found.0 == Revision(0) || oldest < found.0) {
            found.0 = oldest;
        }
        found.1 = found.1.max(newest);
    };
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Range(RangeRequest {
                revision: Some(revision),
                ..
            }) => add((*revision, *revision)),
            Op::Txn(txn) => add(revisions(txn)),
            Op::Range(_) | Op::Put(_) | Op::Delete(_) => {}
        }
    }
    found
}

pub(super) fn cause(failure: Failure) -> Cause {
    std::sync::Arc::new(failure)
}
