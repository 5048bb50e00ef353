//! A watch plane of its own, fed with what the keyspace has made durable, as by a server that follows another one.
//!
//! The driver of a keyspace hands events on as soon as they are committed. Here somebody else runs in between, so that
//! the dispatcher may be far behind the history, and the history behind the keyspace.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tidewatch_core::watch::{WatchDispatcher, WatchId, WatchRegistry};
use tidewatch_core::{EndReason, Error, History, KeyRange, KeyValue, Revision, SnapshotReader};

use super::coverage::Kind;
use super::dice::Dice;
use super::journal::SimJournal;
use super::world::{Stage, World};

/// A history that follows the keyspace's, and its watchers.
pub(crate) struct Relay {
    history: Arc<History>,
    pub(crate) registry: Arc<WatchRegistry>,
    /// What it was told to forget.
    pub(crate) oldest: Cell<Revision>,
    closed: Cell<bool>,
    /// The watches that an operator has ended.
    canceled: RefCell<BTreeSet<WatchId>>,
}

impl Relay {
    /// One that begins where the keyspace is, or with all of the history that there still is.
    pub(crate) fn new(world: &World, dice: &Dice) -> Rc<Self> {
        let (keyspace, oldest) = {
            let disk = world.journal.disk();
            (disk.truth.keyspace, disk.oldest)
        };
        // What is durable and was not shown to anybody yet is not known to it either.
        let next = world.ledger().floor().max(Revision::INITIAL).next();
        let oldest = if dice.chance(500) { oldest.min(next) } else { next };
        let history = History::new(keyspace, oldest, oldest.prev());
        let pages = Pages {
            journal: world.journal.clone(),
            history: Arc::clone(&history),
        };
        let registry = WatchRegistry::new(
            Arc::clone(&history),
            Some(Arc::new(pages)),
            Arc::new(world.clock.clone()),
            world.settings.watch.clone(),
        );
        Rc::new(Self {
            history,
            registry,
            oldest: Cell::new(oldest),
            closed: Cell::new(false),
            canceled: RefCell::default(),
        })
    }

    /// How far its history is.
    pub(crate) fn current(&self) -> Revision {
        self.history.current()
    }

    pub(crate) fn close(&self, reason: EndReason) {
        self.closed.set(true);
        self.registry.close(reason);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes in some of what the keyspace shows and it does not have yet.
    async fn feed(&self, world: &World, most: u64) {
        let Some(keyspace) = world.try_keyspace() else {
            return;
        };
        let Ok(status) = keyspace.status().await else {
            return;
        };
        let current = self.history.current();
        let through = Revision(current.0.saturating_add(most)).min(status.revision);
        let disk = world.journal.disk();
        let news = disk.truth.after(current);
        let some = &news[..news.partition_point(|record| record.revision <= through)];
        if let (Some(first), Some(last)) = (some.first(), some.last()) {
            let (first, last) = (first.revision, last.revision);
            world
                .chronicle
                .note("relay", format_args!("has {first} to {last}"));
            self.history.append(some.iter().cloned());
        }
    }

    fn cancel_one(&self, world: &World, dice: &Dice) {
        let watchers = self.registry.watchers();
        if watchers.is_empty() {
            return;
        }
        let id = dice.pick(&watchers).id;
        world.chronicle.note("relay", format_args!("ends watch {id}"));
        self.canceled.borrow_mut().insert(id);
        self.registry.cancel(id);
    }

    /// Whether an operator has ended a watch.
    pub(crate) fn has_canceled(&self, id: WatchId) -> bool {
        self.canceled.borrow().contains(&id)
    }

    fn compact(&self, world: &World, dice: &Dice) {
        let current = self.history.current();
        let back = dice.number(0..=20);
        let to = Revision(current.0.saturating_sub(back)).max(self.oldest.get());
        world
            .chronicle
            .note("relay", format_args!("forgets what was before {to}"));
        world.chronicle.count(Kind::RelayCompacted);
        if to > self.registry.dispatched().next() {
            world.chronicle.count(Kind::Gap);
        }
        self.oldest.set(to);
        self.history.compact(to);
    }
}

/// Brings a relay what there is, until it is closed.
pub(crate) async fn feed(world: Rc<World>, relay: Rc<Relay>, dice: Dice) {
    while !relay.is_closed() {
        if world.stage() > Stage::Storm {
            relay.feed(&world, u64::MAX).await;
            world.sleep(&dice, 1000..=1000).await;
            continue;
        }
        world.pause(&dice).await;
        match dice.below(100) {
            0..5 => relay.compact(&world, &dice),
            5 => relay.cancel_one(&world, &dice),
            _ => relay.feed(&world, *dice.pick(&[1, 2, 5, 1000])).await,
        }
    }
    if relay.registry.catch_ups() > 0 {
        world.chronicle.count(Kind::CaughtUp);
    }
}

/// Hands on what there is, now and then only after a while.
pub(crate) async fn dispatch(world: Rc<World>, relay: Rc<Relay>, dice: Dice) {
    let dispatcher = WatchDispatcher::new(Arc::clone(&relay.registry));
    let mut dispatch = pin!(dispatcher.run());
    while poll_fn(|cx| Poll::Ready(dispatch.as_mut().poll(cx)))
        .await
        .is_pending()
    {
        until_woken().await;
        if world.stage() == Stage::Storm && dice.chance(150) {
            world.sleep(&dice, 20..=2500).await;
        }
    }
}

/// Waits for the wake-up of a future that this task has polled by hand.
async fn until_woken() {
    let mut waited = false;
    poll_fn(|_| {
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// The state as the disk has it.
struct Pages {
    journal: SimJournal,
    history: Arc<History>,
}

impl SnapshotReader for Pages {
    fn page(
        &self,
        range: &KeyRange,
        revision: Revision,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Error> {
        let oldest = self.history.oldest();
        if revision < oldest.prev() {
            let requested = revision;
            return Err(Error::Compacted { requested, oldest });
        }
        let disk = self.journal.disk();
        let entries = disk.truth.state(revision).values();
        let entries =
            entries.filter(|kv| range.contains(&kv.key) && after.is_none_or(|after| kv.key > after));
        Ok(entries.take(limit).cloned().collect())
    }
}
