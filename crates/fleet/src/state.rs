//! How a container is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a container, as rows show it: Docker's words, `stopped` where Docker says `exited`,
/// and three of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, never started; also what a failed start leaves behind.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Between two attempts of its restart policy.
    Restarting,
    /// On its way out.
    Removing,
    /// Not running any more; Docker says `exited`.
    Stopped,
    /// Half removed; Docker could not finish.
    Dead,
    /// Was there and is gone. The row is kept for a retention time.
    Missing,
    /// A placeholder of a deployer: there is no container yet.
    Starting,
    /// Nobody can tell: its host is not observed, or Docker uses a word that is newer than this code.
    #[serde(other)]
    Unknown,
}

impl State {
    /// Every state, in the order of a container's life.
    pub const ALL: [Self; 10] = [
        Self::Starting,
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Removing,
        Self::Stopped,
        Self::Dead,
        Self::Missing,
        Self::Unknown,
    ];

    /// What Docker's word means. A word this code does not know is [`State::Unknown`]: that is a
    /// matter of one container, never a reason to give up a list.
    pub fn from_docker(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" | "stopping" => Self::Removing,
            "exited" | "stopped" => Self::Stopped,
            "dead" => Self::Dead,
            _ => Self::Unknown,
        }
    }

    /// The word that rows and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Missing => "missing",
            Self::Starting => "starting",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a process is there: it runs, or is frozen, or is about to be started again.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a container's own health check says. A container without one has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Too early to tell.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Several probes failed in a row.
    Unhealthy,
    /// A word that is newer than this code.
    #[serde(other)]
    Unknown,
}

impl Health {
    /// The word that rows and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_exited_is_stopped_and_new_words_are_unknown() {
        for (word, state) in [
            ("exited", State::Stopped),
            ("running", State::Running),
            ("created", State::Created),
            ("paused", State::Paused),
            ("hibernating", State::Unknown),
            ("", State::Unknown),
        ] {
            assert_eq!(State::from_docker(word), state, "{word}");
        }
    }

    #[test]
    fn every_state_reads_back_as_the_word_it_is_written_as() {
        for state in State::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
        }
    }
}
