//! A container, as Docker's list shows it.

use std::collections::BTreeMap;

pub use tidewatch_fleet::{Health, Network, Port, Protocol, State};

/// One element of Docker's list. Only what a list really tells; see [`Facts`](crate::Facts) for the
/// rest.
///
/// Texts that tick ("Up 5 minutes") are left out on purpose, and orders that Docker does not promise
/// mean nothing: the planner sorts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The full id, 64 hexadecimal digits. Never empty.
    pub id: String,
    /// The name without the leading slash. Of several (links) the one without a further slash.
    pub name: String,
    /// What the list says the image is: the reference it was created from, or `sha256:…` once the
    /// tag has moved to another image.
    pub image_ref: String,
    /// The id of the image, `sha256:…`; empty if Docker does not say.
    pub image_id: String,
    /// The state; [`State::Unknown`] for a word this code does not know.
    pub state: State,
    /// What the health check says; none if there is none.
    pub health: Option<Health>,
    /// What it exited with, if it is not running and Docker says so.
    pub exit_code: Option<i64>,
    /// The ports it exposes, in any order.
    pub ports: Vec<Port>,
    /// The networks it is connected to, in any order.
    pub networks: Vec<Network>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created, in seconds since 1970; zero if Docker does not say.
    pub created: i64,
}

impl Container {
    /// A running container about which nothing else is known: what tests begin with.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            image_ref: String::new(),
            image_id: String::new(),
            state: State::Running,
            health: None,
            exit_code: None,
            ports: Vec::new(),
            networks: Vec::new(),
            labels: BTreeMap::new(),
            created: 0,
        }
    }
}

/// Reads what Docker's `Status` text tells and no other field of a list does: the exit code and the
/// health.
///
/// `Exited (137) 5 seconds ago` has the code 137, `Up 2 hours (healthy)` is healthy. Podman writes no
/// health; then there is none.
pub fn parse_status(status: &str) -> (Option<i64>, Option<Health>) {
    let Some((word, rest)) = status.split_once(" (").or_else(|| status.split_once('(')) else {
        return (None, None);
    };
    let code = (word.starts_with("Exited") || word.starts_with("Restarting"))
        .then(|| rest.split_once(')')?.0.parse().ok())
        .flatten();
    // The health is the last parenthesis: "Up 2 hours (Paused)" has none.
    let last = status
        .rsplit_once('(')
        .map_or("", |(_, last)| last.trim_end_matches(')'));
    let health = match last {
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        "health: starting" => Some(Health::Starting),
        _ => None,
    };
    (code, health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_text_tells_the_exit_code_and_the_health_and_nothing_that_ticks() {
        for (status, code, health) in [
            ("Exited (137) 5 seconds ago", Some(137), None),
            ("Exited (0) About a minute ago", Some(0), None),
            ("Restarting (1) 3 seconds ago", Some(1), None),
            ("Up 2 hours (healthy)", None, Some(Health::Healthy)),
            ("Up 2 hours (unhealthy)", None, Some(Health::Unhealthy)),
            ("Up 1 second (health: starting)", None, Some(Health::Starting)),
            ("Up 2 hours (Paused)", None, None),
            ("Up 5 minutes", None, None),
            ("Created", None, None),
            ("Dead", None, None),
            ("Exited (", None, None),
            ("", None, None),
        ] {
            assert_eq!(parse_status(status), (code, health), "{status}");
        }
    }
}
