//! One stream of watches.

use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::Shared;
use futures_util::{FutureExt, Stream};
use tidewatch_core::txn::Header;
use tidewatch_core::watch::{BatchKind, Delivery, EndReason, WatchRequest};
use tidewatch_core::{BoxFuture, Ended, Error, KeyspaceId, Position, Revision};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tonic::{Status, Streaming};

use super::done::{Done, create, current};
use super::form::{Encoded, EtcdEvents, MAX_FRAGMENT_BYTES, pieces};
use super::ready::{Ready, Slot};
use super::sweep::Sweep;
use super::watcher::{Ahead, Watchers};
use super::{Message, StreamHost, request};
use crate::api::EtcdApi;
use crate::error;
use crate::oversized::refusal;

/// The id of no watch: of one that was refused, and of an answer for all.
const NO_WATCH: i64 = -1;

/// Requests taken in one turn, before those who have events get theirs. Bounds how many answers wait to
/// be sent.
const REQUESTS: usize = 16;

/// Turns without a message before other tasks get to run.
const TURNS: usize = 64;

/// Whose turn it is when it is no watch's: requests, what is done for them, and the rest.
const CONTROL: usize = usize::MAX;

/// The messages of one stream.
pub(crate) struct WatchStream {
    api: EtcdApi,
    host: Box<dyn StreamHost>,
    draining: Shared<BoxFuture<'static, ()>>,
    /// None: the client has ended its side.
    requests: Option<Streaming<pb::WatchRequest>>,
    /// What is being done for a request. The next is read when it is done: so they take effect in their
    /// order, and a client that only asks is not read any further.
    doing: Option<BoxFuture<'static, Result<Done, Error>>>,
    watchers: Watchers,
    sweep: Sweep,
    ready: Arc<Ready>,
    control: Arc<Slot>,
    control_waker: Waker,
    /// What is to be sent before anybody gets another turn: the answers to a turn's requests, or the
    /// pieces of one response, which share their bytes.
    outgoing: VecDeque<Message>,
    keyspace: KeyspaceId,
    /// The last revision of which events were sent, or that was told as progress.
    sent: Revision,
    over: bool,
}

impl WatchStream {
    pub(super) fn new(
        api: EtcdApi,
        host: Box<dyn StreamHost>,
        requests: Streaming<pb::WatchRequest>,
    ) -> Self {
        let ready = Arc::<Ready>::default();
        let control = Slot::new(CONTROL, &ready);
        control.again();
        Self {
            sweep: Sweep::new(api.clock.clone()),
            draining: api.draining.clone(),
            api,
            host,
            requests: Some(requests),
            doing: None,
            watchers: Watchers::default(),
            control_waker: control.waker(),
            ready,
            control,
            outgoing: VecDeque::new(),
            // Until the first answer, before which there is none to tell it in.
            keyspace: KeyspaceId(0),
            sent: Revision(0),
            over: false,
        }
    }

    /// Requests, and what comes of them.
    fn take_control(&mut self) -> Result<(), Status> {
        self.control.begin();
        let waker = self.control_waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let mut more = true;
        for _ in 0..REQUESTS {
            more = self.take_step(cx)?;
            if !more {
                break;
            }
        }
        if more {
            self.control.again();
        }
        self.sweep.retry(&mut self.watchers, cx);
        // Watches tell themselves when the server goes away.
        if self.watchers.is_empty() && self.draining.poll_unpin(cx).is_ready() {
            return Err(error::STOPPED.into());
        }
        Ok(())
    }

