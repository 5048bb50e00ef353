//! Directives, and sets of them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::decode;
use crate::level::Level;
use crate::reason::Rejection;
use crate::rfc3339;
use crate::sample;
use crate::snapshot::Snapshot;
use crate::subject::{Attribute, Subject};

/// A directive as it was published: for whom, how much, which switches, how long.
///
/// One is made by decoding, so its parts are within [`limits`](crate::limits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    pub(crate) id: String,
    pub(crate) level: Level,
    pub(crate) matches: Match,
    pub(crate) flags: Vec<String>,
    /// None: not said, which means all of them.
    pub(crate) sample_per_mille: Option<u16>,
    pub(crate) life: Life,
}

/// How long a directive lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// So many whole seconds from its publish on. Servers replace it by [`Life::Until`].
    Ttl(Duration),
    /// Until then.
    Until(SystemTime),
}

impl Directive {
    /// Reads one directive.
    ///
    /// # Errors
    /// [`Rejection`], whose path begins at the directive.
    pub fn decode(json: &[u8]) -> Result<Self, Rejection> {
        decode::directive(json)
    }

    /// Its name, unique within its set.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How much is said about what it matches.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What it matches.
    pub fn matches(&self) -> &Match {
        &self.matches
    }

    /// The switches that are on for what it matches, in the order they were written.
    pub fn flags(&self) -> &[String] {
        &self.flags
    }

    /// To how many requests in a thousand it applies; none if that was not said: to all.
    pub fn sample_per_mille(&self) -> Option<u16> {
        self.sample_per_mille
    }

    /// How long it lives.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The same directive with another life.
    #[must_use]
    pub fn with_life(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// Whether it applies to a subject and a request, if it lives.
    #[inline]
    pub fn applies_to(&self, subject: &Subject<'_>, request_id: &[u8]) -> bool {
        self.matches.accepts(subject) && self.samples(request_id)
    }

    /// Whether its sampling takes this request; see [`sample::bucket`].
    #[inline]
    pub fn samples(&self, request_id: &[u8]) -> bool {
        self.sample_per_mille
            .is_none_or(|rate| sample::bucket(request_id) < rate)
    }
}

/// The values that attributes must have; an attribute that is not named may have any, or be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    values: [Option<Box<str>>; Attribute::ALL.len()],
}

impl Match {
    /// Matches everything.
    pub fn any() -> Self {
        Self::default()
    }

    pub(crate) fn set(&mut self, attribute: Attribute, value: &str) {
        self.values[attribute as usize] = Some(value.into());
    }

    /// The value that an attribute must have, if it must have one.
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        self.values[attribute as usize].as_deref()
    }

    /// The attributes that are named, with the values they must have.
    pub fn iter(&self) -> impl Iterator<Item = (Attribute, &str)> {
        Attribute::ALL
            .into_iter()
            .filter_map(|attribute| Some((attribute, self.get(attribute)?)))
    }

    /// Whether it names no attribute, so that it matches everything.
    pub fn is_any(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// Whether a subject has all that is asked for.
    #[inline]
    pub fn accepts(&self, subject: &Subject<'_>) -> bool {
        Attribute::ALL.into_iter().all(|attribute| {
            self.get(attribute)
                .is_none_or(|wanted| subject.get(attribute) == Some(wanted))
        })
    }
}

/// What is published: directives with different ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectiveSet {
    pub(crate) directives: Vec<Directive>,
}

impl DirectiveSet {
    /// A set without directives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a set. The only way in, whatever brings it: what is not entirely right is rejected as a
    /// whole.
    ///
    /// # Errors
    /// [`Rejection`]: a stable reason and the path of the field.
    ///
    /// ```
    /// use tidewatch_directives::{DirectiveSet, Reason};
    ///
    /// let json = br#"{"directives":[{"id":"a","level":"debug","match":{"workload":5},"ttl_secs":60}]}"#;
    /// let rejection = DirectiveSet::decode(json).unwrap_err();
    /// assert_eq!(rejection.reason(), Reason::WrongType);
    /// assert_eq!(rejection.path(), "directives[0].match.workload");
    /// ```
    pub fn decode(json: &[u8]) -> Result<Self, Rejection> {
        decode::set(json)
    }

