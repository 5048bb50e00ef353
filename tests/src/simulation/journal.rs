//! A journal whose disk outlives the process, with the faults that the seed decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidewatch_core::error::Cause;
use tidewatch_core::journal::Entry;
use tidewatch_core::{
    BoxFuture, Clock as _, Event, Journal, LeaseGrant, LeaseId, ManualClock, Record, Recovered, Revision,
};

use super::chronicle::{Chronicle, Moment};
use super::coverage::Kind;
use super::dice::Dice;
use super::executor::turns;
use super::truth::Truth;

/// More records than a reader or the dispatcher looks at at a time, which is 256.
const LARGE_GROUP: usize = 256;

/// How often something goes wrong, in a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) commit_fails: u32,
    pub(crate) commit_takes_time: u32,
    pub(crate) compaction_fails: u32,
    pub(crate) recovery_fails: u32,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        commit_fails: 0,
        commit_takes_time: 0,
        compaction_fails: 0,
        recovery_fails: 0,
    };
}

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    /// It is lost if the process ends now.
    Writing,
    /// It will be there after a restart, and nobody knows yet.
    Durable,
}

/// What stays when the process is gone.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) truth: Truth,
    pub(crate) oldest: Revision,
    leases: BTreeMap<LeaseId, LeaseGrant>,
    pub(crate) phase: Phase,
    pub(crate) faults: Faults,
    /// The compactions that somebody has asked for; all others are the window's.
    pub(crate) asked: Vec<Revision>,
    /// A recovery has failed as it was to.
    failed_recovery: bool,
    dice: Dice,
}

/// A handle on the disk: opening another one is a restart.
#[derive(Clone, Debug)]
pub(crate) struct SimJournal {
    disk: Arc<Mutex<Disk>>,
    clock: ManualClock,
    chronicle: Chronicle,
}

/// How long something takes.
enum Pause {
    None,
    Turns(u64),
    Time(Duration),
}

impl SimJournal {
    pub(crate) fn new(
        truth: Truth,
        faults: Faults,
        dice: Dice,
        clock: ManualClock,
        chronicle: Chronicle,
    ) -> Self {
        let disk = Disk {
            truth,
            oldest: Revision::INITIAL,
            leases: BTreeMap::new(),
            phase: Phase::Idle,
            faults,
            asked: Vec::new(),
            failed_recovery: false,
            dice,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            clock,
            chronicle,
        }
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self, pause: Pause) {
        match pause {
            Pause::None => {}
            Pause::Turns(count) => turns(count).await,
            Pause::Time(time) => self.clock.sleep(time).await,
        }
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.chronicle.note("journal", what);
    }
}

impl Disk {
    /// Whether a recovery has failed as it was to, since this was last asked.
    pub(crate) fn take_failed_recovery(&mut self) -> bool {
        std::mem::take(&mut self.failed_recovery)
    }

    fn pause(&self) -> Pause {
        let Self { faults, dice, .. } = self;
        if !dice.chance(faults.commit_takes_time) {
            return Pause::None;
        }
        match dice.below(10) {
            0..6 => Pause::Turns(dice.number(1..=12)),
            6..9 => Pause::Time(dice.millis(1..=300)),
            _ => Pause::Time(dice.millis(300..=2500)),
        }
    }

    fn remember(&mut self, entry: &Entry, moment: Moment) -> Result<(), String> {
        match entry {
            Entry::Record(record) => return self.truth.add(record, moment),
            Entry::LeaseGranted(grant) => drop(self.leases.insert(grant.id, *grant)),
            Entry::LeaseEnded(id) => drop(self.leases.remove(id)),
        }
        Ok(())
    }

    fn recovered(&self) -> Recovered {
        let base = self.truth.state(self.oldest.prev().max(Revision::INITIAL));
        let base = base.values().filter(|kv| kv.mod_revision < self.oldest);
        Recovered {
            keyspace: self.truth.keyspace,
            revision: self.truth.revision(),
            oldest: self.oldest,
            base: base.cloned().collect(),
            records: self
                .truth
                .after(self.oldest.prev())
                .iter()
                .map(|record| kept(record))
                .collect(),
            leases: self.leases.values().copied().collect(),
        }
    }
}

