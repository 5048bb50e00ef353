//! A machine, a clock that is moved by hand, and what the machine wanted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewatch_core::{Clock, Event, KeyValue, ManualClock, Revision};

use super::*;

pub(super) struct Rig {
    pub(super) machine: Machine,
    clock: ManualClock,
    done: Vec<Action>,
    phases: Vec<Phase>,
}

pub(super) fn header(revision: u64) -> Header {
    Header {
        cluster: 7,
        member: 1,
        revision: Revision(revision),
        term: 5,
    }
}

pub(super) fn entry(key: &str, revision: u64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from(format!("value at {revision}")),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    }
}

pub(super) fn put(key: &str, revision: u64) -> Event {
    Event::put(entry(key, revision), None)
}

pub(super) fn page(revision: u64, entries: &[KeyValue], more: bool) -> Page {
    Page {
        header: header(revision),
        entries: entries.to_vec(),
        more,
    }
}

pub(super) fn checked(revision: u64, found: Option<KeyValue>) -> Checked {
    Checked {
        header: header(revision),
        found,
    }
}

pub(super) fn created(revision: u64) -> Message {
    Message {
        header: header(revision),
        created: true,
        ..Message::default()
    }
}

/// Without events: progress.
pub(super) fn events(revision: u64, events: Vec<Event>) -> Message {
    Message {
        header: header(revision),
        events,
        ..Message::default()
    }
}

pub(super) fn dialed(revision: u64, version: Option<Version>) -> Dialed {
    Dialed {
        version,
        is_tidewatch: false,
        header: header(revision),
    }
}

impl Rig {
    /// One that wants its first connection.
    pub(super) fn started(selection: Selection, endpoints: usize, seed: u64) -> Self {
        let clock = ManualClock::new();
        let mut rig = Self {
            machine: Machine::new(selection, endpoints, false, seed, clock.now()),
            clock,
            done: Vec::new(),
            phases: Vec::new(),
        };
        rig.step(Input::Time);
        rig
    }

    /// One that wants its first page.
    pub(super) fn dialed(selection: Selection) -> Self {
        Self::dialed_at(selection, 10)
    }

    pub(super) fn dialed_at(selection: Selection, revision: u64) -> Self {
        let mut rig = Self::started(selection, 1, 0);
        let version = Some(Version::new(3, 5, 21));
        rig.step(Input::Dialed(Ok(dialed(revision, version))));
        rig
    }

    /// One that watches, having listed these entries at a revision.
    pub(super) fn live(selection: Selection, revision: u64, entries: &[KeyValue]) -> Self {
        Self::live_on(selection, Some(Version::new(3, 5, 21)), revision, entries)
    }

    pub(super) fn live_on(
        selection: Selection,
        version: Option<Version>,
        revision: u64,
        entries: &[KeyValue],
    ) -> Self {
        let mut rig = Self::started(selection, 1, 0);
        rig.step(Input::Dialed(Ok(dialed(revision, version))));
        rig.go_live(revision, entries);
        rig
    }

    pub(super) fn live_with(
        selection: Selection,
        endpoints: usize,
        seed: u64,
        revision: u64,
        entries: &[KeyValue],
    ) -> Self {
        let mut rig = Self::started(selection, endpoints, seed);
        rig.step(Input::Dialed(Ok(dialed(revision, None))));
        rig.go_live(revision, entries);
        rig
    }

    /// Answers whatever is asked until the watch is live.
    pub(super) fn go_live(&mut self, revision: u64, entries: &[KeyValue]) {
        for _ in 0..10 {
            if *self.machine.phase() == Phase::Live {
                break;
            }
            let asked = std::mem::take(&mut self.done);
            for action in asked {
                match action {
                    Action::List(_) => self.step(Input::Listed(Ok(page(revision, entries, false)))),
                    Action::Check(_) => {
                        self.step(Input::Checked(Ok(checked(revision, entries.last().cloned()))));
                    }
                    Action::Open(_) => self.step(Input::Message(created(revision))),
                    Action::Dial { .. } => self.step(Input::Dialed(Ok(dialed(revision, None)))),
                    _ => {}
                }
            }
            if *self.machine.phase() != Phase::Live && !self.wants_anything() {
                self.advance(MAX_PAUSE);
            }
        }
        assert_eq!(*self.machine.phase(), Phase::Live);
        self.done.clear();
    }

    fn wants_anything(&self) -> bool {
        self.done.iter().any(|action| {
            matches!(
                action,
                Action::List(_) | Action::Check(_) | Action::Open(_) | Action::Dial { .. }
            )
        })
    }

