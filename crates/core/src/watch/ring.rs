//! The latest entries of a topic.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::{Entry, Hold, MAX_RUN, OpenRun};
use crate::revision::Revision;

/// Most bytes of records that a topic's ring keeps alive (1 MiB). The history holds the same records
/// for as long as its window; beyond it, this bounds what readers who do not read can cost. A record
/// larger than this stands alone.
const MAX_BYTES: usize = 1 << 20;

/// The latest entries of a topic, in runs. Entries are added to an open run, which is sealed when
/// somebody reads it: so those who read together share what they read, whatever is added meanwhile.
#[derive(Debug)]
pub(super) struct Ring {
    /// Most entries.
    room: usize,
    sealed: VecDeque<Arc<Hold>>,
    sealed_entries: usize,
    sealed_bytes: usize,
    open: OpenRun,
    /// The number of entries added before the first in the ring.
    passed: u64,
    /// The ring holds every entry after this revision.
    complete_after: Revision,
}

impl Ring {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            sealed: VecDeque::new(),
            sealed_entries: 0,
            sealed_bytes: 0,
            open: OpenRun::default(),
            passed: 0,
            complete_after: Revision::default(),
        }
    }

    /// Forgets everything; from now on the ring holds what is added after `revision`.
    pub(super) fn restart(&mut self, revision: Revision) {
        self.clear();
        self.complete_after = revision;
    }

    /// Whether it holds all that follows `after`.
    pub(super) fn covers(&self, after: Revision) -> bool {
        after >= self.complete_after
    }

    /// The revision of the latest entry it holds.
    pub(super) fn last(&self) -> Option<Revision> {
        let open = self.open.entries().last().map(|entry| entry.revision);
        open.or_else(|| self.sealed.back().map(|hold| hold.run().last()))
    }

    /// The number that the next entry gets.
    pub(super) fn next_number(&self) -> u64 {
        self.passed + (self.sealed_entries + self.open.entries().len()) as u64
    }

    /// The number of the first entry after a revision.
    pub(super) fn number_after(&self, after: Revision) -> u64 {
        let sealed: u64 = self
            .sealed
            .iter()
            .map(|hold| u64::from(hold.run().first_after(after)))
            .sum();
        let open = self
            .open
            .entries()
            .partition_point(|entry| entry.revision <= after);
        self.passed + sealed + open as u64
    }

    /// Adds an entry of a record of `bytes`.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        if self.open.is_full_for(bytes, MAX_RUN.min(self.room)) {
            self.seal();
        }
        self.open.push(entry, bytes);
        while self.is_over() {
            self.drop_front();
        }
    }

    /// Forgets everything that nobody needs any more.
    pub(super) fn clear(&mut self) {
        self.seal();
        while !self.sealed.is_empty() {
            self.drop_front();
        }
    }

    /// The run that goes on after a revision, and where in it.
    pub(super) fn read(&mut self, after: Revision) -> Option<(Arc<Hold>, u32)> {
        let at = self.sealed.partition_point(|hold| hold.run().last() <= after);
        if at == self.sealed.len() {
            self.seal();
        }
        let hold = self.sealed.get(at)?;
        let first = hold.run().first_after(after);
        (first < hold.run().len()).then(|| (Arc::clone(hold), first))
    }

    fn is_over(&self) -> bool {
        !self.sealed.is_empty()
            && (self.sealed_entries + self.open.entries().len() > self.room
                || self.sealed_bytes + self.open.bytes() > MAX_BYTES)
    }

    fn seal(&mut self) {
        if let Some(hold) = self.open.seal() {
            self.sealed_entries += hold.run().len() as usize;
            self.sealed_bytes += hold.run().bytes();
            self.sealed.push_back(hold);
        }
    }

    fn drop_front(&mut self) {
        if let Some(hold) = self.sealed.pop_front() {
            let run = hold.run();
            self.sealed_entries -= run.len() as usize;
            self.sealed_bytes -= run.bytes();
            self.passed += u64::from(run.len());
            self.complete_after = self.complete_after.max(run.last());
        }
    }
}
