//! A running subscription to `/events`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use hyper::body::{Body, Incoming};
use tidewatch_core::{BoxFuture, Clock};

use super::echo::Echoes;
use super::{Engine, event};
use crate::event::DockerEvent;
use crate::lister::ListError;

/// The longest line that is kept to be read. An event is some 500 bytes and its labels; a label may be long.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A connection that lasted so long is worth making anew. One that did not would only end again.
///
/// Each renewal leads to a full resync, which this bounds to twelve a minute.
const WORTH_RENEWING: Duration = Duration::from_secs(5);

/// The events of an engine.
///
/// A connection that ends after it has lasted for a while is made anew here, with a replay of what happened since
/// the last event, and a [`DockerEvent::Doubt`]: proxies cut a quiet connection after some minutes
/// (docker-socket-proxy 62), or forget it without a word, which is what [`Deadlines::idle`](super::Deadlines::idle)
/// is for. Neither means that Docker is not there. Some events are told again a moment later, because the engine told
/// them before its lists show what they tell. Where that fails, or where connections end at once, so does the
/// subscription, with the reason.
pub struct Subscription {
    engine: Engine,
    state: State,
    lines: Lines,
    echoes: Echoes,
    doubts: u64,
    /// Where a replay begins: at the last event, else where the caller had it begin.
    since: Option<SystemTime>,
    connected: Instant,
    last_heard: Instant,
    watchdog: BoxFuture<'static, ()>,
}

enum State {
    /// Exits: to `Renewing` or `Ended` when the connection ends or brings nothing.
    Reading(Incoming),
    /// Exits: to `Reading` when there is a new connection, to `Ended` when there is none.
    Renewing {
        connection: BoxFuture<'static, Result<Incoming, ListError>>,
        reason: String,
    },
    /// For good.
    Ended,
}

impl Subscription {
    pub(super) fn new(engine: Engine, body: Incoming, since: Option<SystemTime>) -> Self {
        let now = engine.clock.now();
        Self {
            state: State::Reading(body),
            lines: Lines::default(),
            echoes: Echoes::new(Arc::clone(&engine.clock)),
            doubts: 0,
            since,
            connected: now,
            last_heard: now,
            watchdog: engine.clock.sleep(engine.deadlines.idle),
            engine,
        }
    }

    /// How many [`DockerEvent::Doubt`]s there were so far.
    pub fn doubts(&self) -> u64 {
        self.doubts
    }

    /// The next event among the lines that have come.
    fn next_event(&mut self) -> Option<DockerEvent> {
        while let Some(line) = self.lines.next() {
            let event = match line {
                Line::Whole(line) => event::decode(&line),
                Line::TooLong => Some(DockerEvent::Doubt {
                    reason: format!("an event is longer than {MAX_LINE_BYTES} bytes"),
                }),
            };
            let Some(event) = event else { continue };
            match &event {
                DockerEvent::Doubt { .. } => self.doubts += 1,
                DockerEvent::Container { time, .. } => self.since = time.or(self.since),
            }
            self.echoes.add(&event);
            return Some(event);
        }
        None
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.watchdog.as_mut().poll(cx));
            let deadline = self.last_heard + self.engine.deadlines.idle;
            if self.clock().now() >= deadline {
                return Poll::Ready(());
            }
            self.watchdog = self.clock().sleep_until(deadline);
        }
    }

    /// What follows when a connection has come to its end: a new one, or the end of all, with this error if there
    /// is one.
    fn end_connection(&mut self, reason: String, error: Option<ListError>) -> Option<ListError> {
        if self.clock().now() - self.connected < WORTH_RENEWING {
            self.state = State::Ended;
            return error;
        }
        let (engine, since) = (self.engine.clone(), self.since);
        self.state = State::Renewing {
            connection: Box::pin(async move { engine.open_events(since).await }),
            reason,
        };
        None
    }

    fn renewed(&mut self, body: Incoming, reason: &str) -> DockerEvent {
        self.state = State::Reading(body);
        // What is left of a line that was cut has no end.
        self.lines = Lines::default();
        self.connected = self.clock().now();
        self.last_heard = self.connected;
        self.watchdog = self.clock().sleep(self.engine.deadlines.idle);
        self.doubts += 1;
        DockerEvent::Doubt {
            reason: format!("{reason}; subscribed anew"),
        }
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.engine.clock
    }
}

