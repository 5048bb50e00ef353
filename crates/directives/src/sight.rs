//! When a set was first seen, from which its lives count.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tidewatch_core::{Clock, Uptime};

use crate::directive::{Directive, DirectiveSet, Life};
use crate::snapshot::{Deadline, InForce, Origin, Snapshot};

/// How many values of the key, of at most 64 KiB each, are remembered. One is in force; the others are for a source that goes
/// back and forth, as one with several servers may.
const MAX_SIGHTS: usize = 16;

/// The first look at one value of the key.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) origin: Origin,
    /// What was seen; none if the key was not there.
    value: Option<Bytes>,
    /// When that was on the wall clock.
    pub(crate) wall: SystemTime,
    /// When that was since the machine's start, for the next process.
    pub(crate) uptime: Option<Uptime>,
    /// From when on this process counts, and what had passed before.
    since: Instant,
    /// None if that cannot be told.
    before: Option<Duration>,
    /// How long each directive, by its id, had to live at the first look.
    pub(crate) lives: BTreeMap<String, Duration>,
}

impl Sight {
    fn now(clock: &dyn Clock, origin: Origin, value: Option<Bytes>) -> Self {
        Self {
            origin,
            value,
            wall: clock.system_time(),
            uptime: clock.uptime(),
            since: clock.now(),
            before: Some(Duration::ZERO),
            lives: BTreeMap::new(),
        }
    }

    /// A look that another process took. What has passed since is told by the machine's uptime, or, if it
    /// was restarted since, by the wall clock. Where that has gone back, nobody can tell, so that all
    /// lives are over: a directive may end early, but not late.
    pub(crate) fn recalled(
        clock: &dyn Clock,
        origin: Origin,
        value: Option<Bytes>,
        wall: SystemTime,
        uptime: Option<Uptime>,
        lives: BTreeMap<String, Duration>,
    ) -> Self {
        let by_uptime = || {
            let (then, now) = (uptime?, clock.uptime()?);
            let passed = now.elapsed.checked_sub(then.elapsed)?;
            (then.boot == now.boot).then_some(passed)
        };
        let by_wall = || clock.system_time().duration_since(wall).ok();
        Self {
            origin,
            value,
            wall,
            uptime,
            since: clock.now(),
            before: by_uptime().or_else(by_wall),
            lives,
        }
    }

    /// How long ago the look was, if that can be told.
    pub(crate) fn age(&self, clock: &dyn Clock) -> Option<Duration> {
        let since = clock.now().saturating_duration_since(self.since);
        Some(self.before?.saturating_add(since))
    }

    /// Whether one of its lives lasts.
    fn lives(&self, clock: &dyn Clock) -> bool {
        self.age(clock)
            .is_some_and(|age| self.lives.values().any(|&life| life > age))
    }

    fn deadline(&self, life: Duration) -> Deadline {
        self.before.map_or(Deadline::Past, |before| {
            Deadline::after(self.since, life.saturating_sub(before))
        })
    }

    /// Puts a set in force: notes how long each of its directives has to live, unless that was noted
    /// before. What `before` had in force until the same time on the wall clock, it does not outlive.
    pub(crate) fn enforce(&mut self, set: &DirectiveSet, before: &Snapshot) -> Vec<InForce> {
        let directives = set.directives().iter();
        directives
            .map(|directive| self.enforce_one(directive, before))
            .collect()
    }

    fn enforce_one(&mut self, directive: &Directive, before: &Snapshot) -> InForce {
        let expires_at = directive.life().end(self.wall);
        let life = self.life(directive, expires_at, before);
        let life = *self.lives.entry(directive.id().to_owned()).or_insert(life);
        InForce::new(directive.clone(), expires_at, self.deadline(life))
    }

    fn life(&self, directive: &Directive, expires_at: SystemTime, before: &Snapshot) -> Duration {
        let life = match directive.life() {
            Life::Ttl(ttl) => ttl,
            Life::Until(end) => end.duration_since(self.wall).unwrap_or_default(),
        };
        // Another directive of the set was changed, or this one's life was stamped. Had the wall clock
        // been set back since, this would be a second life.
        let same = before
            .directives()
            .iter()
            .find(|other| other.directive().id() == directive.id() && other.expires_at() == expires_at);
        let left = same.and_then(|same| match same.deadline() {
            Deadline::Past => Some(Duration::ZERO),
            Deadline::At(at) => Some(at.saturating_duration_since(self.since)),
            Deadline::Never => None,
        });
        left.map_or(life, |left| left.min(life))
    }
}

/// The first looks at the last few values of the key.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    latest_last: VecDeque<Sight>,
}

impl Sights {
    pub(crate) fn recall(&mut self, sight: Sight) {
        self.latest_last.push_back(sight);
    }

    /// The look at this origin's value, if it is remembered.
    pub(crate) fn get(&self, origin: Origin) -> Option<&Sight> {
        self.latest_last.iter().find(|sight| sight.origin == origin)
    }

    /// The first look at this value: an earlier one, or this.
    pub(crate) fn of(&mut self, clock: &dyn Clock, origin: Origin, value: Option<&Bytes>) -> &mut Sight {
        let known = self.latest_last.iter().position(|sight| sight.origin == origin);
        let sight = known
            .and_then(|at| self.latest_last.remove(at))
            .or_else(|| self.elsewhere(clock, origin, value))
            .unwrap_or_else(|| Sight::now(clock, origin, value.cloned()));
        if self.latest_last.len() == MAX_SIGHTS {
            self.latest_last.pop_front();
        }
        self.latest_last.push_back(sight);
        let last = self.latest_last.len() - 1;
        &mut self.latest_last[last]
    }

    /// The look at the same value at the same revision of another keyspace. A cluster that is restored has another name
    /// and the same publishes, whose lives go on. Once all of them are over it may as well be another cluster that begins
    /// in the same way, and dead directives would stay dead there for ever.
    fn elsewhere(&self, clock: &dyn Clock, origin: Origin, value: Option<&Bytes>) -> Option<Sight> {
        let is_same = |sight: &&Sight| {
            sight.origin.revision == origin.revision
                && value.is_some()
                && sight.value.as_ref() == value
                && sight.lives(clock)
        };
        let sight = self.latest_last.iter().rev().find(is_same)?;
        Some(Sight {
            origin,
            ..sight.clone()
        })
    }
}
