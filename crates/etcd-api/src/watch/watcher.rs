//! The watches of one stream.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tidewatch_core::watch::{Delivery, Watch};
use tidewatch_core::{Ended, Revision};

use super::form::Encoded;
use super::ready::{Ready, Slot};

/// A watch and what its stream knows of it.
pub(super) struct Watcher {
    /// Its name on the stream.
    pub(super) id: i64,
    /// Below this nothing is delivered, and no progress reported.
    pub(super) start: Revision,
    /// Whether large responses may be cut.
    pub(super) fragment: bool,
    /// Whether its stream waits to hear how far it is.
    pub(super) asked: bool,
    /// It was asked for a report of progress that has not come, whether its stream still waits for that
    /// or not.
    owes_report: bool,
    /// It says nothing until its stream has told how far all are.
    held: bool,
    /// What it says next: events beyond what its stream is about to tell.
    ahead: Option<Ahead>,
    /// What has come so far of a revision that comes in pieces.
    pub(super) partial: Encoded,
    watch: Watch,
    slot: Arc<Slot>,
    waker: Waker,
    _room: Box<dyn Any + Send>,
}

/// Events that were taken before they may be sent.
pub(super) struct Ahead {
    pub(super) revision: Revision,
    pub(super) events: Arc<Encoded>,
}

/// A watch that is to be added.
pub(super) struct NewWatcher {
    /// Its name; 0: the next that is free.
    pub(super) id: i64,
    pub(super) start: Revision,
    pub(super) fragment: bool,
    pub(super) watch: Watch,
    pub(super) room: Box<dyn Any + Send>,
}

impl Watcher {
    /// Lets it say what it has to say. If that is anything but the end, its next turn will come.
    pub(super) fn poll(&mut self) -> Poll<Result<Delivery, Ended>> {
        self.slot.begin();
        let polled = self
            .watch
            .poll_next_delivery(&mut Context::from_waker(&self.waker));
        if let Poll::Ready(Ok(_)) = polled {
            self.slot.again();
        }
        polled
    }

    /// Asks how far it is, and gives it a turn to say so.
    pub(super) fn ask(&mut self) {
        (self.asked, self.owes_report) = (true, true);
        self.watch.request_progress();
        self.slot.again();
    }

    /// Notes a report. Returns whether it comes because it was asked for, and not by itself.
    pub(super) fn reports(&mut self) -> bool {
        std::mem::take(&mut self.owes_report) || self.asked
    }

    /// Whether it may not speak now.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Lets its turn go by.
    pub(super) fn pass(&self) {
        self.slot.begin();
    }

    /// From now on it may not speak; `ahead` is what it says when it may again.
    pub(super) fn hold(&mut self, ahead: Option<Ahead>) {
        (self.held, self.ahead) = (true, ahead);
    }

    /// It may speak again.
    pub(super) fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            self.slot.again();
        }
    }

    /// What it was held back with, which is its turn, and another will come.
    pub(super) fn take_ahead(&mut self) -> Option<Ahead> {
        let ahead = self.ahead.take()?;
        self.slot.begin();
        self.slot.again();
        Some(ahead)
    }
}

/// All of them, by place and by name.
#[derive(Default)]
pub(super) struct Watchers {
    all: Slab<Watcher>,
    by_id: HashMap<i64, usize>,
    next_id: i64,
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Watcher> {
        self.all.get_mut(key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Watcher> {
        self.all.iter_mut().map(|(_, watcher)| watcher)
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Adds a watch, and gives it a turn.
    pub(super) fn insert(&mut self, new: NewWatcher, ready: &Arc<Ready>) -> &mut Watcher {
        let mut id = new.id;
        if id == 0 {
            while self.by_id.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            id = self.next_id;
            self.next_id += 1;
        }
        let place = self.all.vacant_entry();
        let slot = Slot::new(place.key(), ready);
        slot.again();
        self.by_id.insert(id, place.key());
        place.insert(Watcher {
            id,
            start: new.start,
            fragment: new.fragment,
            asked: false,
            owes_report: false,
            held: false,
            ahead: None,
            partial: Encoded::default(),
            watch: new.watch,
            waker: slot.waker(),
            slot,
            _room: new.room,
        })
    }

    /// Takes a watch out, which ends it.
    pub(super) fn remove(&mut self, key: usize) -> Option<Watcher> {
        let watcher = self.all.try_remove(key)?;
        self.by_id.remove(&watcher.id);
        Some(watcher)
    }

    /// The same by its name.
    pub(super) fn remove_id(&mut self, id: i64) -> Option<Watcher> {
        let key = *self.by_id.get(&id)?;
        self.remove(key)
    }
}