    /// Finishes what is being done for a request, or reads another. Returns whether there may be more to
    /// do at once.
    fn take_step(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        if self.sweep.barrier().is_some() {
            // Who came or went now would change what is about to be told.
            return Ok(false);
        }
        if let Some(doing) = &mut self.doing {
            let Poll::Ready(done) = doing.as_mut().poll(cx) else {
                return Ok(false);
            };
            self.doing = None;
            self.finish(done.map_err(error::status)?);
            return Ok(true);
        }
        let Some(requests) = &mut self.requests else {
            return Ok(false);
        };
        match Pin::new(requests).poll_next(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(request)) => {
                self.begin(request.map_err(refusal)?);
                Ok(true)
            }
            Poll::Ready(None) => {
                self.requests = None;
                Ok(false)
            }
        }
    }

    fn begin(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(message)) => {
                let (id, fragment) = (message.watch_id, message.fragment);
                let checked = self.check(message);
                let keyspace = self.api.keyspace.clone();
                self.doing = Some(Box::pin(async move {
                    match checked {
                        Ok((request, room)) => create(keyspace, request, room, id, fragment).await,
                        Err(reason) => Ok(Done::Refused(reason, current(&keyspace).await?)),
                    }
                }));
            }
            // To cancel what is not there is no error, and nothing is said to it.
            Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })) => {
                if let Some(watcher) = self.watchers.remove_id(watch_id) {
                    self.has_left(watcher.asked);
                    let keyspace = self.api.keyspace.clone();
                    self.doing = Some(Box::pin(async move {
                        Ok(Done::Canceled(watch_id, current(&keyspace).await?))
                    }));
                }
            }
            // As with etcd, nobody answers where nobody watches.
            Some(RequestUnion::ProgressRequest(_)) if self.watchers.is_empty() => {}
            Some(RequestUnion::ProgressRequest(_)) => {
                let keyspace = self.api.keyspace.clone();
                self.doing = Some(Box::pin(
                    async move { Ok(Done::Progress(current(&keyspace).await?)) },
                ));
            }
            // Of another version; etcd does not mind either.
            None => {}
        }
    }

    /// Checks what can be checked without the keyspace, in etcd's order, and takes room for the watch.
    fn check(
        &mut self,
        message: pb::WatchCreateRequest,
    ) -> Result<(WatchRequest, Box<dyn Any + Send>), String> {
        let id = message.watch_id;
        let request = request::watch(message, self.api.progress_interval, self.host.label())?;
        // The one that stands for no watch cannot be given to one.
        if id == NO_WATCH || (id != 0 && self.watchers.contains(id)) {
            return Err(request::DUPLICATE_ID.into());
        }
        let limit = self.api.limits.max_watches_per_stream;
        if self.watchers.len() >= limit {
            return Err(error::text(&Error::LimitExceeded {
                what: "watches on one stream",
                limit,
            }));
        }
        let room = self.host.room().map_err(|error| error::text(&error))?;
        Ok((request, room))
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Created(new, header) => {
                self.keyspace = header.keyspace;
                let watcher = self.watchers.insert(*new, &self.ready);
                let id = watcher.id;
                self.sweep.joined(watcher);
                self.say(header.revision, id, |head| head.created = true);
            }
            Done::Refused(reason, header) => {
                self.keyspace = header.keyspace;
                self.say(header.revision, NO_WATCH, |head| {
                    (head.created, head.canceled) = (true, true);
                    head.cancel_reason = reason;
                });
            }
            Done::Canceled(id, header) => self.say(header.revision, id, |head| head.canceled = true),
            Done::Progress(header) => {
                self.sweep.request(header.revision, &mut self.watchers);
                // It may have something to wait for.
                self.control.again();
            }
        }
    }

    /// A watch's turn.
    fn deliver(&mut self, key: usize) -> Result<(), Status> {
        let Some(watcher) = self.watchers.get_mut(key) else {
            return Ok(());
        };
        if watcher.is_held() {
            watcher.pass();
            return Ok(());
        }
        let (id, fragment) = (watcher.id, watcher.fragment);
        if let Some(ahead) = watcher.take_ahead() {
            self.send(id, fragment, ahead.revision, ahead.events);
            return Ok(());
        }
        match watcher.poll() {
            Poll::Pending => {}
            Poll::Ready(Ok(Delivery::Batches(batches))) => {
                let revision = batches.revision();
                match self.sweep.barrier() {
                    Some(barrier) if watcher.asked && barrier < revision => {
                        let (within, ahead) = Encoded::split(&batches, barrier);
                        let events = Arc::new(ahead);
                        watcher.hold(Some(Ahead { revision, events }));
                        self.send(id, fragment, barrier, Arc::new(within));
                    }
                    _ => self.send(id, fragment, revision, batches.encoded::<EtcdEvents>()),
                }
                self.has_delivered(key, revision);
            }
            Poll::Ready(Ok(Delivery::Batch(batch))) if batch.kind() == BatchKind::Progress => {
                let revision = batch.revision();
                if !watcher.reports() {
                    self.sent = self.sent.max(revision);
                    self.say(revision, id, |_| {});
                } else if watcher.asked && self.sweep.takes(revision) {
                    watcher.asked = false;
                    if self.sweep.barrier().is_some() {
                        watcher.hold(None);
                    }
                    self.reported(Some(revision));
                }
            }
            Poll::Ready(Ok(Delivery::Batch(batch))) => {
                // A revision that comes in pieces is put together again: whoever reads a part of one and
                // resumes after it would miss the rest.
                watcher.partial.push(&batch);
                if !batch.is_partial() {
                    let revision = batch.revision();
                    let events = Arc::new(std::mem::take(&mut watcher.partial));
                    match self.sweep.barrier() {
                        Some(barrier) if watcher.asked && barrier < revision => {
                            watcher.hold(Some(Ahead { revision, events }));
                        }
                        _ => self.send(id, fragment, revision, events),
                    }
                    self.has_delivered(key, revision);
                }
            }
            Poll::Ready(Err(ended)) => return self.end(key, ended),
        }
        Ok(())
    }

    /// A watch has everything up to a revision, which may be as good as a report: on a busy stream it
    /// may never be one that has nothing left to deliver.
    fn has_delivered(&mut self, key: usize, revision: Revision) {
        let watcher = self.watchers.get_mut(key).filter(|watcher| watcher.asked);
        if let Some(watcher) = watcher
            && self.sweep.is_reached(revision)
        {
            watcher.asked = false;
            if self.sweep.barrier().is_some() && !watcher.is_held() {
                watcher.hold(None);
            }
            self.reported(Some(revision));
        }
    }

    /// Sends events, after which a watch has everything up to `revision`.
    fn send(&mut self, id: i64, fragment: bool, revision: Revision, events: Arc<Encoded>) {
        if events.is_empty() {
            return;
        }
        self.sent = self.sent.max(revision);
        let mut pieces = pieces(events, fragment.then_some(MAX_FRAGMENT_BYTES)).into_iter();
        while let Some(piece) = pieces.next() {
            let last = pieces.as_slice().is_empty();
            let head = self.head(revision, id, |head| head.fragment = !last);
            self.outgoing.push_back(Message { head, rest: piece });
        }
    }

    fn end(&mut self, key: usize, ended: Ended) -> Result<(), Status> {
        let Some(watcher) = self.watchers.remove(key) else {
            return Ok(());
        };
        self.host.ended(ended.reason.name());
        // As with etcd, the end of a watch whose history is gone has no revision.
        let at = ended
            .resume
            .map_or(Revision(0), |Position { revision, .. }| revision);
        let (compacted, reason) = match ended.reason {
            EndReason::Draining { .. } | EndReason::Closed => return Err(error::STOPPED.into()),
            EndReason::Compacted { oldest, .. } => (oldest, String::new()),
            EndReason::Canceled => (Revision(0), error::WATCH_CANCELED.into()),
            EndReason::Failed(error) => (Revision(0), error::text(&error)),
            other => (Revision(0), format!("etcdserver: {other}")),
        };
        self.say(at, watcher.id, |head| {
            head.canceled = true;
            head.compact_revision = crate::api::signed(compacted.0);
            head.cancel_reason = reason;
        });
        self.has_left(watcher.asked);
        Ok(())
    }

    /// A watch is not there any more.
    fn has_left(&mut self, asked: bool) {
        if asked {
            self.reported(None);
        }
        if self.watchers.is_empty() {
            // From now on somebody else has to notice when the server goes away.
            self.control.again();
        }
    }

    /// A watch that was asked how far it is has told it, or has gone.
    fn reported(&mut self, revision: Option<Revision>) {
        let answer = self.sweep.reported(revision, self.sent, &mut self.watchers);
        if let Poll::Ready(answer) = answer {
            if let Some(revision) = answer {
                self.sent = self.sent.max(revision);
                self.say(revision, NO_WATCH, |_| {});
            }
            // It may have begun anew.
            self.control.again();
        }
    }

    /// Sends a message without events.
    fn say(&mut self, revision: Revision, id: i64, fill: impl FnOnce(&mut pb::WatchResponse)) {
        let head = self.head(revision, id, fill);
        self.outgoing.push_back(head.into());
    }

    fn head(
        &self,
        revision: Revision,
        id: i64,
        fill: impl FnOnce(&mut pb::WatchResponse),
    ) -> pb::WatchResponse {
        let header = self.api.header(Header {
            keyspace: self.keyspace,
            revision,
        });
        let mut head = pb::WatchResponse {
            header: Some(header),
            watch_id: id,
            ..pb::WatchResponse::default()
        };
        fill(&mut head);
        head
    }

    /// The client will ask for nothing more, and there is nothing that it is told any more.
    fn is_idle_for_good(&self) -> bool {
        self.requests.is_none() && self.doing.is_none() && self.watchers.is_empty()
    }
}

impl Stream for WatchStream {
    type Item = Result<Message, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        for _ in 0..TURNS {
            if let Some(message) = this.outgoing.pop_front() {
                this.host.sent(message.rest.count);
                return Poll::Ready(Some(Ok(message)));
            }
            if this.over || this.is_idle_for_good() {
                return Poll::Ready(None);
            }
            let Some(key) = this.ready.pop() else {
                if this.ready.wait(cx) {
                    continue;
                }
                return Poll::Pending;
            };
            let turn = if key == CONTROL {
                this.take_control()
            } else {
                this.deliver(key)
            };
            if let Err(status) = turn {
                this.over = true;
                return Poll::Ready(Some(Err(status)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
