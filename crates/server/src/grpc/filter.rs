//! Which containers a call is about.

use std::fmt;
use std::str::FromStr;

use tidewatch_core::Error;
use tidewatch_fleet::{HostName, JoinedRow, State, WorkloadId};
use tidewatch_proto::v1;

/// A filter of containers; what is none passes everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerFilter {
    workload: Option<WorkloadId>,
    host: Option<HostName>,
    state: Option<State>,
}

impl ContainerFilter {
    pub(crate) fn passes(&self, row: &JoinedRow) -> bool {
        self.workload.as_ref().is_none_or(|id| *id == row.workload_id)
            && self.host.as_ref().is_none_or(|host| *host == *row.host)
            && self.passes_state(row.state)
    }

    pub(crate) fn passes_state(&self, state: State) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }

    pub(crate) fn host(&self) -> Option<&HostName> {
        self.host.as_ref()
    }
}

impl TryFrom<Option<v1::ContainerFilter>> for ContainerFilter {
    type Error = Error;

    fn try_from(wire: Option<v1::ContainerFilter>) -> Result<Self, Error> {
        let wire = wire.unwrap_or_default();
        Ok(Self {
            workload: named("workload", &wire.workload)?,
            host: named("host", &wire.host)?,
            state: state(&wire.state)?,
        })
    }
}

/// Reads a text that may be empty, which is none.
pub(crate) fn named<T: FromStr<Err: fmt::Display>>(
    what: &'static str,
    text: &str,
) -> Result<Option<T>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: T::Err| Error::InvalidArgument {
            what,
            reason: error.to_string(),
        })
}

fn state(text: &str) -> Result<Option<State>, Error> {
    let found = State::ALL.into_iter().find(|state| state.as_str() == text);
    if found.is_none() && !text.is_empty() {
        let all: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        return Err(Error::InvalidArgument {
            what: "state",
            reason: format!("{text:?} is none; it must be one of {}", all.join(", ")),
        });
    }
    Ok(found)
}