    pub(super) fn step(&mut self, input: Input) {
        let actions = self.machine.step(self.clock.now(), input);
        self.phases
            .extend(actions.iter().filter_map(|action| match action {
                Action::Report(phase) => Some(phase.clone()),
                _ => None,
            }));
        self.done.extend(actions);
    }

    /// Lets time pass, stopping wherever the machine wants to be called.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.clock.now() + by;
        while let Some(deadline) = self.machine.deadline().filter(|&deadline| deadline <= end) {
            self.clock
                .advance(deadline.saturating_duration_since(self.clock.now()));
            let before = self.machine.deadline();
            self.step(Input::Time);
            assert_ne!(self.machine.deadline(), before, "a moment must not come twice");
        }
        self.clock.advance(end - self.clock.now());
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// After a failure: waits for the next connection and makes it.
    pub(super) fn redial(&mut self, revision: u64) {
        self.redial_on(None, revision);
    }

    pub(super) fn redial_on(&mut self, version: Option<Version>, revision: u64) {
        self.done.clear();
        while self.dials() == 0 {
            self.advance(Duration::from_millis(10));
        }
        self.step(Input::Dialed(Ok(dialed(revision, version))));
    }

    /// Fails whatever there is, and returns how long it is until the next connection is wanted.
    pub(super) fn fail_once(&mut self) -> Duration {
        self.done.clear();
        let from = self.now();
        let failure = Failure::unreachable("cut");
        self.step(Input::Ended(failure.clone()));
        self.step(Input::Dialed(Err(failure)));
        let until = self.machine.deadline().unwrap();
        self.advance(until - from);
        assert_eq!(self.take_dials().len(), 1);
        until - from
    }

    /// Answers what a live watch asks, if it does.
    pub(super) fn answer_probe(&mut self, revision: u64) {
        for action in std::mem::take(&mut self.done) {
            match action {
                Action::Check(_) => self.step(Input::Checked(Ok(checked(revision, None)))),
                Action::AskProgress => self.step(Input::Message(events(revision, vec![]))),
                _ => {}
            }
        }
    }

    /// Whether it has wanted this; it is forgotten then.
    pub(super) fn did(&mut self, wanted: &Action) -> bool {
        let at = self.done.iter().position(|action| action == wanted);
        at.map(|at| self.done.remove(at)).is_some()
    }

    pub(super) fn take_list(&mut self) -> ListRequest {
        self.take(|action| match action {
            Action::List(request) => Some(request.clone()),
            _ => None,
        })
    }

    pub(super) fn take_check(&mut self) -> CheckRequest {
        self.take(|action| match action {
            Action::Check(request) => Some(request.clone()),
            _ => None,
        })
    }

    pub(super) fn take_open(&mut self) -> OpenRequest {
        self.take(|action| match action {
            Action::Open(request) => Some(request.clone()),
            _ => None,
        })
    }

    pub(super) fn wants_list(&self) -> bool {
        self.done.iter().any(|action| matches!(action, Action::List(_)))
    }

    pub(super) fn wants_check(&self) -> bool {
        self.done.iter().any(|action| matches!(action, Action::Check(_)))
    }

    pub(super) fn dials(&self) -> usize {
        self.done
            .iter()
            .filter(|action| matches!(action, Action::Dial { .. }))
            .count()
    }

    pub(super) fn take_dials(&mut self) -> Vec<usize> {
        let (dials, rest) = std::mem::take(&mut self.done)
            .into_iter()
            .partition::<Vec<_>, _>(|action| matches!(action, Action::Dial { .. }));
        self.done = rest;
        dials
            .into_iter()
            .filter_map(|action| match action {
                Action::Dial { endpoint } => Some(endpoint),
                _ => None,
            })
            .collect()
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.done
            .iter()
            .filter_map(|action| match action {
                Action::Deliver(delivery) => Some(delivery.clone()),
                _ => None,
            })
            .collect()
    }

    pub(super) fn delivered_revisions(&self) -> Vec<u64> {
        self.deliveries()
            .into_iter()
            .filter_map(|delivery| match delivery {
                Delivery::Record(record) => Some(record.revision.0),
                _ => None,
            })
            .collect()
    }

    /// Under which identity it reads.
    pub(super) fn identity(&self) -> Identity {
        self.machine.known.as_ref().unwrap().identity
    }

    pub(super) fn was_interrupted(&self) -> bool {
        self.phases
            .iter()
            .any(|phase| matches!(phase, Phase::Interrupted { .. }))
    }

    fn take<T>(&mut self, wanted: impl Fn(&Action) -> Option<T>) -> T {
        let at = self.done.iter().position(|action| wanted(action).is_some());
        match at.and_then(|at| wanted(&self.done.remove(at))) {
            Some(found) => found,
            None => panic!("it did not want that, but {:?}", self.done),
        }
    }
}
