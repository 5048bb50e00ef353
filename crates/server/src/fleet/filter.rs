//! Which containers a call is about.

use std::fmt;
use std::str::FromStr;

use tidewatch_core::Error;
use tidewatch_fleet::{HostName, JoinedRow, Role, State, WorkloadId};
use tidewatch_proto::v1;

/// A filter of containers; what is none passes everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerFilter {
    workload: Option<WorkloadId>,
    host: Option<HostName>,
    state: Option<State>,
    role: Option<Role>,
    labels: Vec<Label>,
}

/// A label that a container must have.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    name: String,
    /// None: whatever it says.
    value: Option<String>,
}

impl ContainerFilter {
    /// Only containers of a role.
    pub(crate) fn of_role(mut self, role: Option<Role>) -> Self {
        self.role = role;
        self
    }

    /// Only containers with all of these labels.
    pub(crate) fn labelled(mut self, labels: Vec<Label>) -> Self {
        self.labels = labels;
        self
    }

    pub(crate) fn passes(&self, row: &JoinedRow) -> bool {
        self.workload.as_ref().is_none_or(|id| *id == row.workload_id)
            && self.host.as_ref().is_none_or(|host| *host == *row.host)
            && self.role.as_ref().is_none_or(|role| *role == row.role)
            && self.labels.iter().all(|label| label.is_of(row))
            && self.passes_state(row.state)
    }

    pub(crate) fn passes_state(&self, state: State) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }

    /// The only workload that is meant.
    pub(crate) fn workload(&self) -> Option<&WorkloadId> {
        self.workload.as_ref()
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
            ..Self::default()
        })
    }
}

impl Label {
    fn is_of(&self, row: &JoinedRow) -> bool {
        let found = row.labels.get(&self.name);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl FromStr for Label {
    type Err = String;

    /// Reads `name=value`, or a name alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("a label looks like NAME=VALUE, or NAME alone for any value".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            value,
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
