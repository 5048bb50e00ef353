//! What to look at next: a decision without any waiting or asking.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::lister::MAX_SCOPE_IDS;
use crate::settings::ReconcilerSettings;

/// What is to be looked at, and when.
///
/// Marks may arrive at any time, also while a list is under way: what is taken from the agenda is
/// gone from it, so that a container that is dirtied during its list is listed again.
#[derive(Debug)]
pub(crate) struct Agenda {
    dirty: BTreeMap<String, Mark>,
    /// Why everything is to be listed, if it is.
    full: Option<Cause>,
    /// When everything is listed anyway.
    periodic_at: Instant,
    /// Before this no drain begins.
    drain_at: Instant,
    /// Before this no resync begins that only asks for it because much has changed.
    resync_at: Instant,
    /// Before this nothing is begun, because the keyspace failed.
    retry_at: Instant,
    /// Whether everything was taken off to be listed at least once.
    begun: bool,
    rng: fastrand::Rng,
    resync_interval: Duration,
    drain_spacing: Duration,
    resync_spacing: Duration,
    max_dirty: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    since: Instant,
    /// Whether it began or ended a run, so that what only an inspection tells has changed.
    lifecycle: bool,
}

/// Why everything is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// It is time; what is repaired is drift.
    Periodic,
    /// Workloads or deploy rows have changed.
    Fleet,
    /// More containers are dirty than a list by id is worth.
    Burst,
    /// Something was lost, or may have been.
    Doubt,
    /// The connection is new, or the last attempt failed.
    Connected,
}

impl Cause {
    /// Whether it is only that much has changed, and nothing is wrong.
    fn can_wait(self) -> bool {
        matches!(self, Self::Fleet | Self::Burst)
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// List everything.
    Resync {
        cause: Cause,
        /// These are to be inspected, whatever the list says.
        touched: BTreeSet<String>,
    },
    /// List these.
    Drain {
        ids: Vec<String>,
        touched: BTreeSet<String>,
        /// When the first of them was marked.
        since: Instant,
    },
    /// Nothing, until then or until something is marked.
    Wait(Instant),
}

impl Agenda {
    pub(crate) fn new(settings: &ReconcilerSettings, seed: u64, now: Instant) -> Self {
        Self {
            dirty: BTreeMap::new(),
            full: Some(Cause::Connected),
            periodic_at: now,
            drain_at: now,
            resync_at: now,
            retry_at: now,
            begun: false,
            rng: fastrand::Rng::with_seed(seed),
            resync_interval: settings.resync_interval,
            drain_spacing: settings.drain_spacing,
            resync_spacing: settings.resync_spacing,
            max_dirty: settings.max_dirty,
        }
    }

    /// Something happened to a container.
    pub(crate) fn mark(&mut self, id: String, lifecycle: bool, now: Instant) {
        if self.dirty.len() >= self.max_dirty && !self.dirty.contains_key(&id) {
            self.dirty.clear();
            self.doubt(Cause::Burst);
            return;
        }
        let mark = self.dirty.entry(id).or_insert(Mark {
            since: now,
            lifecycle,
        });
        mark.lifecycle |= lifecycle;
    }

    /// Everything is to be listed. The weightier cause is remembered.
    pub(crate) fn doubt(&mut self, cause: Cause) {
        self.full = self.full.max(Some(cause));
    }

    /// Declarations are watched from now on; what was declared before and after the last look at them
    /// is looked at again.
    pub(crate) fn watching(&mut self) {
        if self.begun {
            self.doubt(Cause::Fleet);
        }
    }

    /// The keyspace failed: nothing is begun before `at`, and then everything is listed.
    pub(crate) fn retry_at(&mut self, at: Instant) {
        self.retry_at = at;
        self.doubt(Cause::Connected);
    }

