//! What a check has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidewatch_client::Reconnect;
use tidewatch_core::Ended;
use tidewatch_core::check::Violation;

/// How much there has been so far.
#[derive(Debug, Default)]
pub struct Counts {
    rounds: AtomicU64,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    streams: AtomicU64,
    events: AtomicU64,
    progress: AtomicU64,
    resumed: AtomicU64,
    interrupted: AtomicU64,
    reconnected: AtomicU64,
    ends: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counts {
    /// Transactions that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Transactions of which nobody said how they ended.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Events delivered, to all watchers together.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Watches that were begun where another one had been left, or had ended.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Connections that watches lost and made again by themselves.
    pub fn reconnected(&self) -> u64 {
        self.reconnected.load(Ordering::Relaxed)
    }

    /// Reports of progress.
    pub fn progress_reports(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// How many watches ended by themselves, by reason.
    pub fn ends(&self) -> BTreeMap<&'static str, u64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn round(&self) {
        add(&self.rounds, 1);
    }

    pub(super) fn transaction(&self, is_known: bool) {
        add(
            if is_known {
                &self.acknowledged
            } else {
                &self.unknown
            },
            1,
        );
    }

    pub(super) fn stream(&self, resumes: bool) {
        add(&self.streams, 1);
        add(&self.resumed, u64::from(resumes));
    }

    pub(super) fn delivered(&self, events: usize) {
        add(&self.events, events as u64);
    }

    pub(super) fn progress(&self) {
        add(&self.progress, 1);
    }

    pub(super) fn reconnect(&self, reconnect: &Reconnect) {
        match reconnect {
            Reconnect::Lost { attempt: 1, .. } => add(&self.interrupted, 1),
            Reconnect::Lost { .. } => {}
            Reconnect::Resumed { .. } => add(&self.reconnected, 1),
        }
    }

    pub(super) fn ended(&self, ended: &Ended) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(ended.reason.name()).or_default() += 1;
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A broken promise, and to whom it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which watcher: its kind and what it asked for.
    pub whom: String,
    /// What was promised, and what was seen instead.
    pub violation: Violation,
}

/// The longest violation that is shown, in characters. It may hold the values of a whole revision.
const MAX_SHOWN: usize = 2000;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violation = self.violation.to_string();
        let shown: String = violation.chars().take(MAX_SHOWN).collect();
        let rest = if shown.len() < violation.len() { " …" } else { "" };
        write!(f, "{}: {shown}{rest}", self.whom)
    }
}

/// What was checked, and what was found. Displayed it is a text of a few lines.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the check was drawn from.
    pub seed: u64,
    /// Where its keys were.
    pub prefix: String,
    /// How much there was.
    pub counts: Arc<Counts>,
    /// Every broken promise of the round in which the first one broke.
    pub found: Vec<Found>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, prefix, .. } = self;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &*self.counts;
        writeln!(f, "checked with seed {seed} below {prefix}")?;
        writeln!(f, "rounds        {}", count(&counts.rounds))?;
        writeln!(
            f,
            "transactions  {} acknowledged, {} of unknown outcome",
            count(&counts.acknowledged),
            count(&counts.unknown)
        )?;
        writeln!(
            f,
            "watches       {} streams, {} of them resumed",
            count(&counts.streams),
            count(&counts.resumed)
        )?;
        writeln!(
            f,
            "delivered     {} events, {} reports of progress",
            count(&counts.events),
            count(&counts.progress)
        )?;
        writeln!(
            f,
            "connections   {} lost, {} made again",
            count(&counts.interrupted),
            count(&counts.reconnected)
        )?;
        let ends = counts.ends();
        let ends = ends.iter().map(|(reason, number)| format!("{reason} {number}"));
        let ends = ends.collect::<Vec<_>>().join(", ");
        writeln!(
            f,
            "ends          {}",
            if ends.is_empty() { "none" } else { &ends }
        )?;
        if self.found.is_empty() {
            return write!(f, "every promise was kept");
        }
        for found in &self.found {
            writeln!(f, "{found}")?;
        }
        write!(f, "promises broken: {}", self.found.len())
    }
}