/// What a journal has to keep of a record.
fn kept(record: &Record) -> Record {
    let strip = |event: &Event| Event {
        prev: None,
        ..event.clone()
    };
    Record {
        events: record.events.iter().map(strip).collect(),
        ..*record
    }
}

impl Journal for SimJournal {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, Cause>> {
        Box::pin(async move {
            let (pause, fails) = {
                let disk = self.disk();
                (disk.pause(), disk.dice.chance(disk.faults.recovery_fails))
            };
            self.pause(pause).await;
            if fails {
                self.note("recovery fails");
                self.disk().failed_recovery = true;
                self.chronicle.count(Kind::RecoveryFailed);
                return Err(broken("the disk cannot be read just now"));
            }
            let mut disk = self.disk();
            disk.phase = Phase::Idle;
            let recovered = disk.recovered();
            let (oldest, revision) = (disk.oldest, recovered.revision);
            self.note(format_args!("recovers {oldest} to {revision}"));
            self.chronicle.count(Kind::Recovered);
            Ok(recovered)
        })
    }

    fn commit(&mut self, group: Vec<Entry>) -> BoxFuture<'_, Result<(), Cause>> {
        Box::pin(async move {
            let (before, fails, after) = {
                let mut disk = self.disk();
                disk.phase = Phase::Writing;
                (
                    disk.pause(),
                    disk.dice.chance(disk.faults.commit_fails),
                    disk.pause(),
                )
            };
            self.note(format_args!("writes a group of {}", group.len()));
            if !matches!((&before, &after), (Pause::None, Pause::None)) {
                self.chronicle.count(Kind::GroupSlow);
            }
            self.pause(before).await;
            if fails {
                self.disk().phase = Phase::Idle;
                self.note("the group fails");
                self.chronicle.count(Kind::GroupFailed);
                self.pause(after).await;
                return Err(broken("the group could not be written"));
            }
            {
                let mut disk = self.disk();
                disk.phase = Phase::Durable;
                let moment = self.chronicle.moment();
                for entry in &group {
                    self.chronicle.judge("journal", disk.remember(entry, moment));
                }
                self.note(format_args!("is at {}", disk.truth.revision()));
            }
            self.pause(after).await;
            self.disk().phase = Phase::Idle;
            self.chronicle.count(Kind::GroupCommitted);
            let records = group.iter().filter(|entry| matches!(entry, Entry::Record(_)));
            if records.count() > LARGE_GROUP {
                self.chronicle.count(Kind::GroupLarge);
            }
            Ok(())
        })
    }

    fn compact(&mut self, oldest: Revision) -> BoxFuture<'_, Result<(), Cause>> {
        Box::pin(async move {
            let (pause, fails) = {
                let disk = self.disk();
                (disk.pause(), disk.dice.chance(disk.faults.compaction_fails))
            };
            self.pause(pause).await;
            if fails {
                self.note(format_args!("fails to compact to {oldest}"));
                self.chronicle.count(Kind::CompactionFailed);
                return Err(broken("the log could not be compacted"));
            }
            let mut disk = self.disk();
            if oldest < disk.oldest || oldest > disk.truth.revision() {
                let (from, to) = (disk.oldest, disk.truth.revision());
                self.chronicle
                    .violated("journal", format_args!("compacts {from}..{to} to {oldest}"));
            }
            disk.oldest = oldest;
            if !disk.asked.contains(&oldest) {
                self.chronicle.count(Kind::CompactionByWindow);
            }
            self.note(format_args!("compacts to {oldest}"));
            Ok(())
        })
    }
}

fn broken(why: &str) -> Cause {
    Arc::new(std::io::Error::other(why))
}
