//! When changes have settled: decisions only, time is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidewatch_core::{Batch, BatchKind, Revision};

use crate::entry::key_text;

/// Under steady change a run comes after this many times the quiet time, not never.
const MAX_WAIT_FACTOR: u32 = 10;

/// The most bytes of keys handed to a command: Linux takes at most 128 KiB in one variable.
const MAX_KEYS_BYTES: usize = 64 * 1024;

/// Gathers changes until nothing has changed for a while, one run at a time.
pub(super) struct Settle {
    quiet: Duration,
    state: State,
    gathered: Option<Gathered>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing runs. Left by [`Settle::take`] and by the begin of a snapshot.
    Idle,
    /// A command runs. Left by [`Settle::finished`].
    Running,
}

struct Gathered {
    changes: Changes,
    key_bytes: usize,
    first: Instant,
    last: Instant,
    /// A snapshot is under way: what was gathered is a part of it.
    incomplete: bool,
    /// There is nothing to wait for.
    at_once: bool,
}

/// What a run is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// The last revision of them.
    pub(super) revision: Revision,
    /// How many there were.
    pub(super) events: u64,
    /// The keys, as far as they fit.
    pub(super) keys: BTreeSet<String>,
}

impl Settle {
    /// Waits until nothing has changed for this long.
    pub(super) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            state: State::Idle,
            gathered: None,
        }
    }

    /// Takes note of what a watch delivered.
    pub(super) fn note(&mut self, batch: &Batch, now: Instant) {
        match batch.kind() {
            BatchKind::Progress => {}
            BatchKind::SnapshotBegin => {
                // A snapshot voids what came before.
                self.gathered = None;
                self.gather(batch, now).incomplete = true;
            }
            BatchKind::SnapshotEnd => {
                let gathered = self.gather(batch, now);
                gathered.incomplete = false;
                gathered.at_once = true;
            }
            BatchKind::Snapshot | BatchKind::Events => {
                self.gather(batch, now);
            }
        }
    }

    fn gather(&mut self, batch: &Batch, now: Instant) -> &mut Gathered {
        let gathered = self.gathered.get_or_insert_with(|| Gathered {
            changes: Changes {
                revision: batch.revision(),
                events: 0,
                keys: BTreeSet::new(),
            },
            key_bytes: 0,
            first: now,
            last: now,
            incomplete: false,
            at_once: false,
        });
        gathered.last = now;
        gathered.changes.revision = batch.revision();
        for event in batch {
            gathered.changes.events += 1;
            let key = key_text(event.key());
            let bytes = gathered.key_bytes + key.len() + 1;
            if bytes <= MAX_KEYS_BYTES && gathered.changes.keys.insert(key) {
                gathered.key_bytes = bytes;
            }
        }
        gathered
    }

    /// When to call [`take`](Self::take) next; none until something changes, or while a command runs.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gathered = self.gathered.as_ref().filter(|gathered| !gathered.incomplete)?;
        if self.state == State::Running {
            return None;
        }
        if gathered.at_once {
            return Some(gathered.last);
        }
        let settled = gathered.last + self.quiet;
        Some(settled.min(gathered.first + self.quiet * MAX_WAIT_FACTOR))
    }

    /// What to run for, if it is time. A run begins with that.
    pub(super) fn take(&mut self, now: Instant) -> Option<Changes> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.begin()
    }

    /// What has not been run for, however short a time ago it changed.
    pub(super) fn take_rest(&mut self) -> Option<Changes> {
        self.deadline()?;
        self.begin()
    }

    fn begin(&mut self) -> Option<Changes> {
        let gathered = self.gathered.take()?;
        self.state = State::Running;
        Some(gathered.changes)
    }

    /// The run is over.
    pub(super) fn finished(&mut self) {
        self.state = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewatch_core::watch::View;
    use tidewatch_core::{Clock as _, Event, KeyValue, ManualClock};

    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    fn kv(key: String, revision: u64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Bytes::new(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        }
    }

    fn change(revision: u64) -> Batch {
        let event = Event::put(kv(format!("/k{revision}"), revision), None);
        Batch::events(Revision(revision), None, vec![event], View::default(), false)
    }

    /// A `Settle` and a time that moves by hand.
    struct Bench {
        settle: Settle,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                settle: Settle::new(QUIET),
                now: ManualClock::new().now(),
            }
        }

        fn pass(&mut self, millis: u64) -> &mut Self {
            self.now += Duration::from_millis(millis);
            self
        }

        fn note(&mut self, batch: &Batch) -> &mut Self {
            self.settle.note(batch, self.now);
            self
        }

        fn taken(&mut self) -> Option<(u64, u64)> {
            let changes = self.settle.take(self.now)?;
            Some((changes.revision.0, changes.events))
        }
    }

    #[test]
    fn a_run_waits_until_nothing_has_changed_for_the_quiet_time() {
        let mut bench = Bench::new();
        assert_eq!(bench.settle.deadline(), None);
        bench.note(&change(2)).pass(499).note(&change(3));
        assert_eq!(bench.pass(499).taken(), None);
        assert_eq!(bench.pass(1).taken(), Some((3, 2)));
        bench.settle.finished();
        assert_eq!(bench.pass(10_000).taken(), None);
    }

    #[test]
    fn steady_change_does_not_put_a_run_off_for_ever() {
        let mut bench = Bench::new();
        for revision in 2..52 {
            bench.note(&change(revision));
            assert_eq!(bench.taken(), None);
            bench.pass(100);
        }
        assert_eq!(bench.taken(), Some((51, 50)));
    }

    #[test]
    fn changes_during_a_run_lead_to_one_more_run_after_it() {
        let mut bench = Bench::new();
        bench.note(&change(2));
        assert_eq!(bench.pass(500).taken(), Some((2, 1)));
        bench.note(&change(3)).pass(600).note(&change(4)).pass(600);
        assert_eq!(bench.settle.deadline(), None);
        assert_eq!(bench.taken(), None);
        bench.settle.finished();
        assert_eq!(bench.taken(), Some((4, 2)));
        bench.settle.finished();
        assert_eq!(bench.taken(), None);
    }

    #[test]
    fn a_snapshot_runs_when_it_is_complete_even_if_it_is_empty() {
        let mut bench = Bench::new();
        bench.note(&Batch::snapshot_begin(Revision(7)));
        assert_eq!(bench.pass(60_000).taken(), None);
        bench.note(&Batch::snapshot_end(Revision(7)));
        assert_eq!(bench.taken(), Some((7, 0)));
    }

    #[test]
    fn a_new_snapshot_voids_what_was_gathered() {
        let mut bench = Bench::new();
        bench.note(&change(3)).note(&Batch::snapshot_begin(Revision(9)));
        let entries = Batch::snapshot(Revision(9), vec![kv("/a".to_owned(), 8)], View::default());
        bench.note(&entries).note(&Batch::snapshot_end(Revision(9)));
        let changes = bench.settle.take(bench.now).unwrap();
        assert_eq!(changes.keys, BTreeSet::from(["/a".to_owned()]));
        assert_eq!((changes.revision, changes.events), (Revision(9), 1));
    }

    #[test]
    fn the_keys_of_a_run_are_bounded() {
        let mut bench = Bench::new();
        for revision in 0..100 {
            let event = Event::put(kv(format!("/{revision:04000}"), revision), None);
            let batch = Batch::events(Revision(revision), None, vec![event], View::default(), false);
            bench.note(&batch);
        }
        bench.pass(500);
        let changes = bench.settle.take(bench.now).unwrap();
        assert_eq!((changes.events, changes.keys.len()), (100, 16));
    }

    #[test]
    fn the_rest_can_be_taken_before_it_has_settled() {
        let mut bench = Bench::new();
        assert_eq!(bench.settle.take_rest(), None);
        bench.note(&change(2));
        assert_eq!(bench.settle.take_rest().map(|changes| changes.events), Some(1));
    }
}
