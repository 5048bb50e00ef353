//! How a store is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidewatch_core::Clock;

use crate::reason::Rejection;
use crate::snapshot::Origin;

/// How a store is, and how old what it hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it hears of what is published.
    pub connection: Connection,
    /// How long ago the set in force was known to be the one that is published. Zero while the
    /// connection lives; none if it was never known, or if the clocks cannot tell.
    pub age: Option<Duration>,
    /// Which value of the key the set in force was made of; none if none was seen.
    pub serving: Option<Origin>,
    /// Whether the set in force is the one of the file, unconfirmed since the start.
    pub stale: bool,
    /// What was published last, if it was rejected, so that the set before it is still in force.
    pub rejected: Option<RejectedSet>,
    /// What is wrong with the file of the last good set.
    pub file_problem: Option<Arc<str>>,
}

/// Whether a store hears of what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Not yet. Becomes `Live` or `Interrupted`.
    Connecting,
    /// Yes. Becomes `Interrupted` or `Stopped`.
    Live,
    /// Not at the moment; it keeps trying. Becomes `Live` or `Stopped`.
    Interrupted {
        /// Since when.
        since: SystemTime,
        /// Why.
        error: Arc<str>,
    },
    /// No, and never again.
    Stopped,
}

/// A set that was published and is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedSet {
    /// Which value of the key it is.
    pub origin: Origin,
    /// What is wrong with it.
    pub rejection: Rejection,
}

impl Connection {
    /// A short name for metrics and wire forms: `connecting`, `live`, `interrupted`, `stopped`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Interrupted { .. } => "interrupted",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted { since, error } => {
                write!(f, "interrupted since {}: {error}", crate::rfc3339::format(*since))
            }
            other => f.pad(other.name()),
        }
    }
}

/// A status whose age grows by itself.
#[derive(Clone, Debug)]
pub(crate) struct StatusRecord {
    pub(crate) connection: Connection,
    /// When the set in force was last known to be the published one.
    pub(crate) confirmed: Option<Confirmed>,
    pub(crate) serving: Option<Origin>,
    pub(crate) stale: bool,
    pub(crate) rejected: Option<RejectedSet>,
    pub(crate) file_problem: Option<Arc<str>>,
}

/// A moment, and how old the news was then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmed {
    pub(crate) at: Instant,
    pub(crate) age: Duration,
}

impl StatusRecord {
    pub(crate) fn is_stopped(&self) -> bool {
        self.connection == Connection::Stopped
    }

    /// Whether something other than the time differs.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        self.connection != other.connection
            || self.serving != other.serving
            || self.stale != other.stale
            || self.rejected != other.rejected
            || self.file_problem != other.file_problem
    }

    pub(crate) fn at(&self, clock: &dyn Clock) -> Status {
        let age = |confirmed: Confirmed| {
            if self.connection == Connection::Live {
                Duration::ZERO
            } else {
                let since = clock.now().saturating_duration_since(confirmed.at);
                since.saturating_add(confirmed.age)
            }
        };
        Status {
            connection: self.connection.clone(),
            age: self.confirmed.map(age),
            serving: self.serving,
            stale: self.stale,
            rejected: self.rejected.clone(),
            file_problem: self.file_problem.clone(),
        }
    }
}