    /// Everything was listed and written.
    pub(crate) fn resynced(&mut self, now: Instant) {
        let jitter = 0.9 + 0.2 * self.rng.f64();
        self.periodic_at = now + self.resync_interval.mul_f64(jitter);
        self.resync_at = now + self.resync_spacing;
    }

    /// Takes what is to be done now off the agenda.
    pub(crate) fn next(&mut self, now: Instant) -> Work {
        if now < self.retry_at {
            return Work::Wait(self.retry_at);
        }
        if self.dirty.len() > MAX_SCOPE_IDS {
            self.doubt(Cause::Burst);
        }
        if self.full.is_none() && now >= self.periodic_at {
            self.full = Some(Cause::Periodic);
        }
        let too_soon = now < self.resync_at;
        if let Some(cause) = self.full.take_if(|cause| !(too_soon && cause.can_wait())) {
            self.begun = true;
            let (_, touched) = self.take_dirty();
            return Work::Resync { cause, touched };
        }
        // A burst is not drained piece by piece while its resync waits.
        let drains = self.full != Some(Cause::Burst);
        let first = self
            .dirty
            .values()
            .map(|mark| mark.since)
            .min()
            .filter(|_| drains);
        if let Some(since) = first
            && now >= self.drain_at
        {
            self.drain_at = now + self.drain_spacing;
            let (ids, touched) = self.take_dirty();
            return Work::Drain { ids, touched, since };
        }
        let mut until = self.periodic_at;
        if first.is_some() {
            until = until.min(self.drain_at);
        }
        if self.full.is_some() {
            until = until.min(self.resync_at);
        }
        Work::Wait(until)
    }

