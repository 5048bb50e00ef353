//! What all who take part in a run share.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::{Clock as _, EndReason, Error, Keyspace, LeaseId, ManualClock, Settings};
use tokio::sync::Notify;

use super::chronicle::Chronicle;
use super::dice::Dice;
use super::executor::{Spawner, TaskId, turns};
use super::journal::SimJournal;
use super::ledger::Ledger;
use super::relay::{self, Relay};
use super::tale::Tale;
use super::{subscriber, writer};

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Everybody does what they like, and everything fails.
    Storm,
    /// Nothing new is asked for and nothing fails: all who wait for something get it.
    Calm,
    /// The keyspace ends for good.
    Closing,
}

/// Who takes part, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) writers: usize,
    pub(crate) subscribers: usize,
    /// How many floods of writes there may be.
    pub(crate) floods: u32,
}

/// What all who take part in a run share. One thread, so cells are enough; nothing is borrowed across an await.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) chronicle: Chronicle,
    pub(crate) journal: SimJournal,
    pub(crate) settings: Settings,
    pub(crate) cast: Cast,
    spawner: Spawner,
    dice: Dice,
    stage: Cell<Stage>,
    keyspace: RefCell<Option<Keyspace>>,
    up: Notify,
    /// Counts how often the keyspace was opened.
    life: Cell<u64>,
    /// The lives up to this one were told to end, or are gone.
    ended: Cell<u64>,
    driver: Cell<Option<TaskId>>,
    relay: RefCell<Option<Rc<Relay>>>,
    ledger: RefCell<Ledger>,
    tales: Vec<RefCell<Vec<Tale>>>,
    last_lease: Cell<i64>,
    floods: Cell<u32>,
    /// Writers that wait for something.
    writing: Cell<usize>,
}

impl World {
    pub(crate) fn new(
        clock: ManualClock,
        chronicle: Chronicle,
        journal: SimJournal,
        settings: Settings,
        cast: Cast,
        spawner: Spawner,
        dice: Dice,
    ) -> Rc<Self> {
        Rc::new(Self {
            clock,
            chronicle,
            journal,
            settings,
            cast,
            spawner,
            dice,
            stage: Cell::new(Stage::Storm),
            keyspace: RefCell::default(),
            up: Notify::new(),
            life: Cell::new(0),
            ended: Cell::new(0),
            driver: Cell::new(None),
            relay: RefCell::default(),
            ledger: RefCell::default(),
            tales: (0..cast.subscribers).map(|_| RefCell::default()).collect(),
            last_lease: Cell::new(0),
            floods: Cell::new(cast.floods),
            writing: Cell::new(0),
        })
    }

    /// Starts a process: everybody who takes part, and the keyspace.
    pub(crate) fn start(self: &Rc<Self>) {
        self.writing.set(0);
        self.spawner.spawn(boot(Rc::clone(self)));
        self.start_relay();
        for at in 0..self.cast.writers {
            self.spawner
                .spawn(writer::write(Rc::clone(self), at, self.fork()));
        }
        for at in 0..self.cast.subscribers {
            self.spawner
                .spawn(subscriber::follow(Rc::clone(self), at, self.fork()));
        }
    }

    fn start_relay(self: &Rc<Self>) {
        let dice = self.fork();
        let relay = Relay::new(self, &dice);
        self.spawner
            .spawn(relay::dispatch(Rc::clone(self), Rc::clone(&relay), self.fork()));
        self.spawner
            .spawn(relay::feed(Rc::clone(self), Rc::clone(&relay), dice));
        *self.relay.borrow_mut() = Some(relay);
    }

    /// Closes the relay and starts another one, unless everything is to end.
    pub(crate) fn replace_relay(self: &Rc<Self>, reason: EndReason) {
        self.chronicle.note("relay", format_args!("is {}", reason.name()));
        if let Some(relay) = &*self.relay.borrow() {
            relay.close(reason);
        }
        if self.stage.get() != Stage::Closing {
            self.start_relay();
        }
    }

    /// The relay, which is there as long as the process.
    pub(crate) fn relay(&self) -> Option<Rc<Relay>> {
        self.relay.borrow().clone()
    }

    /// The process has ended: whoever was in it is gone already.
    pub(crate) fn killed(&self) {
        drop(self.keyspace.take());
        drop(self.relay.take());
        self.driver.set(None);
        self.ended.set(self.life.get());
        for tales in &self.tales {
            if let Some(tale) = tales.borrow_mut().last_mut() {
                tale.open = false;
            }
        }
    }

    /// The keyspace is gone, the process is not.
    pub(crate) fn down(self: &Rc<Self>) {
        drop(self.keyspace.take());
        self.driver.set(None);
        self.ended.set(self.life.get());
        if self.stage.get() != Stage::Closing {
            self.spawner.spawn(boot(Rc::clone(self)));
        }
    }

