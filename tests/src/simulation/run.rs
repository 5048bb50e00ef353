//! One run, from its seed to its judgement.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{
    Clock as _, EndReason, HistoryWindow, KeyspaceId, ManualClock, Settings, WatchSettings,
};

use super::chronicle::Chronicle;
use super::coverage::{Coverage, Kind};
use super::dice::Dice;
use super::executor::{Executor, Spawner};
use super::journal::{Faults, Phase, SimJournal};
use super::judge::judge;
use super::truth::Truth;
use super::world::{Cast, Stage, World};

/// How many steps the storm of a run takes unless somebody says otherwise: enough for some lives of a keyspace, few enough
/// that a thousand runs of a debug build take seconds.
pub const STEPS: u64 = 1500;

/// More steps than a calm takes to come to rest. A run that needs more is one in which somebody runs in circles.
const MAX_CALM_STEPS: u64 = 200_000;

/// After this nobody stalls, no lease lives and no pause after a failure lasts any more; in parts, because what wakes up
/// after the first may wait again.
const CALM: [Duration; 6] = [Duration::from_secs(12); 6];

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many steps the storm takes.
    pub steps: u64,
    /// Whether to write the trace.
    pub traced: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What happened, line by line; empty unless it was asked for.
    pub trace: String,
    /// What happened, counted.
    pub coverage: Coverage,
    /// The first promise that was broken, or the panic.
    pub violation: Option<String>,
}

/// Runs a seed to its end, or to the first promise that is broken.
pub fn run(options: Options) -> Run {
    // Pauses after failures and hints to come back are drawn from the thread's own dice.
    fastrand::seed(options.seed);
    let clock = ManualClock::new();
    let chronicle = Chronicle::new(clock.clone(), options.traced);
    let body = || Simulation::new(options, clock, chronicle.clone()).run(options.steps);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        chronicle.violated("panic", text.unwrap_or_default());
    }
    Run {
        trace: chronicle.trace(),
        coverage: chronicle.coverage(),
        violation: chronicle.violation(),
    }
}

/// How often the process, the driver or the keyspace comes to an end, in a thousand steps.
#[derive(Clone, Copy, Debug)]
struct Ends {
    kill: u32,
    stop: u32,
    close: u32,
    /// The relay is closed, and another one takes its place.
    replace_relay: u32,
    /// The process is killed while a group is written.
    kill_while_writing: u32,
}

struct Simulation {
    world: Rc<World>,
    executor: Executor,
    dice: Dice,
    ends: Ends,
}

impl Simulation {
    fn new(options: Options, clock: ManualClock, chronicle: Chronicle) -> Self {
        let dice = Dice::new(options.seed);
        let faults = Faults {
            commit_fails: *dice.pick(&[0, 20, 100]),
            commit_takes_time: *dice.pick(&[50, 300, 700]),
            compaction_fails: *dice.pick(&[0, 200]),
            recovery_fails: *dice.pick(&[0, 300]),
        };
        let ends = Ends {
            kill: *dice.pick(&[0, 1, 3]),
            stop: *dice.pick(&[0, 1]),
            close: *dice.pick(&[0, 1, 2]),
            replace_relay: *dice.pick(&[0, 1]),
            kill_while_writing: *dice.pick(&[0, 3]),
        };
        let cast = Cast {
            writers: dice.below(4) + 1,
            subscribers: dice.below(7) + 2,
            floods: *dice.pick(&[0, 0, 0, 2]),
        };
        let settings = settings(&dice);
        chronicle.note(
            "world",
            format_args!("seed {}, {faults:?}, {ends:?}, {cast:?}", options.seed),
        );
        chronicle.note("world", format_args!("{settings:?}"));
        let truth = Truth::new(KeyspaceId(dice.number(1..=u64::MAX)));
        let journal = SimJournal::new(truth, faults, dice.fork(), clock.clone(), chronicle.clone());
        let spawner = Spawner::default();
        let executor = Executor::new(spawner.clone());
        let world = World::new(clock, chronicle, journal, settings, cast, spawner, dice.fork());
        Self {
            world,
            executor,
            dice,
            ends,
        }
    }

