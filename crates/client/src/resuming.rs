//! A stream from a server that is opened again whenever it breaks off.
//!
//! There is no task: the stream is driven by whoever reads it, and only then takes anything from the
//! connection. So a reader that stops is felt by the server through HTTP/2's flow control.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use tidewatch_core::{Backoff, BoxFuture, EndReason, Ended, Position};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::connection::{Attempts, Connection, Place};
use crate::failure::{Failure, Intent};
use crate::reconnect::{FIRST_WATCH_PAUSE, MAX_WATCH_PAUSE, Reconnect};

/// What is said on a stream, whatever it runs on: requests go out, responses come in, and between
/// them it is known what the reader has got.
pub(crate) trait Conversation: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    type Item;

    /// What to ask for now.
    fn request(&mut self) -> Self::Request;

    /// Sends it.
    fn send(channel: Channel, request: Request<Self::Request>) -> Sent<Self::Response>;

    /// The responses that say the same one by one, to be taken in order.
    fn unpack(response: Self::Response) -> impl Iterator<Item = Self::Response> {
        std::iter::once(response)
    }

    /// Takes what has arrived.
    fn take(&mut self, response: Self::Response) -> Step<Self::Item>;

    /// Where the reader can go on.
    fn resume(&self) -> Option<Position>;

    /// The end.
    fn ended(&self, reason: EndReason) -> Ended;

    /// After how long without a word the stream counts as dead. None: silence is no sign.
    fn silence(&self) -> Option<Duration>;
}

pub(crate) type Sent<R> = BoxFuture<'static, Result<Response<Streaming<R>>, Status>>;

/// What follows from a response.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// Something for the reader.
    Deliver(T),
    /// Nothing for the reader.
    Ignore,
    /// The server knows the reader again; what follows is new.
    Resumed,
    /// The stream has to be opened again, not before this time has passed.
    Interrupted(String, Duration),
    /// It is over.
    End(Ended),
}

/// The stream.
pub(crate) struct Resuming<C: Conversation> {
    connection: Arc<Connection>,
    conversation: C,
    state: State<C::Response>,
    backoff: Backoff,
    /// The attempts since it last worked, and since when it does not.
    attempt: u32,
    interrupted: Option<Instant>,
    /// The end of the client, and then the moment at which waiting for the last events ends.
    closed: BoxFuture<'static, EndReason>,
    closing: Option<(EndReason, BoxFuture<'static, ()>)>,
    /// When the silence counts as death; set while the reader waits.
    dead: Option<BoxFuture<'static, ()>>,
}

enum State<R> {
    /// The pause before the next attempt. Leads to `Opening`.
    Waiting(BoxFuture<'static, ()>),
    /// Leads to `Open`, or back to `Waiting`.
    Opening(BoxFuture<'static, Result<Open<R>, Failure>>),
    /// Leads to `Waiting` when it breaks off, and to `Over`.
    Open(Open<R>),
    /// Final.
    Over(Ended),
}

/// An open stream, with its place on a connection.
pub(crate) struct Open<R> {
    stream: Streaming<R>,
    /// What has arrived together with what was taken.
    arrived: VecDeque<R>,
    /// Which server it comes from.
    at: usize,
    _place: Place,
}

impl<R> Open<R> {
    pub(crate) fn server(&self) -> usize {
        self.at
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> Result<R, Status> {
        let next = self.stream.message().await?;
        next.ok_or_else(|| Status::unavailable(BROKEN_OFF))
    }
}

/// How long a watch whose client is closed waits for what the client itself has written.
const CLOSING: Duration = Duration::from_millis(500);

fn now() -> BoxFuture<'static, ()> {
    Box::pin(std::future::ready(()))
}

const BROKEN_OFF: &str = "the server ended the stream without a reason";

/// Opens the stream of a conversation, on the server in use.
pub(crate) fn open<C: Conversation>(
    connection: Arc<Connection>,
    request: C::Request,
    deadline: Instant,
) -> BoxFuture<'static, Result<Open<C::Response>, Failure>> {
    let (channel, place, at) = connection.watch_channel();
    let sent = C::send(channel, connection.request(request));
    Box::pin(async move {
        let answer = connection.in_time(deadline, sent).await;
        if answer.is_err() {
            connection.leave(at);
        }
        Ok(Open {
            stream: answer?.into_inner(),
            arrived: VecDeque::new(),
            at,
            _place: place,
        })
    })
}

/// Tries to begin a conversation, as often as a call may be made: opens its stream and waits for the
/// first response.
pub(crate) async fn begin<C: Conversation>(
    connection: &Arc<Connection>,
    request: impl Fn() -> C::Request,
) -> Result<(Open<C::Response>, C::Response), Failure> {
    let mut attempts: Attempts = connection.attempts();
    loop {
        let opened = open::<C>(connection.clone(), request(), attempts.deadline).await;
        let failure = match opened {
            Ok(mut open) => match connection.in_time(attempts.deadline, open.next()).await {
                Ok(first) => return Ok((open, first)),
                Err(failure) => {
                    connection.leave(open.server());
                    failure
                }
            },
            Err(failure) => failure,
        };
        attempts.again(connection, failure, Intent::Read).await?;
    }
}

impl<C: Conversation> Resuming<C> {
    /// Goes on with a stream that has been opened.
    pub(crate) fn new(connection: Arc<Connection>, conversation: C, open: Open<C::Response>) -> Self {
        Self {
            closed: Box::pin(connection.closed()),
            closing: None,
            connection,
            conversation,
            state: State::Open(open),
            backoff: Backoff::new(FIRST_WATCH_PAUSE, MAX_WATCH_PAUSE),
            attempt: 0,
            interrupted: None,
            dead: None,
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<C::Item, Ended>> {
        loop {
            if let State::Over(ended) = &self.state {
                return Poll::Ready(Err(ended.clone()));
            }
            if let Some(reason) = self.closes(cx) {
                self.state = State::Over(self.conversation.ended(reason));
                continue;
            }
            match &mut self.state {
                State::Over(_) => {}
                State::Waiting(pause) => {
                    ready!(pause.poll_unpin(cx));
                    self.reopen();
                }
                State::Opening(opening) => match ready!(opening.poll_unpin(cx)) {
                    Ok(open) => self.state = State::Open(open),
                    Err(failure) => self.failed(failure),
                },
                State::Open(open) if !open.arrived.is_empty() => {
                    let response = open.arrived.pop_front();
                    if let Some(item) = response.and_then(|response| self.take(response)) {
                        return Poll::Ready(Ok(item));
                    }
                }
                State::Open(open) => match open.stream.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(response))) => {
                        self.dead = None;
                        open.arrived.extend(C::unpack(response));
                    }
                    Poll::Ready(Some(Err(status))) => self.failed(status.into()),
                    Poll::Ready(None) => self.failed(Failure::Lost(BROKEN_OFF.into())),
                    Poll::Pending => {
                        if self.closing.is_some() && self.has_seen_own_writes() {
                            self.closing = self.closing.take().map(|(reason, _)| (reason, now()));
                            continue;
                        }
                        ready!(self.poll_dead(cx));
                        self.failed(Failure::Lost("the server has fallen silent".into()));
                    }
                },
            }
        }
    }

