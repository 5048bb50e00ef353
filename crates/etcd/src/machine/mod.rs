//! The list+watch machine: one enum for where it is, one function for what it does next.
//!
//! It decides and does nothing: it is told what happened and what time it is, and says what is to be done. So everything it
//! promises is tested with a clock that is moved by hand, and whoever feeds it may get answers from wherever they like.
//!
//! ```text
//!              ┌────────────────────── a failure ───────────────────────┐
//!              ▼                                                        │
//!  ┌──▶ Paused ─▶ Dialing ─┬─▶ Listing ───────────────▶ Opening ─▶ Watching
//!  │                       │     ▲   ▲  history is gone │ ▲  │          │
//!  │                       │     │   └──────────────────┴─┼──┴──────────┘
//!  │                       │     │ another history, or it is gone
//!  │                       └─▶ Comparing ───────────────┘
//!  └── a failure anywhere
//! ```
//!
//! - **Listing** reads pages at one revision; the watch begins at the revision after it, so nothing falls between them.
//! - **Comparing** comes after a cut. Only a member that has answered through the cluster, is not behind what it showed
//!   before, and still shows the witness (the last entry that was delivered) where it was, is resumed from.
//! - **Watching** never takes silence for health: it asks, and what is not answered in time is a failure.

mod action;
pub(crate) mod assembly;
mod input;
mod known;
mod listing;
mod state;
#[cfg(test)]
mod tests;
pub mod timing;
mod watching;

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewatch_core::{Backoff, KeyRange, Revision};

pub use action::Action;
pub use input::{CheckRequest, Checked, Dialed, Input, ListRequest, Message, OpenRequest, Page};

use crate::delivery::SnapshotReason;
use crate::failure::{Failure, FailureKind};
use crate::phase::Phase;
use crate::version::Version;
use known::Known;
use state::State;
use timing::{
    ANSWER_TIMEOUT, DIAL_TIMEOUT, FIRST_PAUSE, LOGIN_TIMEOUT, MAX_PAUSE, PAGE_ENTRIES, SLOW_PAUSE,
    STABLE_AFTER,
};

/// What is watched, and how.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Which keys.
    pub range: KeyRange,
    /// Whether events tell what was there before.
    pub prev_kv: bool,
    /// How many revisions behind the newest the first snapshot is made, so that the changes since then are delivered as records.
    /// Less where history has been compacted. Zero: at the newest, as all later ones.
    pub history: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    selection: Selection,
    dial_timeout: Duration,
    endpoints: usize,
    endpoint: usize,
    state: State,
    known: Option<Known>,
    /// Why a snapshot is needed before a watch can go on; it stays until one is complete.
    overdue: Option<SnapshotReason>,
    version: Option<Version>,
    is_tidewatch: bool,
    /// The newest revision that any member has shown.
    head: Revision,
    page_entries: u32,
    history: u64,
    restarts: u32,
    attempts: u32,
    /// How many attempts in a row have failed in a way that only a person can mend.
    hopeless: usize,
    backoff: Backoff,
    slow: Backoff,
    confirmed: Option<Instant>,
    phase: Phase,
    out: Vec<Action>,
}

impl Machine {
    /// A machine for so many endpoints (at least one), which starts at `now`. The seed decides where it starts and how long it
    /// pauses; with a password a connection may take longer.
    pub fn new(selection: Selection, endpoints: usize, with_password: bool, seed: u64, now: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let endpoints = endpoints.max(1);
        Self {
            dial_timeout: if with_password {
                LOGIN_TIMEOUT
            } else {
                DIAL_TIMEOUT
            },
            endpoint: rng.usize(..endpoints),
            endpoints,
            state: State::Paused { until: now },
            known: None,
            overdue: Some(SnapshotReason::First),
            version: None,
            is_tidewatch: false,
            head: Revision::default(),
            page_entries: PAGE_ENTRIES,
            history: selection.history,
            restarts: 0,
            attempts: 0,
            hopeless: 0,
            backoff: Backoff::with_seed(FIRST_PAUSE, MAX_PAUSE, rng.u64(..)),
            slow: Backoff::with_seed(SLOW_PAUSE, SLOW_PAUSE, rng.u64(..)),
            confirmed: None,
            phase: Phase::Connecting {
                error: None,
                attempts: 0,
            },
            out: Vec::new(),
            selection,
        }
    }

    /// When [`Input::Time`] is due; none if it is stopped.
    pub fn deadline(&self) -> Option<Instant> {
        self.state.deadline()
    }

    /// When what was delivered was last known to be what etcd holds.
    pub fn confirmed(&self) -> Option<Instant> {
        self.confirmed
    }

    /// How the watch is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether the member's reports of progress are believed. Where they are not, `Progress` is delivered only where it can be
    /// known otherwise.
    pub fn believes_progress(&self) -> bool {
        self.version.is_some_and(Version::tells_progress_truly)
    }

    /// Whether the member's watches may stay behind what its reads show: it is a Tidewatch on a part of an etcd whose progress it does
    /// not believe. Where others write outside of that part, its reads are etcd's answers and as new as etcd is; its watches are as new
    /// as the last change in that part. Such a read shows all there is, so a watch that begins after it misses nothing.
    pub(crate) fn watches_lag(&self) -> bool {
        self.is_tidewatch && !self.believes_progress()
    }