impl Stream for Subscription {
    type Item = Result<DockerEvent, ListError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.next_event() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Poll::Ready(event) = this.echoes.poll_next(cx)
                && !matches!(this.state, State::Ended)
            {
                return Poll::Ready(Some(Ok(event)));
            }
            let error = match &mut this.state {
                State::Reading(body) => match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        this.last_heard = this.clock().now();
                        if let Ok(data) = frame.into_data() {
                            this.lines.push(&data);
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let error = this.engine.transport.fault(error);
                        this.end_connection("the events were cut off".to_owned(), Some(error))
                    }
                    Poll::Ready(None) => this.end_connection("the events ended".to_owned(), None),
                    Poll::Pending => {
                        ready!(this.poll_idle(cx));
                        let idle = this.engine.deadlines.idle;
                        this.end_connection(format!("no event came for {} s", idle.as_secs()), None)
                    }
                },
                State::Renewing { connection, reason } => match ready!(connection.as_mut().poll(cx)) {
                    Ok(body) => {
                        let reason = std::mem::take(reason);
                        return Poll::Ready(Some(Ok(this.renewed(body, &reason))));
                    }
                    Err(error) => {
                        this.state = State::Ended;
                        Some(error)
                    }
                },
                State::Ended => return Poll::Ready(None),
            };
            if let Some(error) = error {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("engine", &self.engine)
            .field("doubts", &self.doubts)
            .finish_non_exhaustive()
    }
}

/// Lines out of pieces.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// How much of the buffer has been searched for the end of a line.
    searched: usize,
    /// Whether what comes, up to the next end of a line, belongs to a line that was too long.
    skipping: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Bytes),
    TooLong,
}

impl Lines {
    fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    fn next(&mut self) -> Option<Line> {
        loop {
            let Some(found) = self.buffer[self.searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            else {
                self.searched = self.buffer.len();
                return self.give_up_if_too_long();
            };
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) || line.trim_ascii().is_empty() {
                continue;
            }
            return Some(if line.len() > MAX_LINE_BYTES {
                Line::TooLong
            } else {
                Line::Whole(line)
            });
        }
    }

    fn give_up_if_too_long(&mut self) -> Option<Line> {
        if self.buffer.len() <= MAX_LINE_BYTES && !self.skipping {
            return None;
        }
        self.buffer.clear();
        self.searched = 0;
        (!std::mem::replace(&mut self.skipping, true)).then_some(Line::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_line_is_whole_however_it_was_cut_on_the_way() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for byte in b"one\n\ntwo\r\nthree" {
            lines.push(&[*byte]);
            seen.extend(lines.next());
        }
        assert_eq!(seen, [whole("one"), whole("two\r")]);
        lines.push(b"\nfour\nfi");
        assert_eq!(lines.next(), Some(whole("three")));
        assert_eq!(lines.next(), Some(whole("four")));
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn a_line_without_end_is_told_once_costs_no_memory_and_the_next_is_read() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; 64 * 1024];
        let mut told = 0;
        for _ in 0..64 {
            lines.push(&piece);
            while let Some(line) = lines.next() {
                assert_eq!(line, Line::TooLong);
                told += 1;
            }
            assert!(lines.buffer.len() <= MAX_LINE_BYTES);
        }
        assert_eq!(told, 1);
        lines.push(b"the end of it\nnext\n");
        assert_eq!(lines.next(), Some(whole("next")));
        assert_eq!(lines.next(), None);
    }
}
