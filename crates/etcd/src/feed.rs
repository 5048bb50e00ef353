//! The machine with a transport and a clock: a range of etcd as a sequence of deliveries.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidewatch_core::{BoxFuture, Clock};
use tokio::sync::watch;

use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::machine::{Action, Checked, Dialed, Input, Machine, Page, Selection};
use crate::phase::Phase;
use crate::transport::{Answer, Connection, Transport, WatchStream};

/// A watched range.
///
/// It does something only while [`next`](Self::next) is awaited, and holds no more than one message of etcd's that has not been
/// taken. A consumer that pauses stops etcd by HTTP/2's flow control; one that pauses for seconds is not told apart from an
/// etcd that does, and goes on with another connection.
pub struct Feed {
    machine: Machine,
    transport: Box<dyn Transport>,
    clock: Arc<dyn Clock>,
    pending: Pending,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    updates: VecDeque<Update>,
    health: watch::Sender<Health>,
}

/// Something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A piece of what was read.
    Delivery(Delivery),
    /// The watch is doing otherwise than before.
    Phase(Phase),
}

/// How a watch is doing, and since when what it delivered is known to be all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How it is doing.
    pub phase: Phase,
    /// When what was delivered was last known to be what etcd holds; none before the first time.
    pub confirmed: Option<Instant>,
}

/// Follows the health of a feed.
#[derive(Clone, Debug)]
pub struct HealthReader(watch::Receiver<Health>);

/// What has been asked and not answered.
#[derive(Default)]
struct Pending {
    connection: Option<Box<dyn Connection>>,
    dialing: Option<Answer<(Dialed, Box<dyn Connection>)>>,
    listing: Option<Answer<Page>>,
    checking: Option<Answer<Checked>>,
    opening: Option<Answer<Box<dyn WatchStream>>>,
    stream: Option<Box<dyn WatchStream>>,
}

impl Feed {
    /// A feed that begins when it is first asked. There are `endpoints` of them; `with_password` as in [`Machine::new`].
    pub fn new(
        selection: Selection,
        transport: impl Transport,
        endpoints: usize,
        with_password: bool,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let machine = Machine::new(
            selection,
            endpoints,
            with_password,
            fastrand::u64(..),
            clock.now(),
        );
        let health = watch::Sender::new(Health {
            phase: machine.phase().clone(),
            confirmed: None,
        });
        Self {
            machine,
            transport: Box::new(transport),
            clock,
            pending: Pending::default(),
            timer: None,
            updates: VecDeque::new(),
            health,
        }
    }

