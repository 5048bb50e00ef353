//! Asking Docker what there is.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::container::Container;

/// Lists containers: all that a reconciler cannot do without.
///
/// A list is the only source of state. An implementation decodes each container on its own: what it
/// does not understand of one container becomes `unknown` there and harms no other; an element that
/// has not even an id is counted in [`Listing::undecodable`].
///
/// Who answers lists can also say who it is and whether it is there, which guards the rows against a
/// change of daemon behind an address; both have defaults for those who have nothing to say.
///
/// # Cancel safety
/// Every future may be dropped at any time; the reconciler does so when its deadline has passed. An
/// implementation needs no deadlines of its own.
pub trait DockerLister: Send + Sync + 'static {
    /// Lists the containers in `scope`, running or not, in any order.
    ///
    /// For [`Scope::Ids`], a container that does not exist is simply not in the answer.
    ///
    /// # Errors
    /// [`ListError`]. An error, unlike an empty list, changes no row.
    fn list(&self, scope: Scope<'_>) -> impl Future<Output = Result<Listing, ListError>> + Send;

    /// Tells which daemon answers. Asked for before the first list of a connection, again before what is new in a full list is
    /// written, and otherwise every ten minutes.
    ///
    /// The default is a daemon without an id: one that is always the same.
    ///
    /// # Errors
    /// [`ListError`].
    fn daemon(&self) -> impl Future<Output = Result<Daemon, ListError>> + Send {
        async { Ok(Daemon::default()) }
    }

    /// Asks whether the daemon is there, as cheaply as possible.
    ///
    /// # Errors
    /// [`ListError`].
    fn ping(&self) -> impl Future<Output = Result<(), ListError>> + Send {
        async { Ok(()) }
    }
}

/// Which containers a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All there are.
    All,
    /// Those with these full ids; at least one, no more than
    /// [`MAX_SCOPE_IDS`].
    Ids(&'a [String]),
}

/// The most ids in one [`Scope::Ids`]. They travel in a URL (64 digits each), and from about a
/// hundred on a full list costs less than a list by id.
pub const MAX_SCOPE_IDS: usize = 100;

impl Scope<'_> {
    /// Whether a container with this id is meant.
    pub fn contains(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.iter().any(|each| each == id),
        }
    }
}

/// The answer to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The containers, in any order.
    pub containers: Vec<Container>,
    /// How many elements could not be told apart because they had no usable id. While there is one,
    /// nothing is concluded from a container's absence.
    pub undecodable: usize,
}

impl From<Vec<Container>> for Listing {
    fn from(containers: Vec<Container>) -> Self {
        Self {
            containers,
            undecodable: 0,
        }
    }
}

/// A Docker daemon, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its id: `ID` of `/info`. Empty if it has none to give; then any two are taken for the same.
    pub id: String,
    /// Versions by component: `engine`, `api`, and whatever else is worth showing (`os`, `kernel`).
    pub versions: BTreeMap<String, String>,
    /// What its own clock shows, where it says so: replay of events is asked for in its time, not
    /// ours.
    pub time: Option<SystemTime>,
}

/// The oldest version of Docker's API that is tested: that of Docker 20.10.
pub const OLDEST_API: (u32, u32) = (1, 41);

impl Daemon {
    /// Whether it says that it speaks an API older than [`OLDEST_API`]. It is asked all the same, and may well answer.
    pub fn is_older_than_tested(&self) -> bool {
        let parse = |api: &String| {
            let (major, minor) = api.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let api: Option<(u32, u32)> = self.versions.get("api").and_then(parse);
        api.is_some_and(|api| api < OLDEST_API)
    }
}

/// Why Docker gave no answer that can be used.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum ListError {
    /// Nobody answers: no socket, connection refused or lost.
    #[error("docker cannot be reached at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why it was not found there.
        #[source]
        source: Cause,
    },
    /// It did not answer in time.
    #[error("docker did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// It answered with an error.
    #[error("docker answered with status {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, shortened.
        message: String,
    },
    /// It answered with something that is no answer.
    #[error("docker's answer cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// Something else, of a lister of one's own.
    #[error("docker cannot be asked")]
    Other(#[source] Cause),
}

/// The cause of a [`ListError`].
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_old_by_its_numbers() {
        for (api, old) in [
            (Some("1.40"), true),
            (Some("1.9"), true),
            (Some("0.99"), true),
            (Some("1.41"), false),
            (Some("1.52"), false),
            (Some("2.0"), false),
            (Some("new"), false),
            (None, false),
        ] {
            let versions = api.map(|api| ("api".to_owned(), api.to_owned()));
            let daemon = Daemon {
                versions: versions.into_iter().collect(),
                ..Daemon::default()
            };
            assert_eq!(daemon.is_older_than_tested(), old, "{api:?}");
        }
    }
}
