//! What a run tells: its trace, its coverage, and the first promise that was broken.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidewatch_core::{Clock as _, ManualClock};

use super::coverage::{Coverage, Kind};

/// Where all who take part in a run write to. Clones share it; the journal's is in the driver's hands, which may be
/// sent elsewhere, hence the lock.
#[derive(Clone, Debug)]
pub(crate) struct Chronicle {
    clock: ManualClock,
    start: Instant,
    told: Arc<Mutex<Told>>,
}

/// A moment of a run. No two tasks run in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    step: u64,
    /// Since the run began.
    pub(crate) time: Duration,
}

#[derive(Debug, Default)]
struct Told {
    step: u64,
    /// None: nobody wants to read it.
    trace: Option<String>,
    coverage: Coverage,
    violation: Option<String>,
}

impl Chronicle {
    pub(crate) fn new(clock: ManualClock, traced: bool) -> Self {
        let told = Told {
            trace: traced.then(String::new),
            ..Told::default()
        };
        Self {
            start: clock.now(),
            clock,
            told: Arc::new(Mutex::new(told)),
        }
    }

    /// The time since the run began.
    pub(crate) fn time(&self) -> Duration {
        self.clock.now() - self.start
    }

    /// When it is, and in which step: many of those may happen at one time.
    pub(crate) fn moment(&self) -> Moment {
        let (time, step) = (self.time(), self.lock().step);
        Moment { step, time }
    }

    /// Begins the next step of the run.
    pub(crate) fn step(&self) {
        self.lock().step += 1;
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, who: impl fmt::Display, what: impl fmt::Display) {
        let time = self.time();
        let mut told = self.lock();
        let step = told.step;
        if let Some(trace) = &mut told.trace {
            let line = writeln!(trace, "{step:>6} {:>9.3} s  {who}: {what}", time.as_secs_f64());
            debug_assert!(line.is_ok(), "a string takes everything");
        }
    }

    pub(crate) fn count(&self, kind: Kind) {
        self.lock().coverage.count(kind);
    }

    /// Notes a broken promise. The first one counts, and ends the run.
    pub(crate) fn violated(&self, who: impl fmt::Display, what: impl fmt::Display) {
        let violation = format!("{who}: {what}");
        self.note("VIOLATION", &violation);
        self.lock().violation.get_or_insert(violation);
    }

    /// Notes a broken promise, if there is one.
    pub(crate) fn judge(&self, who: impl fmt::Display, verdict: Result<(), String>) {
        if let Err(violation) = verdict {
            self.violated(who, violation);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(crate) fn has_violation(&self) -> bool {
        self.lock().violation.is_some()
    }

    pub(crate) fn coverage(&self) -> Coverage {
        self.lock().coverage.clone()
    }

    pub(crate) fn trace(&self) -> String {
        self.lock().trace.take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