    /// Takes note of what happened, and says what is to be done.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        if !matches!(self.state, State::Stopped) {
            match input {
                Input::Time => self.time(now),
                Input::Dialed(answer) => self.dialed(now, answer),
                Input::Listed(answer) => self.listed(now, answer),
                Input::Checked(answer) => self.checked(now, answer),
                Input::Message(message) => self.message(now, message),
                Input::Ended(failure) => self.ended(now, failure),
                Input::Stop => self.stop(),
            }
        }
        std::mem::take(&mut self.out)
    }

    fn time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let late = |what: &str, limit: Duration| Failure::unreachable(format!("{what} within {limit:?}"));
        match &self.state {
            State::Paused { .. } => self.dial(now),
            State::Dialing { .. } => self.fail(now, late("no connection", self.dial_timeout)),
            State::Comparing { .. } => self.fail(now, late("no answer to a read", ANSWER_TIMEOUT)),
            State::Listing(_) => self.fail(now, late("no page of the list", self.page_timeout())),
            State::Opening { .. } => self.fail(now, late("no answer to a watch", ANSWER_TIMEOUT)),
            State::Watching(_) => self.look_after_watch(now),
            State::Stopped => {}
        }
    }

    // Connecting.

    fn dial(&mut self, now: Instant) {
        self.state = State::Dialing {
            deadline: now + self.dial_timeout,
        };
        self.out.push(Action::Dial {
            endpoint: self.endpoint,
        });
    }

    fn dialed(&mut self, now: Instant, answer: Result<Dialed, Failure>) {
        if !matches!(self.state, State::Dialing { .. }) {
            return;
        }
        match answer {
            Ok(dialed) => {
                self.version = dialed.version;
                self.is_tidewatch = dialed.is_tidewatch;
                self.head = dialed.header.revision;
                match (self.overdue, &self.known) {
                    (None, Some(known)) => {
                        self.out.push(Action::Check(known.comparison()));
                        self.state = State::Comparing {
                            deadline: now + ANSWER_TIMEOUT,
                        };
                    }
                    (reason, _) => self.list(now, reason.unwrap_or(SnapshotReason::First)),
                }
            }
            Err(failure) => self.fail(now, failure),
        }
    }

    /// Whether this member's history goes on where ours ends.
    fn compared(&mut self, now: Instant, answer: Result<Checked, Failure>) {
        match answer {
            Ok(checked) => {
                self.head = checked.header.revision;
                let continues = self.known.as_mut().is_some_and(|known| {
                    known.accepts(&checked.header, known.shown()) && known.is_witnessed_by(&checked)
                });
                if continues {
                    self.open(now);
                } else {
                    self.relist(now, SnapshotReason::Replaced);
                }
            }
            Err(failure) => match failure.kind {
                FailureKind::Compacted => self.relist(now, SnapshotReason::Compacted),
                FailureKind::Future => self.relist(now, SnapshotReason::Replaced),
                _ => self.fail(now, failure),
            },
        }
    }

    // Ends.

    fn ended(&mut self, now: Instant, failure: Failure) {
        match (&self.state, failure.kind) {
            (State::Opening { .. } | State::Watching(_), FailureKind::TooLarge) => {
                self.relist(now, SnapshotReason::TooLarge);
            }
            (State::Opening { .. } | State::Watching(_), FailureKind::Compacted) => {
                self.relist(now, SnapshotReason::Compacted);
            }
            (State::Opening { .. } | State::Watching(_), _) => self.fail(now, failure),
            _ => {}
        }
    }

    /// Gives up what there is, and waits for the next attempt, with the next member.
    fn fail(&mut self, now: Instant, failure: Failure) {
        if let State::Watching(watching) = &self.state
            && now >= watching.since + STABLE_AFTER
        {
            self.backoff.reset();
        }
        self.endpoint = (self.endpoint + 1) % self.endpoints;
        self.attempts += 1;
        self.hopeless = if failure.kind.needs_a_hand() {
            self.hopeless + 1
        } else {
            0
        };
        // One member may be set up wrongly; all of them only by a person.
        let pause = if self.hopeless >= self.endpoints {
            SLOW_PAUSE + self.slow.next_delay()
        } else {
            self.backoff.next_delay()
        };
        self.state = State::Paused { until: now + pause };
        self.out.push(Action::HangUp);
        let attempts = self.attempts;
        self.report(match self.confirmed {
            None => Phase::Connecting {
                error: Some(failure),
                attempts,
            },
            Some(since) => Phase::Interrupted {
                since,
                error: failure,
                attempts,
            },
        });
    }

    fn stop(&mut self) {
        self.state = State::Stopped;
        self.out.push(Action::HangUp);
        self.report(Phase::Stopped);
    }

    fn report(&mut self, phase: Phase) {
        if phase != self.phase {
            self.phase = phase.clone();
            self.out.push(Action::Report(phase));
        }
    }
}

fn first_key(range: &KeyRange) -> KeyRange {
    single(range.start())
}

/// The range of one key. The empty name is no key's; the one after it is the first.
fn single(key: &Bytes) -> KeyRange {
    let key = if key.is_empty() {
        Bytes::from_static(b"\0")
    } else {
        key.clone()
    };
    tidewatch_core::key(key).unwrap_or_else(|_| KeyRange::empty())
}
