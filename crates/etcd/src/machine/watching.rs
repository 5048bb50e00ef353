//! Watching: what a watch says, and what is done about its silence.

use std::time::Instant;

use tidewatch_core::Revision;

use super::action::Action;
use super::assembly::Assembly;
use super::input::{CheckRequest, Checked, Message, OpenRequest};
use super::state::{Probe, Read, State, Watching};
use super::timing::{
    ANSWER_TIMEOUT, CATCH_UP_INTERVAL, CATCH_UP_TIMEOUT, PROBE_INTERVAL, QUIET, RECHECK_INTERVAL,
};
use super::{Machine, Selection, first_key};
use crate::delivery::{Delivery, SnapshotReason};
use crate::failure::{Failure, FailureKind};
use crate::header::Header;
use crate::phase::Phase;

impl Machine {
    pub(super) fn open(&mut self, now: Instant) {
        let Some(known) = &self.known else {
            return;
        };
        self.out.push(Action::Open(OpenRequest {
            range: self.selection.range.clone(),
            from: known.position.next(),
            prev_kv: self.selection.prev_kv,
        }));
        self.state = State::Opening {
            deadline: now + ANSWER_TIMEOUT,
        };
    }

    pub(super) fn message(&mut self, now: Instant, message: Message) {
        let Some(known) = &self.known else {
            return;
        };
        if !matches!(self.state, State::Opening { .. } | State::Watching(_)) {
            return;
        }
        let cluster = message.header.cluster;
        if cluster != 0 && cluster != known.identity.cluster {
            self.relist(now, SnapshotReason::Replaced);
        } else if message.compact_revision > Revision(0) {
            self.relist(now, SnapshotReason::Compacted);
        } else if message.canceled {
            let failure = Failure::canceled(&message.reason);
            if failure.kind == FailureKind::Compacted {
                self.relist(now, SnapshotReason::Compacted);
            } else {
                self.fail(now, failure);
            }
        } else if message.created {
            self.created(now, &message.header);
        } else {
            self.told(now, message);
        }
    }

    fn created(&mut self, now: Instant, header: &Header) {
        let (State::Opening { .. }, Some(known)) = (&self.state, &self.known) else {
            return;
        };
        if header.revision > Revision(0) && header.revision < known.position && !self.watches_lag() {
            // etcd accepts a watch that begins in the future, and is silent until then. This member answered for the
            // cluster a moment ago, so it can only be another one behind the same address, or another history.
            self.fail(
                now,
                Failure::unreachable("the member that accepted the watch is behind what was read"),
            );
            return;
        }
        self.head = self.head.max(header.revision);
        let is_behind = header.revision > known.position;
        self.state = State::Watching(Watching {
            since: now,
            from: known.position.next(),
            told: header.revision,
            behind: is_behind.then_some(header.revision),
            assembly: Assembly::default(),
            probe: None,
            probe_at: now + PROBE_INTERVAL,
            recheck_at: now + RECHECK_INTERVAL,
            heard: now,
            changed: now,
        });
        if is_behind {
            self.probe(now);
        } else {
            self.confirm(now);
        }
    }

    /// Events or progress.
    fn told(&mut self, now: Instant, message: Message) {
        let believes_progress = self.believes_progress();
        let (State::Watching(watching), Some(known)) = (&mut self.state, &mut self.known) else {
            return;
        };
        watching.heard = now;
        if let Some(probe) = &mut watching.probe {
            probe.awaits_stream = false;
        }
        let is_progress = message.events.is_empty() && !message.fragment;
        let progress = message.header.revision;
        self.head = self.head.max(progress);
        watching.told = watching.told.max(progress);
        for record in watching
            .assembly
            .add(message.events, message.fragment, known.position)
        {
            known.deliver(&record);
            self.head = self.head.max(record.revision);
            self.out.push(Action::Deliver(Delivery::Record(record)));
        }
        let at_progress = is_progress && !watching.assembly.is_open();
        if at_progress && believes_progress && known.advance(progress) {
            self.out.push(Action::Deliver(Delivery::Progress(progress)));
        }
        if !is_progress {
            watching.changed = now;
        }
        // Where its revision is not believed, an answer means only that the stream is alive; of one key, a read tells the rest.
        let is_quiet = self.selection.range.as_single().is_none() && now >= watching.changed + QUIET;
        let has_caught_up = watching.behind.is_some_and(|behind| known.position >= behind)
            || (at_progress && (believes_progress || is_quiet));
        if has_caught_up {
            watching.behind = None;
        }
        self.settle(now);
    }

    pub(super) fn checked(&mut self, now: Instant, answer: Result<Checked, Failure>) {
        match &self.state {
            State::Comparing { .. } => self.compared(now, answer),
            State::Watching(_) => match answer {
                Ok(checked) => self.probed(now, &checked),
                Err(failure) => self.not_probed(now, failure),
            },
            _ => {}
        }
    }

