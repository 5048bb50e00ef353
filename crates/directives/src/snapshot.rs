//! The set in force, as those who ask it see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tidewatch_core::{Clock, KeyspaceId, Revision};

use crate::directive::Directive;
use crate::level::Level;
use crate::sample;
use crate::subject::Subject;

/// The set in force at some moment. Shared by all who ask, and never changed: a publish makes another.
///
/// Asking takes no lock, allocates nothing and waits for nobody. Directives that have ended do not
/// apply, whether or not somebody has noticed.
pub struct Snapshot {
    clock: Arc<dyn Clock>,
    origin: Option<Origin>,
    stale: bool,
    directives: Box<[InForce]>,
}

/// Which value of the key a snapshot was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// When the set was last written there, or at which revision it was not there.
    pub revision: Revision,
}

/// A directive, with the moments at which its life ends.
#[derive(Debug)]
pub struct InForce {
    directive: Directive,
    expires_at: SystemTime,
    deadline: Deadline,
    /// Latched by whoever first finds the life over: a wall clock that goes back revives nothing.
    ended: AtomicBool,
}

/// When a life ends on a clock that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// It is over.
    Past,
    At(Instant),
    /// Later than this clock can tell.
    Never,
}

impl Deadline {
    pub(crate) fn after(start: Instant, life: Duration) -> Self {
        match start.checked_add(life) {
            _ if life.is_zero() => Self::Past,
            Some(at) => Self::At(at),
            None => Self::Never,
        }
    }

    fn has_passed(self, now: Instant) -> bool {
        match self {
            Self::Past => true,
            Self::At(at) => now >= at,
            Self::Never => false,
        }
    }
}

/// What applies to a subject and a request, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// The highest level of what applies.
    pub level: Level,
    /// The flags of all that applies, each once, sorted.
    pub flags: Vec<String>,
    /// The ids of what applies, in the order of the set.
    pub directives: Vec<String>,
}

/// The clocks, looked at when the first life has to be judged, and once for a question.
struct Now<'a> {
    clock: &'a dyn Clock,
    at: Option<(Instant, SystemTime)>,
}

impl Now<'_> {
    fn get(&mut self) -> (Instant, SystemTime) {
        *self
            .at
            .get_or_insert_with(|| (self.clock.now(), self.clock.system_time()))
    }
}

/// A subject and a request, and what was found out about them while asking.
struct Question<'a> {
    subject: &'a Subject<'a>,
    request_id: &'a [u8],
    bucket: Option<u16>,
    now: Now<'a>,
}

impl Question<'_> {
    /// Cheap things first: the clock is looked at for what would apply.
    fn concerns(&mut self, candidate: &InForce) -> bool {
        candidate.directive.matches.accepts(self.subject)
            && self.samples(candidate)
            && candidate.lives_at(&mut self.now)
    }

    fn samples(&mut self, candidate: &InForce) -> bool {
        let Some(rate) = candidate.directive.sample_per_mille else {
            return true;
        };
        let bucket = self.bucket.get_or_insert_with(|| sample::bucket(self.request_id));
        *bucket < rate
    }
}

impl InForce {
    pub(crate) fn new(directive: Directive, expires_at: SystemTime, deadline: Deadline) -> Self {
        Self {
            directive,
            expires_at,
            deadline,
            ended: AtomicBool::new(deadline == Deadline::Past),
        }
    }

    /// The directive as it was published.
    pub fn directive(&self) -> &Directive {
        &self.directive
    }

    /// When it ends on the wall clock; earlier if that clock was set back since it was first seen.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    pub(crate) fn deadline(&self) -> Deadline {
        if self.ended.load(Ordering::Relaxed) {
            Deadline::Past
        } else {
            self.deadline
        }
    }

    fn lives_at(&self, now: &mut Now<'_>) -> bool {
        // Nothing else depends on what this says, so no ordering does either.
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let (now, wall) = now.get();
        if self.deadline.has_passed(now) || wall >= self.expires_at {
            self.ended.store(true, Ordering::Relaxed);
            return false;
        }
        true
    }
}

