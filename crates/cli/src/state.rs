//! States of containers, as people see and name them.

use clap::builder::styling::{AnsiColor, Style};
use tidewatch_fleet::{Health, JoinedRow, State};

use crate::table::Cell;

/// Reads a state's name.
pub(crate) fn parse(text: &str) -> Result<State, String> {
    let found = State::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("it must be one of {}", names.join(", "))
    })
}

/// The state with what belongs to it: the health of what runs, the exit code of what does not.
pub(crate) fn cell(row: &JoinedRow) -> Cell {
    let state = row.state;
    let text = match (state, row.health, row.exit_code) {
        (State::Running, Some(health), _) => format!("{state} ({health})"),
        (State::Stopped | State::Dead | State::Restarting, _, Some(code)) if row.oom_killed => {
            format!("{state} (exit {code}, out of memory)")
        }
        (State::Stopped | State::Dead | State::Restarting, _, Some(code)) => format!("{state} (exit {code})"),
        _ => state.to_string(),
    };
    Cell::styled(text, style(state, row.health))
}

fn style(state: State, health: Option<Health>) -> Style {
    let color = match state {
        State::Running if health == Some(Health::Unhealthy) => AnsiColor::Red,
        State::Running => AnsiColor::Green,
        State::Dead | State::Missing => AnsiColor::Red,
        State::Unknown | State::Restarting | State::Removing | State::Starting => AnsiColor::Yellow,
        State::Created | State::Paused | State::Stopped => return Style::new(),
    };
    color.on_default()
}
