//! Reports as they arrive.

use std::time::{Duration, SystemTime};

use tidewatch_fleet::{ContainerVerdict, HostReport, State, Verdicts};
use tidewatch_proto::error::shorten;
use tidewatch_proto::v1;

/// The most that is held of an error, in bytes. Docker's are a sentence, with an address and its causes.
const MAX_ERROR_BYTES: usize = 1024;

/// From the clock of somebody else to ours.
pub(super) struct Shift {
    theirs: Option<SystemTime>,
    ours: SystemTime,
}

impl Shift {
    pub(super) fn new(theirs: Option<prost_types::Timestamp>, ours: SystemTime) -> Self {
        let theirs = theirs.and_then(|time| time.try_into().ok());
        Self { theirs, ours }
    }

    fn ours(&self, time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
        let time: SystemTime = time?.try_into().ok()?;
        let Some(theirs) = self.theirs else {
            return Some(time);
        };
        match theirs.duration_since(time) {
            Ok(ago) => self.ours.checked_sub(ago),
            Err(ahead) => self.ours.checked_add(ahead.duration()),
        }
    }
}

pub(super) fn report(message: &v1::HostReport, shift: &Shift) -> HostReport {
    HostReport {
        reachable: message.reachable,
        since: shift.ours(message.since),
        error: shorten(&message.error, MAX_ERROR_BYTES),
        last_sync: shift.ours(message.last_sync),
        lag: Duration::from_micros(message.lag_us),
        containers: message.containers,
        resyncs: message.resyncs,
        events: message.events,
        changes: message.changes,
        drift: message.drift,
        failures: message.failures,
    }
}

/// Whoever sends more than is agreed has it cut off.
pub(super) fn verdicts(message: v1::ContainerVerdicts) -> Verdicts {
    let verdict = |verdict: v1::ContainerVerdict| ContainerVerdict {
        container_id: verdict.container_id,
        name: verdict.name,
        image_ref: verdict.image_ref,
        state: state(&verdict.state),
        row: (!verdict.row.is_empty()).then_some(verdict.row),
        reason: verdict.reason,
        message: verdict.message,
    };
    let mut told = Verdicts::bounded(message.verdicts.into_iter().map(verdict));
    told.omitted = told.omitted.saturating_add(message.omitted);
    told
}

/// A word that is newer than this code is a state that nobody can tell.
fn state(word: &str) -> State {
    let named = State::ALL.into_iter().find(|state| state.as_str() == word);
    named.unwrap_or(State::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_held_no_longer_than_a_line_and_no_letter_is_cut_in_two() {
        let shift = Shift::new(None, SystemTime::UNIX_EPOCH);
        let held = |error: String| {
            let message = v1::HostReport {
                error,
                ..v1::HostReport::default()
            };
            report(&message, &shift).error
        };
        assert_eq!(held("no such socket".into()), "no such socket");
        for letter in ["x", "é", "中"] {
            let error = held(letter.repeat(100_000));
            assert!(
                error.len() <= MAX_ERROR_BYTES && error.len() > MAX_ERROR_BYTES - 4,
                "{}",
                error.len()
            );
            assert!(error.ends_with(&format!("{letter}…")));
        }
    }
}