    /// A read beside the watch was answered.
    fn probed(&mut self, now: Instant, checked: &Checked) {
        let (State::Watching(watching), Some(known)) = (&mut self.state, &mut self.known) else {
            return;
        };
        let Some(probe) = &mut watching.probe else {
            return;
        };
        self.head = checked.header.revision;
        if !known.accepts(&checked.header, probe.shown) {
            self.relist(now, SnapshotReason::Replaced);
            return;
        }
        if probe.whole {
            watching.recheck_at = now + RECHECK_INTERVAL;
        }
        let mut is_fresh = true;
        // Where events have overtaken the answer, the watch knows better.
        if self.selection.range.as_single().is_some() && checked.header.revision >= known.position {
            // The read shows all that the watch is to show.
            is_fresh = known.is_witnessed_by(checked) && !watching.assembly.is_open();
            // Nothing happened in between: not even a deletion and the same value again, which has another revision.
            if is_fresh && checked.found.is_some() && known.advance(checked.header.revision) {
                self.out
                    .push(Action::Deliver(Delivery::Progress(checked.header.revision)));
            }
        }
        probe.read = if is_fresh { Read::Fine } else { Read::Ahead };
        if checked.header.revision < watching.from {
            // There is nothing yet that the stream could tell, and etcd does not let it say so.
            probe.awaits_stream = false;
        }
        self.settle(now);
    }

    /// A read beside the watch failed.
    fn not_probed(&mut self, now: Instant, failure: Failure) {
        if let State::Watching(Watching {
            probe: Some(probe), ..
        }) = &mut self.state
            && failure.kind == FailureKind::Unreachable
        {
            // If the connection is gone, the watch says so itself.
            probe.read = Read::Failed(failure);
            probe.ask_at = now + CATCH_UP_INTERVAL;
        } else {
            self.fail(now, failure);
        }
    }

    /// Ends a probe that has all its answers.
    fn settle(&mut self, now: Instant) {
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        if let Some(probe) = &watching.probe {
            if probe.awaits_stream || probe.read != Read::Fine {
                return;
            }
            watching.probe = None;
            if self.selection.range.as_single().is_some() {
                // The read has shown that nothing is missing.
                watching.behind = None;
            }
        }
        if watching.behind.is_none() {
            self.confirm(now);
        } else {
            watching.probe_at = now + CATCH_UP_INTERVAL;
        }
    }

    fn confirm(&mut self, now: Instant) {
        self.confirmed = Some(now);
        self.attempts = 0;
        self.hopeless = 0;
        self.restarts = 0;
        if let State::Watching(watching) = &mut self.state {
            watching.probe_at = now + PROBE_INTERVAL;
        }
        self.report(Phase::Live);
    }

    pub(super) fn look_after_watch(&mut self, now: Instant) {
        let (State::Watching(watching), Some(known)) = (&mut self.state, &self.known) else {
            return;
        };
        let Some(probe) = &mut watching.probe else {
            self.probe(now);
            return;
        };
        let is_behind = watching.behind.is_some();
        if now < probe.deadline(is_behind) {
            probe.ask_at = now + CATCH_UP_INTERVAL;
            if matches!(probe.read, Read::Ahead | Read::Failed(_)) {
                probe.read = Read::Awaited;
                probe.shown = known.shown();
                let request = check(&self.selection, probe.whole);
                self.out.push(Action::Check(request));
            }
            self.out.push(Action::AskProgress);
            return;
        }
        match &probe.read {
            // The watch has nothing to say about what a read shows, or about a long history.
            Read::Ahead => self.relist(now, SnapshotReason::Behind),
            Read::Fine if now >= watching.heard + CATCH_UP_TIMEOUT => {
                self.relist(now, SnapshotReason::Behind);
            }
            Read::Fine if is_behind => self.probe(now),
            Read::Failed(failure) => {
                let failure = failure.clone();
                self.fail(now, failure);
            }
            Read::Awaited | Read::Fine => {
                let waited = now - probe.sent;
                self.fail(
                    now,
                    Failure::unreachable(format!("no sign of life within {waited:?}")),
                );
            }
        }
    }

    /// Asks whether the watch is alive and, where that is not enough, whether the cluster is.
    fn probe(&mut self, now: Instant) {
        let (believes_progress, watches_lag) = (self.believes_progress(), self.watches_lag());
        let (State::Watching(watching), Some(known)) = (&mut self.state, &self.known) else {
            return;
        };
        let recheck = now >= watching.recheck_at;
        let whole = recheck || self.selection.range.as_single().is_some();
        let can_answer = self.head >= watching.from;
        let reads = recheck || !believes_progress || watching.behind.is_some() || !can_answer;
        watching.probe = Some(Probe {
            sent: now,
            // A watch that begins in the future does not answer. Reads do not tell how far away that is where watches lag; the connection
            // is pinged, and the read goes over it.
            awaits_stream: !watches_lag || watching.told >= watching.from,
            read: if reads { Read::Awaited } else { Read::Fine },
            whole,
            shown: known.shown(),
            ask_at: now + CATCH_UP_INTERVAL,
        });
        if reads {
            self.out.push(Action::Check(check(&self.selection, whole)));
        }
        self.out.push(Action::AskProgress);
    }
}

/// A read that goes through the cluster and needs the right to read; of the first key is the cheapest.
fn check(selection: &Selection, whole: bool) -> CheckRequest {
    let range = &selection.range;
    CheckRequest {
        range: if whole { range.clone() } else { first_key(range) },
        revision: None,
    }
}