    /// Tells the keyspace to end, if it is there. Returns whether it is.
    pub(crate) fn close(&self, reason: EndReason) -> bool {
        let keyspace = self.keyspace.borrow();
        if let Some(keyspace) = &*keyspace {
            self.ended.set(self.life.get());
            keyspace.backend().close(reason);
        }
        keyspace.is_some()
    }

    /// The keyspace, as soon as it is there.
    pub(crate) async fn keyspace(&self) -> Keyspace {
        loop {
            if let Some(keyspace) = self.try_keyspace() {
                return keyspace;
            }
            self.up.notified().await;
        }
    }

    pub(crate) fn try_keyspace(&self) -> Option<Keyspace> {
        self.keyspace.borrow().clone()
    }

    pub(crate) fn driver(&self) -> Option<TaskId> {
        self.driver.get()
    }

    pub(crate) fn life(&self) -> u64 {
        self.life.get()
    }

    /// Whether there was a reason for this life of the keyspace to end.
    pub(crate) fn has_ended(&self, life: u64) -> bool {
        life <= self.ended.get()
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub(crate) fn begin(&self, stage: Stage) {
        self.chronicle.note("world", format_args!("{stage:?}"));
        self.stage.set(stage);
    }

    pub(crate) fn fork(&self) -> Dice {
        self.dice.fork()
    }

    pub(crate) fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    /// What a subscriber was told, the latest tale last.
    pub(crate) fn tales(&self, at: usize) -> RefMut<'_, Vec<Tale>> {
        self.tales[at].borrow_mut()
    }

    pub(crate) fn all_tales(&self) -> impl Iterator<Item = (usize, Ref<'_, Vec<Tale>>)> {
        self.tales.iter().map(RefCell::borrow).enumerate()
    }

    /// The name of another lease.
    pub(crate) fn next_lease(&self) -> LeaseId {
        self.last_lease.set(self.last_lease.get() + 1);
        LeaseId(self.last_lease.get())
    }

    /// Whether there may be another flood.
    pub(crate) fn takes_flood(&self) -> bool {
        let left = self.floods.get();
        self.floods.set(left.saturating_sub(1));
        left > 0
    }

    /// Notes that a writer waits for an answer, or has it.
    pub(crate) fn waits(&self, waits: bool) {
        let writing = self.writing.get();
        self.writing.set(if waits { writing + 1 } else { writing - 1 });
    }

    /// How many writers wait for an answer.
    pub(crate) fn writing(&self) -> usize {
        self.writing.get()
    }

    /// Does something else for a while.
    pub(crate) async fn pause(&self, dice: &Dice) {
        if dice.chance(600) {
            turns(dice.number(1..=4)).await;
        } else {
            self.clock.sleep(dice.millis(1..=250)).await;
        }
    }

    /// Waits for a time between these, in milliseconds.
    pub(crate) async fn sleep(&self, dice: &Dice, among: std::ops::RangeInclusive<u64>) {
        self.clock.sleep(dice.millis(among)).await;
    }
}

/// Opens the keyspace, as often as it takes.
async fn boot(world: Rc<World>) {
    loop {
        let builder = Keyspace::builder()
            .journal(world.journal.clone())
            .clock(Arc::new(world.clock.clone()))
            .settings(world.settings.clone());
        match builder.open().await {
            Ok(keyspace) => return rise(&world, keyspace).await,
            Err(Error::Journal(cause)) if world.journal.disk().take_failed_recovery() => {
                world
                    .chronicle
                    .note("world", format_args!("cannot open the keyspace: {cause}"));
                world.clock.sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                world
                    .chronicle
                    .violated("world", format_args!("{error}: {cause:?}"));
                return;
            }
        }
    }
}

async fn rise(world: &Rc<World>, keyspace: Keyspace) {
    let status = keyspace.status().await;
    let (oldest, revision, id) = {
        let disk = world.journal.disk();
        (disk.oldest, disk.truth.revision(), disk.truth.keyspace)
    };
    let risen = status
        .as_ref()
        .map(|status| (status.oldest, status.revision, status.keyspace));
    if !matches!(risen, Ok(risen) if risen == (oldest, revision, id)) {
        let wanted =
            format_args!("{status:?} after a start that should give {oldest} to {revision}").to_string();
        world.chronicle.violated("world", wanted);
    }
    world.life.set(world.life.get() + 1);
    world.ledger().renew_all(world.chronicle.moment());
    world.chronicle.note(
        "world",
        format_args!("the keyspace is open, for the {}. time", world.life()),
    );
    let driver = keyspace.driver();
    let world_of_driver = Rc::clone(world);
    let driver = world.spawner.spawn(async move {
        driver.await;
        world_of_driver.chronicle.note("world", "the driver has ended");
        world_of_driver.down();
    });
    world.driver.set(Some(driver));
    *world.keyspace.borrow_mut() = Some(keyspace);
    world.up.notify_waiters();
}
