//! The machine against an etcd in memory, with faults drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::{Clock, KeyRange, KeyValue, ManualClock, key};

use super::super::*;
use super::simulated::{Simulated, SimulatedWatch};
use crate::delivery::Delivery;
use crate::mirror::Mirror;

/// How many seeds are tried.
const SEEDS: u64 = 60;

/// A machine, what it watches, and what is under way between them.
struct World {
    machine: Machine,
    clock: ManualClock,
    etcd: Simulated,
    rng: fastrand::Rng,
    version: Option<Version>,
    range: KeyRange,
    /// What was asked and not answered.
    asked: Vec<Action>,
    watch: Option<SimulatedWatch>,
    asks_progress: bool,
    mirror: Mirror,
    /// The revision of the last snapshot, and the revisions delivered since, with how many events each had.
    delivered: (u64, Vec<(u64, usize)>),
    snapshots: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let clock = ManualClock::new();
        let range = match rng.u8(..3) {
            0 => key("/a/2").unwrap(),
            1 => KeyRange::starting_with("/a/"),
            _ => KeyRange::all(),
        };
        let versions = [
            None,
            Some(Version::new(3, 4, 23)),
            Some(Version::new(3, 5, 21)),
            Some(Version::new(3, 5, 30)),
        ];
        let selection = Selection {
            range: range.clone(),
            prev_kv: true,
            history: if rng.bool() { 0 } else { rng.u64(1..20) },
        };
        Self {
            machine: Machine::new(selection, 2, false, rng.u64(..), clock.now()),
            clock,
            etcd: Simulated::new(),
            version: versions[rng.usize(..4)],
            rng,
            range,
            asked: Vec::new(),
            watch: None,
            asks_progress: false,
            mirror: Mirror::default(),
            delivered: (0, Vec::new()),
            snapshots: 0,
        }
    }

    fn step(&mut self, input: Input) {
        for action in self.machine.step(self.clock.now(), input) {
            match action {
                Action::Deliver(delivery) => self.deliver(delivery),
                Action::AskProgress => self.asks_progress = true,
                Action::CloseWatch => self.hang_up(|action| matches!(action, Action::List(_))),
                Action::HangUp => self.hang_up(|_| false),
                Action::Report(_) => {}
                asked => self.asked.push(asked),
            }
        }
    }

    fn hang_up(&mut self, keeps: impl Fn(&Action) -> bool) {
        self.asked.retain(keeps);
        self.watch = None;
        self.asks_progress = false;
    }

    fn deliver(&mut self, delivery: Delivery) {
        match &delivery {
            Delivery::SnapshotEnd { revision } => {
                self.delivered = (revision.0, Vec::new());
                self.snapshots += 1;
            }
            Delivery::Record(record) => {
                let last = self
                    .delivered
                    .1
                    .last()
                    .map_or(self.delivered.0, |&(revision, _)| revision);
                assert!(record.revision.0 > last, "a revision is repeated");
                self.delivered.1.push((record.revision.0, record.events.len()));
            }
            _ => {}
        }
        self.mirror.apply(delivery);
    }

    /// Answers something, or lets something go wrong.
    fn play(&mut self, with_faults: bool) {
        let fault = with_faults && self.rng.u8(..12) == 0;
        if !self.asked.is_empty() && self.rng.bool() {
            let asked = self.asked.remove(self.rng.usize(..self.asked.len()));
            if fault && self.rng.bool() {
                // It is never answered.
                return;
            }
            self.answer(asked, fault);
        } else if let Some(watch) = &mut self.watch {
            if fault {
                self.watch = None;
                self.step(Input::Ended(Failure::unreachable("cut")));
            } else if self.rng.bool()
                && let Some(message) = self.etcd.message(watch)
            {
                self.step(Input::Message(message));
            } else if std::mem::take(&mut self.asks_progress)
                && let Some(message) = self.etcd.progress(watch, self.version)
            {
                self.step(Input::Message(message));
            }
        }
    }

    fn answer(&mut self, asked: Action, fault: bool) {
        let failure = || Failure::unreachable("lost");
        match asked {
            Action::Dial { .. } if fault => self.step(Input::Dialed(Err(failure()))),
            Action::Dial { .. } => self.step(Input::Dialed(Ok(self.etcd.dial(self.version)))),
            Action::List(_) if fault => self.step(Input::Listed(Err(failure()))),
            Action::List(request) => self.step(Input::Listed(self.etcd.list(&request))),
            Action::Check(_) if fault => self.step(Input::Checked(Err(failure()))),
            Action::Check(request) => self.step(Input::Checked(self.etcd.check(&request))),
            Action::Open(_) if fault => self.step(Input::Ended(failure())),
            Action::Open(request) => self.watch = Some(Simulated::open(&request)),
            _ => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.step(Input::Time);
    }

    /// What befalls etcd. One that loses its history loses its connections first.
    fn befall(&mut self) {
        match self.rng.u8(..40) {
            0 => self.etcd.compact(&mut self.rng),
            1 => self.etcd.elect(),
            2 if self.watch.is_some() && self.rng.bool() => {
                self.step(Input::Ended(Failure::unreachable("killed")));
                self.etcd.lose_history(&mut self.rng);
            }
            3..10 => self.etcd.change(&mut self.rng),
            _ => {}
        }
    }

    /// Nothing more happens to etcd, and everything is answered, until the watch has been live for a while.
    fn calm_down(&mut self) {
        for _ in 0..20_000 {
            self.play(false);
            self.pass(Duration::from_millis(1));
            let is_quiet = self.asked.is_empty() && *self.machine.phase() == Phase::Live;
            let confirmed = self.machine.confirmed();
            if is_quiet && confirmed.is_some_and(|at| at >= self.clock.now()) && self.is_equal() {
                break;
            }
        }
        assert_eq!(*self.machine.phase(), Phase::Live);
    }

    fn expected(&self) -> BTreeMap<Bytes, KeyValue> {
        let mut state = self.etcd.state(self.etcd.revision());
        state.retain(|key, _| self.range.contains(key));
        state
    }

    fn is_equal(&self) -> bool {
        self.mirror.entries().eq(self.expected().values())
    }
}

#[test]
fn whatever_happens_the_mirror_is_what_etcd_holds_and_no_revision_is_left_out() {
    let mut snapshots = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.etcd.change(&mut world.rng.clone());
        world.step(Input::Time);
        for _ in 0..1_000 {
            world.befall();
            world.play(true);
            let pause = world.rng.u64(..40);
            world.pass(Duration::from_millis(pause));
        }
        world.calm_down();
        assert!(
            world.is_equal(),
            "seed {seed}: {:?} instead of {:?}",
            world.mirror.entries().collect::<Vec<_>>(),
            world.expected()
        );
        let (snapshot, records) = &world.delivered;
        assert_eq!(
            *records,
            world.etcd.revisions_after(*snapshot, &world.range),
            "seed {seed}"
        );
        snapshots += world.snapshots;
    }
    // Otherwise nothing was lost that had to be read anew.
    assert!(snapshots > usize::try_from(SEEDS * 3).unwrap(), "{snapshots}");
}