    /// What comes next; none after it was stopped. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            if let Some(update) = self.updates.pop_front() {
                return Some(update);
            }
            if *self.machine.phase() == Phase::Stopped {
                return None;
            }
            let input = poll_fn(|cx| self.poll_input(cx)).await;
            let is_message = matches!(input, Input::Message(_));
            self.step(input);
            if is_message {
                // A stream that always has something must not keep the clock from being looked at.
                self.step(Input::Time);
            }
        }
    }

    /// Ends it: all that is open is closed, and what was delivered stays to be taken.
    pub fn stop(&mut self) {
        self.step(Input::Stop);
    }

    /// Follows how it is doing, also from other tasks.
    pub fn health(&self) -> HealthReader {
        HealthReader(self.health.subscribe())
    }

    /// Whether `Progress` is delivered whenever the member tells it; see [`Machine::believes_progress`].
    pub fn believes_progress(&self) -> bool {
        self.machine.believes_progress()
    }

    /// Asks the watch how far it is, where the answer is believed. It is delivered as `Progress`.
    pub fn ask_progress(&mut self) {
        if let Some(stream) = &mut self.pending.stream
            && self.machine.believes_progress()
        {
            stream.ask_progress();
        }
    }

    fn step(&mut self, input: Input) {
        // While it catches up, the time of arrival says nothing about the time of a change; also not that of the message
        // with which it has caught up.
        let was_live = *self.machine.phase() == Phase::Live;
        for action in self.machine.step(self.clock.now(), input) {
            self.carry_out(action, was_live);
        }
        let (phase, confirmed) = (self.machine.phase(), self.machine.confirmed());
        self.health.send_if_modified(|health| {
            health.confirmed = confirmed;
            let is_news = health.phase != *phase;
            if is_news {
                health.phase = phase.clone();
            }
            is_news
        });
    }

    fn carry_out(&mut self, action: Action, was_live: bool) {
        let Pending {
            connection,
            dialing,
            listing,
            checking,
            opening,
            stream,
        } = &mut self.pending;
        match action {
            Action::Dial { endpoint } => *dialing = Some(self.transport.dial(endpoint)),
            Action::List(request) => {
                *listing = connection.as_ref().map(|connection| connection.list(request));
            }
            Action::Check(request) => {
                *checking = connection.as_ref().map(|connection| connection.check(request));
            }
            Action::Open(request) => {
                *stream = None;
                *opening = connection.as_ref().map(|connection| connection.open(request));
            }
            Action::AskProgress => {
                if let Some(stream) = stream {
                    stream.ask_progress();
                }
            }
            Action::CloseWatch => {
                (*opening, *stream, *checking) = (None, None, None);
            }
            Action::HangUp => self.pending = Pending::default(),
            Action::Deliver(mut delivery) => {
                if let Delivery::Record(record) = &mut delivery
                    && was_live
                {
                    record.time = Some(self.clock.system_time());
                }
                self.updates.push_back(Update::Delivery(delivery));
            }
            Action::Report(phase) => {
                tell(&phase);
                self.updates.push_back(Update::Phase(phase));
            }
        }
    }

    /// Answers come before the clock, so that a process which was held up does not blame etcd for it.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let pending = &mut self.pending;
        if let Some(answer) = poll_answer(&mut pending.dialing, cx) {
            return Poll::Ready(Input::Dialed(answer.map(|(dialed, connection)| {
                pending.connection = Some(connection);
                dialed
            })));
        }
        if let Some(answer) = poll_answer(&mut pending.listing, cx) {
            return Poll::Ready(Input::Listed(answer));
        }
        if let Some(answer) = poll_answer(&mut pending.checking, cx) {
            return Poll::Ready(Input::Checked(answer));
        }
        if let Some(answer) = poll_answer(&mut pending.opening, cx) {
            match answer {
                Ok(stream) => pending.stream = Some(stream),
                Err(failure) => return Poll::Ready(Input::Ended(failure)),
            }
        }
        if let Some(stream) = &mut pending.stream
            && let Poll::Ready(message) = stream.poll_message(cx)
        {
            return Poll::Ready(match message {
                Ok(message) => Input::Message(message),
                Err(failure) => {
                    pending.stream = None;
                    Input::Ended(failure)
                }
            });
        }
        self.poll_timer(cx).map(|()| Input::Time)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.machine.deadline() else {
            return Poll::Pending;
        };
        let (_, sleep) = match &mut self.timer {
            Some(timer) if timer.0 == deadline => timer,
            timer => timer.insert((deadline, self.clock.sleep_until(deadline))),
        };
        let slept = sleep.as_mut().poll(cx);
        if slept.is_ready() {
            self.timer = None;
        }
        slept
    }
}

fn poll_answer<T>(answer: &mut Option<Answer<T>>, cx: &mut Context<'_>) -> Option<Result<T, Failure>> {
    match answer.as_mut()?.as_mut().poll(cx) {
        Poll::Ready(result) => {
            *answer = None;
            Some(result)
        }
        Poll::Pending => None,
    }
}