    /// Writes the set down, always in the same form: what [`decode`](Self::decode) accepts decodes again
    /// to the same set.
    #[expect(
        clippy::missing_panics_doc,
        reason = "texts and numbers always have a JSON form"
    )]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("texts and numbers have a JSON form")
            .into()
    }

    /// The directives, in the order they were written.
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }

    /// The directive of this id.
    pub fn get(&self, id: &str) -> Option<&Directive> {
        self.directives.iter().find(|directive| directive.id == id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.directives.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.directives.is_empty()
    }

    /// Puts a directive in, in the place of the one with its id if there is one. Whether the set is
    /// still within its bounds shows when it is [checked](Self::check).
    pub fn insert(&mut self, directive: Directive) {
        match self.directives.iter_mut().find(|old| old.id == directive.id) {
            Some(old) => *old = directive,
            None => self.directives.push(directive),
        }
    }

    /// Takes a directive out, and tells whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.directives.len();
        self.directives.retain(|directive| directive.id != id);
        self.directives.len() < before
    }

    /// Whether a directive has a life that only says how long, not until when.
    pub fn needs_stamp(&self) -> bool {
        self.directives
            .iter()
            .any(|directive| matches!(directive.life, Life::Ttl(_)))
    }

    /// Turns every life that says how long into one that says until when, counted from `published`.
    pub fn stamp(&mut self, published: SystemTime) {
        for directive in &mut self.directives {
            directive.life = Life::Until(directive.life.end(published));
        }
    }

    /// Turns the lives into the ones that this set has in a snapshot made of it.
    pub(crate) fn stamp_as(&mut self, snapshot: &Snapshot) {
        for directive in &mut self.directives {
            let seen = snapshot.directives().iter();
            if let Some(seen) = seen.into_iter().find(|seen| seen.directive() == directive) {
                directive.life = Life::Until(seen.expires_at());
            }
        }
    }

    /// Takes out what has ended at this time.
    pub fn retain_live(&mut self, now: SystemTime) {
        self.directives.retain(|directive| directive.life.end(now) > now);
    }

    /// Checks that the set, as it would be written, can be read: sets that were changed one by one may
    /// have grown too large.
    ///
    /// # Errors
    /// [`Rejection`], as [`decode`](Self::decode).
    pub fn check(&self) -> Result<Bytes, Rejection> {
        let encoded = self.encode();
        Self::decode(&encoded)?;
        Ok(encoded)
    }
}

impl Life {
    /// When it ends on the wall clock, if it began at `published`. The end of all time that can be
    /// written down is the latest.
    pub fn end(self, published: SystemTime) -> SystemTime {
        match self {
            Self::Ttl(ttl) => rfc3339::clamp(published.checked_add(ttl)),
            Self::Until(end) => end,
        }
    }
}

impl Serialize for DirectiveSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("directives", &self.directives)?;
        map.end()
    }
}

impl Serialize for Directive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("level", self.level.as_str())?;
        if !self.matches.is_any() {
            map.serialize_entry("match", &self.matches)?;
        }
        if !self.flags.is_empty() {
            map.serialize_entry("flags", &self.flags)?;
        }
        if let Some(rate) = self.sample_per_mille {
            map.serialize_entry("sample_per_mille", &rate)?;
        }
        match self.life {
            Life::Ttl(ttl) => map.serialize_entry("ttl_secs", &ttl.as_secs())?,
            Life::Until(end) => map.serialize_entry("expires_at", &rfc3339::format(end))?,
        }
        map.end()
    }
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(attribute, value)| (attribute.as_str(), value)))
    }
}
