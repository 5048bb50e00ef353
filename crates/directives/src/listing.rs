//! A set as it is shown to people and programs.

use std::time::SystemTime;

use serde::Serialize;

use crate::directive::{Directive, DirectiveSet, Match};
use crate::rfc3339;
use crate::snapshot::{Effective, Snapshot};

/// A directive, with when its life ends and whether it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown<'a> {
    id: &'a str,
    level: &'static str,
    #[serde(rename = "match")]
    matches: &'a Match,
    flags: &'a [String],
    sample_per_mille: u16,
    expires_at: String,
    expired: bool,
}

impl<'a> Shown<'a> {
    fn new(directive: &'a Directive, end: SystemTime, expired: bool) -> Self {
        Self {
            id: directive.id(),
            level: directive.level().as_str(),
            matches: directive.matches(),
            flags: directive.flags(),
            sample_per_mille: directive
                .sample_per_mille()
                .unwrap_or(crate::limits::MAX_PER_MILLE),
            expires_at: rfc3339::format(end),
            expired,
        }
    }
}

impl DirectiveSet {
    /// The directives as they are shown at `now`. Lives that only say how long count from `published`.
    pub fn shown(&self, published: SystemTime, now: SystemTime) -> impl Iterator<Item = Shown<'_>> {
        self.directives().iter().map(move |directive| {
            let end = directive.life().end(published);
            Shown::new(directive, end, end <= now)
        })
    }
}

impl Snapshot {
    /// All directives as they are shown, those that have ended included.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        self.judged()
            .map(|(directive, lives)| Shown::new(directive.directive(), directive.expires_at(), !lives))
    }
}

/// What applies to a subject, with the value of the key that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The highest level.
    pub level: &'static str,
    /// The flags, sorted.
    pub flags: Vec<String>,
    /// The ids of what applies, in the order of the set.
    pub directives: Vec<String>,
    /// When the set was written; 0: before any was seen.
    pub revision: u64,
    /// Whether nobody has confirmed since the start that it is still in force.
    pub stale: bool,
}

impl Answer {
    /// What a snapshot says.
    pub fn new(snapshot: &Snapshot, effective: Effective) -> Self {
        Self {
            level: effective.level.as_str(),
            flags: effective.flags,
            directives: effective.directives,
            revision: snapshot.origin().map_or(0, |origin| origin.revision.0),
            stale: snapshot.is_stale(),
        }
    }
}
