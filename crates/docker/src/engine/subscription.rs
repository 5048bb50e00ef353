//! A running subscription to `/events`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use hyper::body::{Body, Incoming};
use tidewatch_core::{BoxFuture, Clock};

use super::event;
use super::transport::Transport;
use crate::event::DockerEvent;
use crate::lister::ListError;

/// The longest line that is kept to be read. An event is some 500 bytes and its labels; a label may be long.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The events of one connection.
///
/// It ends with an error when the connection breaks, and with `None` when Docker closes it or when nothing at all
/// has come for [`Deadlines::idle`](super::Deadlines::idle): a proxy may have forgotten a connection without saying so.
pub struct Subscription {
    transport: Transport,
    body: Incoming,
    lines: Lines,
    unreadable: u64,
    clock: Arc<dyn Clock>,
    idle: Duration,
    last_heard: Instant,
    watchdog: BoxFuture<'static, ()>,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(transport: Transport, body: Incoming, clock: Arc<dyn Clock>, idle: Duration) -> Self {
        Self {
            transport,
            body,
            lines: Lines::default(),
            unreadable: 0,
            last_heard: clock.now(),
            watchdog: clock.sleep(idle),
            clock,
            idle,
            ended: false,
        }
    }

    /// How many events could not be read, or not be attributed, so far. Each was reported as a
    /// [`DockerEvent::Doubt`] too.
    pub fn doubts(&self) -> u64 {
        self.unreadable
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
            if let Some(DockerEvent::Doubt { reason }) = &event {
                self.unreadable += 1;
                tracing::debug!(address = %self.transport.address(), reason, "an event puts everything in doubt");
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.watchdog.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let deadline = self.last_heard + self.idle;
            if self.clock.now() >= deadline {
                return Poll::Ready(());
            }
            self.watchdog = self.clock.sleep_until(deadline);
        }
    }
}

impl Stream for Subscription {
    type Item = Result<DockerEvent, ListError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(event) = this.next_event() {
                return Poll::Ready(Some(Ok(event)));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.last_heard = this.clock.now();
                    if let Ok(data) = frame.into_data() {
                        this.lines.push(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(this.transport.fault(error))));
                }
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    std::task::ready!(this.poll_idle(cx));
                    tracing::debug!(address = %this.transport.address(), idle = ?this.idle, "no event for so long that the connection is made anew");
                    this.ended = true;
                }
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("address", &format_args!("{}", self.transport.address()))
            .field("doubts", &self.unreadable)
            .field("ended", &self.ended)
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