    /// Why it is over, if the client was closed and there is nothing left to wait for.
    fn closes(&mut self, cx: &mut Context<'_>) -> Option<EndReason> {
        if self.closing.is_none() {
            let Poll::Ready(reason) = self.closed.poll_unpin(cx) else {
                return None;
            };
            let clock = &self.connection.settings().clock;
            self.closing = Some((reason, clock.sleep(CLOSING)));
        }
        let is_open = matches!(self.state, State::Open(_));
        self.closing
            .take_if(|(_, enough)| !is_open || enough.poll_unpin(cx).is_ready())
            .map(|(reason, _)| reason)
    }

    fn has_seen_own_writes(&self) -> bool {
        let written = self.connection.acknowledged();
        self.conversation
            .resume()
            .is_none_or(|seen| seen.revision >= written)
    }

    fn take(&mut self, response: C::Response) -> Option<C::Item> {
        match self.conversation.take(response) {
            Step::Deliver(item) => {
                self.backoff.reset();
                return Some(item);
            }
            Step::Ignore => self.backoff.reset(),
            Step::Resumed => self.resumed(),
            Step::Interrupted(error, pause) => self.interrupt(error, pause),
            Step::End(ended) => self.state = State::Over(ended),
        }
        None
    }

    /// Waits for the moment at which the silence that lasts since the reader began to wait counts as
    /// death. The time in which nobody read does not count.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(silence) = self.conversation.silence() else {
            return Poll::Pending;
        };
        let clock = &self.connection.settings().clock;
        self.dead
            .get_or_insert_with(|| clock.sleep(silence))
            .poll_unpin(cx)
    }

    fn failed(&mut self, failure: Failure) {
        if failure.is_interruption() {
            return self.interrupt(failure.text(), Duration::ZERO);
        }
        let reason = match failure.into_keyspace_error(Intent::Read) {
            tidewatch_core::Error::Compacted { requested, oldest } => {
                EndReason::Compacted { requested, oldest }
            }
            tidewatch_core::Error::KeyspaceChanged { actual, current } => {
                EndReason::KeyspaceChanged { actual, current }
            }
            error => EndReason::Failed(error),
        };
        self.state = State::Over(self.conversation.ended(reason));
    }

    fn interrupt(&mut self, error: String, at_least: Duration) {
        if let State::Open(open) = &self.state {
            self.connection.leave(open.server());
        }
        let settings = self.connection.settings();
        let now = settings.clock.now();
        let since = *self.interrupted.get_or_insert(now);
        self.dead = None;
        self.attempt += 1;
        if settings
            .give_up_after
            .is_some_and(|limit| now.duration_since(since) >= limit)
        {
            let error = tidewatch_core::Error::Unavailable(tidewatch_proto::error::cause(error));
            self.state = State::Over(self.conversation.ended(EndReason::Failed(error)));
            return;
        }
        let retry_in = at_least + self.backoff.next_delay();
        let report = Reconnect::Lost {
            error,
            attempt: self.attempt,
            retry_in,
            resume: self.conversation.resume(),
        };
        if self.attempt == 1 {
            tracing::warn!("watch interrupted: {report}");
        } else {
            tracing::debug!(attempt = self.attempt, "watch not resumed: {report}");
        }
        self.tell(&report);
        let clock = &self.connection.settings().clock;
        self.state = State::Waiting(clock.sleep(retry_in));
    }

    fn reopen(&mut self) {
        let connection = self.connection.clone();
        let settings = connection.settings();
        let deadline = settings.clock.now() + settings.request_timeout;
        let request = self.conversation.request();
        self.state = State::Opening(open::<C>(connection, request, deadline));
    }

    fn resumed(&mut self) {
        let report = Reconnect::Resumed {
            attempts: self.attempt,
            resume: self.conversation.resume(),
        };
        self.attempt = 0;
        self.interrupted = None;
        tracing::info!("watch resumed: {report}");
        self.tell(&report);
    }

    fn tell(&self, report: &Reconnect) {
        if let Some(tell) = &self.connection.settings().on_reconnect {
            tell(report);
        }
    }
}
