//! Revisions, the identity of a keyspace, and positions.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::error::Error;

/// A point in the history of a keyspace: strictly increasing, one for each committed transaction
/// that changed something. An empty keyspace is at revision 1.
///
/// Zero is no revision; where one may be absent the type is `Option<Revision>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a keyspace nothing was ever written to.
    pub const INITIAL: Self = Self(1);

    /// The revision after this one; the greatest stays as it is. No history comes that far, but peers
    /// may name it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Revision {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The identity of a keyspace. Two keyspaces with the same id share one history; a restored backup
/// has a new id, so that nobody resumes in a history that has taken another course.
///
/// Shown as sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u64);

impl KeyspaceId {
    /// A new random id, never zero (which etcd's clients read as "unknown").
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for KeyspaceId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A place in the history of one particular keyspace: what a watch resumes from.
///
/// Shown and parsed as `<revision>-<keyspace id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The keyspace whose history this is.
    pub keyspace: KeyspaceId,
    /// The last revision that was seen whole.
    pub revision: Revision,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision, self.keyspace)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (revision, keyspace) = text.split_once('-')?;
            Some(Self {
                keyspace: keyspace.parse().ok()?,
                revision: revision.parse().ok()?,
            })
        };
        parse().ok_or_else(|| Error::InvalidArgument {
            what: "position",
            reason: format!("{text:?} is not of the form <revision>-<keyspace id>"),
        })
    }
}