impl Snapshot {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        origin: Option<Origin>,
        stale: bool,
        directives: Vec<InForce>,
    ) -> Self {
        Self {
            clock,
            origin,
            stale,
            directives: directives.into(),
        }
    }

    /// The effective level: the highest of the directives that live, match and sample.
    /// [`Level::Off`] if none does.
    #[inline]
    pub fn level(&self, subject: &Subject<'_>, request_id: impl AsRef<[u8]>) -> Level {
        if self.directives.is_empty() {
            return Level::Off;
        }
        let mut question = self.question(subject, request_id.as_ref());
        let mut level = Level::Off;
        for candidate in &self.directives {
            if candidate.directive.level > level && question.concerns(candidate) {
                level = candidate.directive.level;
            }
        }
        level
    }

    /// Whether a flag is on: whether a directive that lives, matches and samples has it.
    pub fn flag(&self, subject: &Subject<'_>, request_id: impl AsRef<[u8]>, flag: &str) -> bool {
        let mut question = self.question(subject, request_id.as_ref());
        self.directives
            .iter()
            .filter(|candidate| candidate.directive.flags.iter().any(|own| own == flag))
            .any(|candidate| question.concerns(candidate))
    }

    /// What lives, matches and samples, in the order of the set.
    pub fn applying<'a>(
        &'a self,
        subject: &'a Subject<'a>,
        request_id: &'a [u8],
    ) -> impl Iterator<Item = &'a Directive> {
        let mut question = self.question(subject, request_id);
        self.directives
            .iter()
            .filter(move |candidate| question.concerns(candidate))
            .map(InForce::directive)
    }

    /// Level, flags and ids together, in memory of their own.
    pub fn effective(&self, subject: &Subject<'_>, request_id: impl AsRef<[u8]>) -> Effective {
        let mut effective = Effective::default();
        for directive in self.applying(subject, request_id.as_ref()) {
            effective.level = effective.level.max(directive.level);
            effective.flags.extend(directive.flags.iter().cloned());
            effective.directives.push(directive.id.clone());
        }
        effective.flags.sort_unstable();
        effective.flags.dedup();
        effective
    }

    fn question<'a>(&'a self, subject: &'a Subject<'a>, request_id: &'a [u8]) -> Question<'a> {
        Question {
            subject,
            request_id,
            bucket: None,
            now: self.now(),
        }
    }

    fn now(&self) -> Now<'_> {
        Now {
            clock: &*self.clock,
            at: None,
        }
    }

    /// Which value of the key it was made of. None before the first one was seen.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Whether it comes from the file of the last good set, and nobody has confirmed since the start
    /// that it is still the one in force.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// All directives of the set, those that have ended included, in its order.
    pub fn directives(&self) -> &[InForce] {
        &self.directives
    }

    /// The directives that live.
    pub fn live(&self) -> impl Iterator<Item = &InForce> {
        self.judged()
            .filter_map(|(directive, lives)| lives.then_some(directive))
    }

    /// All directives, and whether each lives.
    pub(crate) fn judged(&self) -> impl Iterator<Item = (&InForce, bool)> {
        let mut now = self.now();
        self.directives
            .iter()
            .map(move |directive| (directive, directive.lives_at(&mut now)))
    }

    /// When the next of the lives ends, as far as that is known: a wall clock that is set forward ends
    /// it before.
    pub fn next_end(&self) -> Option<Instant> {
        let ends = self.live().filter_map(|candidate| match candidate.deadline {
            Deadline::At(at) => Some(at),
            Deadline::Past | Deadline::Never => None,
        });
        ends.min()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("origin", &self.origin)
            .field("stale", &self.stale)
            .field("directives", &self.directives)
            .finish_non_exhaustive()
    }
}