/// The one place where a feed says something in the log.
fn tell(phase: &Phase) {
    match phase {
        Phase::Live => tracing::info!("the watch of etcd is live"),
        Phase::Connecting {
            error: Some(error),
            attempts,
        } => tracing::warn!(%error, attempts, "cannot read from etcd yet"),
        Phase::Interrupted { error, attempts, .. } => {
            tracing::warn!(%error, attempts, "the watch of etcd is interrupted");
        }
        Phase::Connecting { error: None, .. } | Phase::Stopped => {}
    }
}

impl Health {
    /// How long ago what was delivered was last known to be what etcd holds; none if it never was.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.confirmed?))
    }
}

impl HealthReader {
    /// How it is doing now.
    pub fn get(&self) -> Health {
        self.0.borrow().clone()
    }

    /// Waits until its phase is another one, or the feed is gone. Cancel-safe.
    pub async fn changed(&mut self) -> Health {
        if self.0.changed().await.is_err() {
            return Health {
                phase: Phase::Stopped,
                ..self.get()
            };
        }
        self.0.borrow_and_update().clone()
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewatch_core::{Event, KeyRange, KeyValue, ManualClock, Revision};

    use super::*;
    use crate::header::Header;
    use crate::machine::{CheckRequest, ListRequest, Message, OpenRequest};
    use crate::version::Version;

    fn header(revision: u64) -> Header {
        Header {
            cluster: 7,
            member: 1,
            revision: Revision(revision),
            term: 5,
        }
    }

    fn entry(revision: u64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"/a"),
            value: Bytes::from_static(b"value"),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        }
    }

    fn change(revision: u64) -> Message {
        Message {
            header: header(revision),
            events: vec![Event::put(entry(revision), None)],
            ..Message::default()
        }
    }

    /// An etcd that has come from revision 10, where it is listed, to 90, where it is watched.
    #[derive(Clone, Copy)]
    struct Scripted;

    struct Script(VecDeque<Message>);

    impl Transport for Scripted {
        fn dial(&self, _: usize) -> Answer<(Dialed, Box<dyn Connection>)> {
            let dialed = Dialed {
                version: Some(Version::new(3, 5, 21)),
                is_tidewatch: false,
                header: header(10),
            };
            Box::pin(std::future::ready(Ok((
                dialed,
                Box::new(Self) as Box<dyn Connection>,
            ))))
        }
    }

    impl Connection for Scripted {
        fn list(&self, _: ListRequest) -> Answer<Page> {
            Box::pin(std::future::ready(Ok(Page {
                header: header(10),
                entries: vec![entry(10)],
                more: false,
            })))
        }

        fn check(&self, _: CheckRequest) -> Answer<Checked> {
            Box::pin(std::future::ready(Ok(Checked {
                header: header(90),
                found: None,
            })))
        }

        fn open(&self, _: OpenRequest) -> Answer<Box<dyn WatchStream>> {
            let created = Message {
                header: header(90),
                created: true,
                ..Message::default()
            };
            let messages = [created, change(80), change(90), change(91)];
            let stream: Box<dyn WatchStream> = Box::new(Script(messages.into()));
            Box::pin(std::future::ready(Ok(stream)))
        }
    }

    impl WatchStream for Script {
        fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<Result<Message, Failure>> {
            self.0
                .pop_front()
                .map_or(Poll::Pending, |message| Poll::Ready(Ok(message)))
        }

        fn ask_progress(&mut self) {}
    }

    #[tokio::test]
    async fn what_is_delivered_while_it_catches_up_has_no_time_not_even_the_last_of_it() {
        let clock = Arc::new(ManualClock::new());
        let selection = Selection {
            range: KeyRange::starting_with("/"),
            prev_kv: false,
            history: 0,
        };
        let mut feed = Feed::new(selection, Scripted, 1, false, clock.clone());
        let mut found = Vec::new();
        while found.len() < 3 {
            if let Some(Update::Delivery(Delivery::Record(record))) = feed.next().await {
                found.push((record.revision.0, record.time));
            }
        }
        assert_eq!(found, [(80, None), (90, None), (91, Some(clock.system_time()))]);
    }
}