    fn run(mut self, steps: u64) {
        self.world.start();
        for _ in 0..steps {
            self.world.chronicle.step();
            self.storm();
            if self.world.chronicle.has_violation() {
                return;
            }
        }
        self.calm();
        if !self.world.chronicle.has_violation() {
            self.world.chronicle.judge("judge", judge(&self.world));
        }
        self.executor.stop_all();
    }

    /// One step of a time in which anything may happen.
    fn storm(&mut self) {
        let Ends {
            kill,
            stop,
            close,
            replace_relay,
            ..
        } = self.ends;
        let writing = self.world.journal.disk().phase != Phase::Idle;
        if writing && self.dice.chance(self.ends.kill_while_writing) {
            return self.kill();
        }
        let throw = u32::try_from(self.dice.below(1000)).unwrap_or(0);
        let mut below = 0;
        let mut is = |chance: u32| {
            below += chance;
            throw < below
        };
        if is(kill) {
            self.kill();
        } else if is(stop) {
            self.stop_driver();
        } else if is(close) {
            self.close();
        } else if is(replace_relay) {
            let reason = self.end();
            self.world.replace_relay(reason);
            self.world.chronicle.count(Kind::RelayReplaced);
        } else if is(40) {
            self.world.clock.advance(self.dice.millis(1..=150));
        } else if is(5) {
            self.world.clock.advance(self.dice.millis(500..=4000));
        } else if is(20) {
            // For nothing, as whoever waits for several things at once does it.
            let all = self.executor.all();
            if !all.is_empty() {
                self.executor.poll(*self.dice.pick(&all));
            }
        } else if !self.one_task() {
            self.next_deadline();
        }
    }

    /// Lets one task run that was woken. Returns whether there was one.
    fn one_task(&mut self) -> bool {
        let ready = self.executor.ready();
        if ready.is_empty() {
            return false;
        }
        self.executor.poll(*self.dice.pick(&ready));
        true
    }

    fn next_deadline(&self) {
        let clock = &self.world.clock;
        let wait = clock
            .next_deadline()
            .map(|at| at.saturating_duration_since(clock.now()));
        clock.advance(wait.unwrap_or(Duration::from_millis(100)));
    }

    fn kill(&mut self) {
        let chronicle = &self.world.chronicle;
        let (kind, what) = match self.world.journal.disk().phase {
            Phase::Idle => (Kind::KilledIdle, "the process is killed"),
            Phase::Writing => (Kind::KilledWriting, "the process is killed, its group is lost"),
            Phase::Durable => (
                Kind::KilledUnanswered,
                "the process is killed, its group is durable",
            ),
        };
        chronicle.note("world", what);
        chronicle.count(kind);
        self.executor.stop_all();
        self.world.killed();
        self.world.start();
    }

    fn stop_driver(&mut self) {
        if let Some(driver) = self.world.driver() {
            self.world.chronicle.note("world", "the driver is dropped");
            self.world.chronicle.count(Kind::DriverDropped);
            self.executor.stop(driver);
            self.world.down();
        }
    }

    fn close(&mut self) {
        let reason = self.end();
        let (kind, name) = match reason {
            EndReason::Closed => (Kind::Closed, "closed"),
            _ => (Kind::Drained, "draining"),
        };
        if self.world.close(reason) {
            self.world
                .chronicle
                .note("world", format_args!("the keyspace is {name}"));
            self.world.chronicle.count(kind);
        }
    }

    fn end(&self) -> EndReason {
        if self.dice.chance(500) {
            return EndReason::Closed;
        }
        let retry_after = Duration::from_millis(100);
        EndReason::Draining { retry_after }
    }