    fn take_dirty(&mut self) -> (Vec<String>, BTreeSet<String>) {
        let dirty = std::mem::take(&mut self.dirty);
        let touched = dirty
            .iter()
            .filter(|(_, mark)| mark.lifecycle)
            .map(|(id, _)| id.clone())
            .collect();
        (dirty.into_keys().collect(), touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewatch_core::{Clock, ManualClock};

    fn agenda() -> (Agenda, Instant) {
        let now = ManualClock::new().now();
        let mut agenda = Agenda::new(&ReconcilerSettings::default(), 7, now);
        assert!(matches!(
            agenda.next(now),
            Work::Resync {
                cause: Cause::Connected,
                ..
            }
        ));
        agenda.resynced(now);
        (agenda, now + ms(400))
    }

    fn ids(work: Work) -> Vec<String> {
        match work {
            Work::Drain { ids, .. } => ids,
            other => panic!("{other:?}"),
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_event_is_acted_on_at_once_and_a_burst_is_coalesced() {
        let (mut agenda, now) = agenda();
        agenda.mark("a".into(), true, now);
        assert_eq!(ids(agenda.next(now)), ["a"]);
        for n in 0..50 {
            agenda.mark(format!("b{}", n % 3), false, now + ms(1));
            assert_eq!(agenda.next(now + ms(2)), Work::Wait(now + ms(5)));
        }
        assert_eq!(ids(agenda.next(now + ms(5))), ["b0", "b1", "b2"]);
        agenda.mark("c".into(), false, now + ms(500));
        assert_eq!(
            ids(agenda.next(now + ms(500))),
            ["c"],
            "after a pause there is no waiting"
        );
    }

    #[test]
    fn a_container_dirtied_during_its_list_is_listed_again() {
        let (mut agenda, now) = agenda();
        agenda.mark("a".into(), false, now);
        assert_eq!(ids(agenda.next(now)), ["a"]);
        agenda.mark("a".into(), true, now + ms(3));
        let Work::Drain { ids, touched, since } = agenda.next(now + ms(30)) else {
            panic!();
        };
        assert_eq!((ids, since), (vec!["a".to_owned()], now + ms(3)));
        assert!(touched.contains("a"));
    }

    #[test]
    fn more_dirty_containers_than_are_remembered_lead_to_a_full_resync() {
        let (mut agenda, now) = agenda();
        for n in 0..5_000 {
            agenda.mark(n.to_string(), true, now);
            assert!(agenda.dirty.len() <= 1024);
        }
        assert!(matches!(
            agenda.next(now),
            Work::Resync {
                cause: Cause::Burst,
                ..
            }
        ));
        assert!(matches!(agenda.next(now), Work::Wait(_)), "nothing of it is left");
    }

    #[test]
    fn more_than_a_list_by_id_is_worth_are_listed_with_everything_and_still_inspected() {
        let (mut agenda, now) = agenda();
        for n in 0..=MAX_SCOPE_IDS {
            agenda.mark(n.to_string(), n == 3, now);
        }
        let Work::Resync { cause, touched } = agenda.next(now) else {
            panic!();
        };
        assert_eq!(cause, Cause::Burst);
        assert_eq!(touched, BTreeSet::from(["3".to_owned()]));
    }

    #[test]
    fn a_storm_does_not_lead_to_one_full_list_after_the_other() {
        let (mut agenda, now) = agenda();
        let storm = |agenda: &mut Agenda, at| (0..200).for_each(|n| agenda.mark(n.to_string(), false, at));
        storm(&mut agenda, now + ms(500));
        assert!(matches!(agenda.next(now + ms(500)), Work::Resync { .. }));
        agenda.resynced(now + ms(600));
        storm(&mut agenda, now + ms(600));
        assert_eq!(agenda.next(now + ms(600)), Work::Wait(now + ms(700)));
        assert!(matches!(agenda.next(now + ms(700)), Work::Resync { .. }));
    }

    #[test]
    fn the_periodic_resync_comes_after_a_minute_give_or_take_a_tenth() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let now = ManualClock::new().now();
            let mut agenda = Agenda::new(&ReconcilerSettings::default(), seed, now);
            agenda.next(now);
            agenda.resynced(now);
            let Work::Wait(until) = agenda.next(now) else {
                panic!();
            };
            let after = until - now;
            assert!(
                after >= Duration::from_secs(54) && after <= Duration::from_secs(66),
                "{after:?}"
            );
            seen.insert(after);
            assert!(matches!(
                agenda.next(until),
                Work::Resync {
                    cause: Cause::Periodic,
                    ..
                }
            ));
        }
        assert!(seen.len() > 100, "hosts do not move in step");
    }

    #[test]
    fn a_resync_for_real_doubt_is_no_drift_even_when_it_is_time_for_one() {
        let (mut agenda, now) = agenda();
        agenda.doubt(Cause::Doubt);
        agenda.doubt(Cause::Fleet);
        assert!(matches!(
            agenda.next(now + Duration::from_secs(100)),
            Work::Resync {
                cause: Cause::Doubt,
                ..
            }
        ));
    }

    #[test]
    fn changes_of_the_fleet_lead_to_a_resync_but_not_to_one_each() {
        let (mut agenda, now) = agenda();
        agenda.resynced(now);
        agenda.doubt(Cause::Fleet);
        assert_eq!(agenda.next(now), Work::Wait(now + ms(100)));
        agenda.mark("a".into(), false, now);
        assert_eq!(ids(agenda.next(now)), ["a"], "an event does not wait for it");
        assert!(matches!(
            agenda.next(now + ms(100)),
            Work::Resync {
                cause: Cause::Fleet,
                ..
            }
        ));
    }

    #[test]
    fn after_a_failure_of_the_keyspace_nothing_is_begun_before_its_time() {
        let (mut agenda, now) = agenda();
        agenda.retry_at(now + ms(700));
        agenda.mark("a".into(), false, now);
        assert_eq!(agenda.next(now + ms(1)), Work::Wait(now + ms(700)));
        assert!(matches!(
            agenda.next(now + ms(700)),
            Work::Resync {
                cause: Cause::Connected,
                ..
            }
        ));
    }
}
