//! What has been delivered, and how to tell whether a history continues it.

use std::collections::VecDeque;

use bytes::Bytes;
use tidewatch_core::{EventKind, KeyRange, KeyValue, Record, Revision};

use super::input::{CheckRequest, Checked};
use super::{first_key, single};
use crate::header::{Header, Identity};

/// How many of the last changes are remembered to recognise a history by. One would do, if it were not deleted again.
const MAX_WITNESSES: usize = 8;

/// What has been delivered.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) identity: Identity,
    /// Every revision up to here has been delivered.
    pub(super) position: Revision,
    shown: Shown,
    range: KeyRange,
    /// What is there at `position`.
    witnesses: Witnesses,
    /// A key that was deleted and is not there at `position`.
    absent: Option<Bytes>,
}

/// The most that a cluster has shown of itself, and so will show again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// The highest revision that a linearizable answer or an event showed.
    revision: Revision,
    /// The highest term that a linearizable answer showed. Those of other answers do not count: a member that is cut off may
    /// have raised its own in vain.
    term: u64,
}

/// The entries that were changed last, the last one at the end. Others may have written names that we cannot ask for; these
/// are no witnesses.
#[derive(Clone, Debug)]
pub(super) struct Witnesses {
    last: VecDeque<KeyValue>,
    /// Whether there is no other entry.
    are_all: bool,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self {
            last: VecDeque::new(),
            are_all: true,
        }
    }
}

impl Witnesses {
    /// Takes in entries of one revision of the store.
    pub(super) fn add(&mut self, entries: &[KeyValue]) {
        for entry in entries {
            let at = self
                .last
                .partition_point(|known| known.mod_revision <= entry.mod_revision);
            self.insert(at, entry);
        }
    }

    fn insert(&mut self, at: usize, entry: &KeyValue) {
        let has_room = at > 0 || self.last.len() < MAX_WITNESSES;
        if !has_room || !can_be_asked_for(&entry.key) {
            self.are_all = false;
            return;
        }
        self.last.insert(at, entry.clone());
        if self.last.len() > MAX_WITNESSES {
            self.last.pop_front();
            self.are_all = false;
        }
    }
}

fn can_be_asked_for(key: &Bytes) -> bool {
    tidewatch_core::key(key.clone()).is_ok()
}

impl Known {
    /// After a snapshot of this range.
    pub(super) fn new(
        identity: Identity,
        position: Revision,
        header: &Header,
        witnesses: Witnesses,
        range: &KeyRange,
    ) -> Self {
        Self {
            identity,
            position,
            shown: Shown {
                revision: header.revision.max(position),
                term: header.term,
            },
            range: range.clone(),
            witnesses,
            absent: None,
        }
    }

    /// What has been shown so far, to be held against the answer to what is asked now.
    pub(super) fn shown(&self) -> Shown {
        self.shown
    }

    /// Whether a linearizable answer may come from the history that was read before, of which this had been shown when it
    /// was asked for. A cluster never forgets what it has once shown in such an answer; one that was wiped or restored does.
    pub(super) fn accepts(&mut self, header: &Header, before: Shown) -> bool {
        let continues = header.cluster == self.identity.cluster
            && header.revision >= before.revision
            && header.term >= before.term;
        if continues {
            self.shown.revision = self.shown.revision.max(header.revision);
            self.shown.term = self.shown.term.max(header.term);
        }
        continues
    }

    /// Notes a record as delivered.
    pub(super) fn deliver(&mut self, record: &Record) {
        self.position = record.revision;
        self.shown.revision = self.shown.revision.max(record.revision);
        for event in &record.events {
            let key = &event.kv.key;
            let witnesses = &mut self.witnesses;
            witnesses.last.retain(|witness| witness.key != *key);
            if event.kind == EventKind::Put {
                self.absent.take_if(|absent| absent == key);
                witnesses.insert(witnesses.last.len(), &event.kv);
            } else if can_be_asked_for(key) {
                self.absent = Some(key.clone());
            }
        }
    }

    /// Notes that everything up to here has been delivered; false if that was known.
    pub(super) fn advance(&mut self, to: Revision) -> bool {
        let is_news = to > self.position;
        self.position = self.position.max(to);
        is_news
    }

    /// The read that tells whether a history has what was delivered. A cluster that was set up again in the same way has the
    /// same id, and may have come further than the one before it; but hardly ever did it write the same at the same revision.
    pub(super) fn comparison(&self) -> CheckRequest {
        let range = match (self.witnesses.last.back(), &self.absent) {
            (Some(witness), _) => single(&witness.key),
            (None, _) if self.witnesses.are_all => self.range.clone(),
            (None, Some(absent)) => single(absent),
            (None, None) => first_key(&self.range),
        };
        CheckRequest {
            range,
            revision: Some(self.position),
        }
    }

    /// Whether the answer shows what was delivered, as far as that is known.
    pub(super) fn is_witnessed_by(&self, checked: &Checked) -> bool {
        let is_nothing_known = !self.witnesses.are_all && self.absent.is_none();
        match self.witnesses.last.back() {
            None if is_nothing_known => true,
            expected => checked.found.as_ref() == expected,
        }
    }
}
