//! Random histories.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Event, KeyValue};
use crate::journal::Entry;
use crate::lease::{LeaseGrant, LeaseId};
use crate::revision::Revision;

/// Random groups that a keyspace could have committed.
pub(super) struct Random {
    pub(super) rng: fastrand::Rng,
    pub(super) revision: Revision,
    pub(super) oldest: Revision,
    live: BTreeMap<u32, KeyValue>,
    leases: Vec<LeaseId>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            revision: Revision::INITIAL,
            oldest: Revision::INITIAL,
            live: BTreeMap::new(),
            leases: Vec::new(),
        }
    }

    pub(super) fn group(&mut self) -> Vec<Entry> {
        (0..self.rng.usize(1..5)).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Entry {
        match self.rng.u32(..8) {
            0 => {
                let id = LeaseId(self.rng.i64(1..));
                self.leases.push(id);
                Entry::LeaseGranted(LeaseGrant {
                    id,
                    ttl: Duration::from_secs(self.rng.u64(1..1000)),
                })
            }
            1 if !self.leases.is_empty() => {
                let at = self.rng.usize(..self.leases.len());
                Entry::LeaseEnded(self.leases.swap_remove(at))
            }
            _ => self.record(),
        }
    }

    fn record(&mut self) -> Entry {
        self.revision = self.revision.next();
        let mut names: Vec<u32> = (0..12).collect();
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(1..5));
        let events: Vec<_> = names.into_iter().map(|name| self.event(name)).collect();
        Entry::Record(super::record(self.revision.0, events))
    }

    fn event(&mut self, name: u32) -> Event {
        let revision = self.revision;
        let prev = self.live.remove(&name);
        if let Some(prev) = prev.clone()
            && self.rng.bool()
        {
            return Event::delete(revision, prev);
        }
        let kv = KeyValue {
            key: format!("/key/{name}").into(),
            value: vec![self.rng.u8(..); self.rng.usize(..40)].into(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: self.leases.first().copied(),
        };
        self.live.insert(name, kv.clone());
        Event::put(kv, prev)
    }
}