    /// Lets everybody come to rest, looks at whether they have what they wait for, and ends.
    fn calm(&mut self) {
        self.world.begin(Stage::Calm);
        self.world.journal.disk().faults = Faults::NONE;
        self.rest();
        for part in CALM {
            self.world.clock.advance(part);
            self.rest();
        }
        if self.world.chronicle.has_violation() {
            return;
        }
        self.world
            .chronicle
            .judge("calm", self.everybody_has_what_they_wait_for());
        if self.world.chronicle.has_violation() {
            return;
        }
        self.world.begin(Stage::Closing);
        let keyspace = self.world.try_keyspace();
        let relay = self.world.relay();
        self.close();
        self.world.replace_relay(EndReason::Closed);
        self.rest();
        // Those who paused before they look again.
        self.world.clock.advance(CALM[0]);
        self.rest();
        let left = self.executor.all().len();
        if left > 0 {
            self.world.chronicle.violated(
                "calm",
                format_args!("{left} tasks wait for a keyspace that is closed"),
            );
        }
        let watchers = keyspace.and_then(|keyspace| now(async move { keyspace.status().await.ok() }));
        let watchers = watchers.flatten().map(|status| status.watchers);
        let registry = relay.map(|relay| Arc::clone(&relay.registry));
        let at_relay = registry.map(|registry| registry.watcher_count() + registry.lagging_count());
        if (watchers, at_relay) != (Some(0), Some(0)) {
            self.world.chronicle.violated(
                "calm",
                format_args!("{watchers:?} and {at_relay:?} watchers are left in the end"),
            );
        }
    }

    /// Lets whoever was woken run, until nobody is.
    fn rest(&mut self) {
        for _ in 0..MAX_CALM_STEPS {
            self.world.chronicle.step();
            if self.world.chronicle.has_violation() || !self.one_task() {
                return;
            }
        }
        self.world.chronicle.violated("calm", "it does not come to rest");
    }

    fn everybody_has_what_they_wait_for(&self) -> Result<(), String> {
        let world = &self.world;
        if world.writing() > 0 {
            return Err(format!("{} writers wait for an answer", world.writing()));
        }
        let Some(keyspace) = world.try_keyspace() else {
            return Err("the keyspace is not there".into());
        };
        let disk = world.journal.disk();
        let current = disk.truth.revision();
        let status = now(async { keyspace.status().await.ok() }).flatten();
        let status = status.ok_or("the keyspace does not say how it is")?;
        if (status.revision, status.dispatched) != (current, current) || status.leases > 0 {
            return Err(format!("{status:?} at rest, at {current}"));
        }
        if let Some(kv) = disk.truth.state(current).values().find(|kv| kv.lease.is_some()) {
            return Err(format!("{:?} has outlived its lease", kv.key));
        }
        let (mut at_keyspace, mut at_relay) = (0, 0);
        for (at, tales) in world.all_tales() {
            if let Some(tale) = tales.last().filter(|tale| tale.open) {
                *(if tale.relayed {
                    &mut at_relay
                } else {
                    &mut at_keyspace
                }) += 1;
                let verdict = tale.verdict_at(&disk.truth, current);
                verdict.map_err(|wrong| format!("watcher {at} at rest: {wrong}"))?;
            }
        }
        let relay = world.relay().ok_or("the relay is not there")?;
        let counted = (status.watchers, relay.registry.watcher_count());
        if counted != (at_keyspace as u64, at_relay) {
            return Err(format!(
                "{at_keyspace} and {at_relay} watch, {counted:?} are counted"
            ));
        }
        let full = at_keyspace.max(at_relay) == world.settings.watch.max_watchers;
        if at_keyspace + at_relay < world.cast.subscribers && !full {
            return Err("somebody does not watch although there is a place".into());
        }
        Ok(())
    }
}

/// What a future comes to that does not wait.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    use std::task::{Context, Poll, Waker};
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Settings so small that what is rare elsewhere is not.
fn settings(dice: &Dice) -> Settings {
    let pick = |among: &[Option<u64>]| *dice.pick(among);
    Settings {
        history: HistoryWindow {
            max_revisions: pick(&[None, Some(8), Some(24), Some(64), Some(400)]),
            max_bytes: pick(&[Some(4_000), None, None]).unwrap_or(1 << 30),
            max_age: pick(&[Some(3), None, None]).map_or(Duration::from_secs(86_400), Duration::from_secs),
        },
        quota_bytes: pick(&[Some(120), None, None, None, None]).unwrap_or(u64::MAX),
        watch: WatchSettings {
            max_batch_delay: Duration::from_millis(5),
            room: *dice.pick(&[1, 2, 3, 4, 6, 512]),
            max_watchers: *dice.pick(&[2, 1000, 1000]),
        },
    }
}
