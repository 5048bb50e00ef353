//! Events that are told again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidewatch_core::{BoxFuture, Clock};

use super::event;
use crate::event::DockerEvent;

/// When an event is told again that came before what it tells of can be listed. The engine writes a file in between:
/// a few milliseconds, and on a busy disk some hundred.
const DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The most that wait to be told again. Beyond, one doubt about everything takes their place.
const MAX_WAITING: usize = 1024;

/// The events of a subscription that are to be told again.
pub(super) struct Echoes {
    clock: Arc<dyn Clock>,
    waiting: BTreeMap<(Instant, u64), DockerEvent>,
    next: u64,
    /// The moment for which the timer is set.
    due: Option<Instant>,
    timer: BoxFuture<'static, ()>,
}

impl Echoes {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            timer: Box::pin(std::future::pending()),
            waiting: BTreeMap::new(),
            next: 0,
            due: None,
            clock,
        }
    }

    /// Remembers an event that is told for the first time, if it has to be told again.
    pub(super) fn add(&mut self, event: &DockerEvent) {
        let DockerEvent::Container { action, .. } = event else {
            return;
        };
        if !event::may_be_early(action) {
            return;
        }
        let now = self.clock.now();
        if self.waiting.len() + DELAYS.len() > MAX_WAITING {
            self.waiting.clear();
            let doubt = DockerEvent::Doubt {
                reason: format!("more than {MAX_WAITING} events were waiting to be told again"),
            };
            self.insert(now + DELAYS[DELAYS.len() - 1], doubt);
            return;
        }
        for delay in DELAYS {
            self.insert(now + delay, event.clone());
        }
    }

    /// The next event whose time has come.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DockerEvent> {
        loop {
            let Some((&(due, _), _)) = self.waiting.first_key_value() else {
                return Poll::Pending;
            };
            if due <= self.clock.now()
                && let Some((_, event)) = self.waiting.pop_first()
            {
                return Poll::Ready(event);
            }
            if self.due != Some(due) {
                self.due = Some(due);
                self.timer = self.clock.sleep_until(due);
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            // A timer that has rung is not asked again.
            self.due = None;
        }
    }

    fn insert(&mut self, due: Instant, event: DockerEvent) {
        self.waiting.insert((due, self.next), event);
        self.next += 1;
    }
}

impl fmt::Debug for Echoes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echoes")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_core::ManualClock;

    use super::*;

    fn event(action: &str) -> DockerEvent {
        DockerEvent::Container {
            id: "c1".to_owned(),
            action: action.to_owned(),
            time: None,
        }
    }

    fn told(echoes: &mut Echoes) -> Vec<DockerEvent> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(|| match echoes.poll_next(&mut cx) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn an_event_that_may_be_early_is_told_again_after_a_moment_and_after_a_second() {
        let clock = ManualClock::new();
        let mut echoes = Echoes::new(Arc::new(clock.clone()));
        echoes.add(&event("unpause"));
        echoes.add(&event("start"));
        assert!(told(&mut echoes).is_empty());
        for (wait, expected) in [(99, 0), (1, 1), (899, 0), (1, 1), (10_000, 0)] {
            clock.advance(Duration::from_millis(wait));
            assert_eq!(
                told(&mut echoes),
                vec![event("unpause"); expected],
                "after {wait} ms more"
            );
        }
    }

    #[test]
    fn more_than_can_be_remembered_become_one_doubt() {
        let clock = ManualClock::new();
        let mut echoes = Echoes::new(Arc::new(clock.clone()));
        for _ in 0..=MAX_WAITING / DELAYS.len() {
            echoes.add(&event("pause"));
            assert!(echoes.waiting.len() <= MAX_WAITING);
        }
        clock.advance(Duration::from_secs(1));
        let told = told(&mut echoes);
        assert!(matches!(&told[..], [DockerEvent::Doubt { .. }]), "{told:?}");
    }
}
