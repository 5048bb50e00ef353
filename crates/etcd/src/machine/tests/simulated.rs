//! An etcd in memory, as far as the machine can see it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewatch_core::{Event, KeyRange, KeyValue, Revision};

use super::super::*;
use crate::header::Header;

/// What it answers.
type Answer<T> = Result<T, Failure>;

#[derive(Clone)]
pub(super) struct Simulated {
    id: u64,
    term: u64,
    revision: u64,
    compacted: u64,
    /// The events of each revision.
    history: BTreeMap<u64, Vec<Event>>,
    /// Makes values that no other history has.
    written: u64,
}

/// A watch in it.
pub(super) struct SimulatedWatch {
    range: KeyRange,
    from: u64,
    next: u64,
    created: bool,
}

impl Simulated {
    pub(super) fn new() -> Self {
        Self {
            id: 7,
            term: 2,
            revision: 1,
            compacted: 0,
            history: BTreeMap::new(),
            written: 0,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revisions after one that concern a range, with how many events of each do.
    pub(super) fn revisions_after(&self, revision: u64, range: &KeyRange) -> Vec<(u64, usize)> {
        self.history
            .range(revision + 1..)
            .map(|(&at, events)| {
                let concerned = events.iter().filter(|event| range.contains(&event.kv.key));
                (at, concerned.count())
            })
            .filter(|&(_, count)| count > 0)
            .collect()
    }

    /// Writes and deletes some keys in one revision.
    pub(super) fn change(&mut self, rng: &mut fastrand::Rng) {
        let state = self.state(self.revision);
        let mut events = Vec::new();
        for number in 0..8 {
            let key = Bytes::from(if number % 2 == 0 {
                format!("/a/{number}")
            } else {
                format!("/b/{number}")
            });
            if rng.u8(..4) > 0 {
                continue;
            }
            let before = state.get(&key);
            let revision = Revision(self.revision + 1);
            match before {
                Some(before) if rng.bool() => events.push(Event::delete(revision, before.clone())),
                before => {
                    self.written += 1;
                    let kv = KeyValue {
                        key,
                        value: Bytes::from(format!("{}", self.written)),
                        create_revision: before.map_or(revision, |before| before.create_revision),
                        mod_revision: revision,
                        version: before.map_or(1, |before| before.version + 1),
                        lease: None,
                    };
                    events.push(Event::put(kv, before.cloned()));
                }
            }
        }
        if !events.is_empty() {
            self.revision += 1;
            self.history.insert(self.revision, events);
        }
    }

    pub(super) fn compact(&mut self, rng: &mut fastrand::Rng) {
        self.compacted = rng.u64(self.compacted..=self.revision);
    }

    pub(super) fn elect(&mut self) {
        self.term += 1;
    }

    /// Loses all of its history, or what came after some revision.
    pub(super) fn lose_history(&mut self, rng: &mut fastrand::Rng) {
        let kept = if rng.bool() { 1 } else { rng.u64(1..=self.revision) };
        self.history.split_off(&(kept + 1));
        if kept == 1 {
            self.compacted = 0;
            self.term = 2;
        }
        self.compacted = self.compacted.min(kept);
        self.revision = kept;
    }

    pub(super) fn state(&self, revision: u64) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for event in self.history.range(..=revision).flat_map(|(_, events)| events) {
            match event.kind {
                tidewatch_core::EventKind::Put => state.insert(event.kv.key.clone(), event.kv.clone()),
                tidewatch_core::EventKind::Delete => state.remove(&event.kv.key),
            };
        }
        state
    }

    fn header(&self) -> Header {
        Header {
            cluster: self.id,
            member: 1,
            revision: Revision(self.revision),
            term: self.term,
        }
    }

    pub(super) fn dial(&self, version: Option<Version>) -> Dialed {
        Dialed {
            version,
            is_tidewatch: false,
            header: self.header(),
        }
    }

    fn read(&self, revision: Option<Revision>) -> Answer<BTreeMap<Bytes, KeyValue>> {
        match revision {
            Some(at) if at.0 > self.revision => Err(Failure::new(FailureKind::Future, "future")),
            Some(at) if at.0 < self.compacted => Err(Failure::new(FailureKind::Compacted, "compacted")),
            at => Ok(self.state(at.map_or(self.revision, |at| at.0))),
        }
    }

    pub(super) fn list(&self, request: &ListRequest) -> Answer<Page> {
        let state = self.read(request.revision)?;
        let after = request.after.as_ref();
        let mut entries: Vec<_> = state
            .into_values()
            .filter(|entry| request.range.contains(&entry.key) && after.is_none_or(|after| entry.key > after))
            .collect();
        // Pages are as small as they can be, so that much happens between them.
        let more = entries.len() > 2;
        entries.truncate(2);
        Ok(Page {
            header: self.header(),
            entries,
            more,
        })
    }

    pub(super) fn check(&self, request: &CheckRequest) -> Answer<Checked> {
        let state = self.read(request.revision)?;
        let found = state
            .into_values()
            .find(|entry| request.range.contains(&entry.key));
        Ok(Checked {
            header: self.header(),
            found,
        })
    }

    pub(super) fn open(request: &OpenRequest) -> SimulatedWatch {
        SimulatedWatch {
            range: request.range.clone(),
            from: request.from.0,
            next: request.from.0,
            created: false,
        }
    }

    /// The next message of a watch, if it has one.
    pub(super) fn message(&self, watch: &mut SimulatedWatch) -> Option<Message> {
        let header = self.header();
        if !watch.created {
            watch.created = true;
            return Some(Message {
                header,
                created: true,
                ..Message::default()
            });
        }
        if watch.next < self.compacted {
            return Some(Message {
                header: Header {
                    revision: Revision(0),
                    ..header
                },
                canceled: true,
                compact_revision: Revision(self.compacted),
                ..Message::default()
            });
        }
        let (revision, events) = self
            .history
            .range(watch.next..)
            .map(|(revision, events)| {
                let concerned = events.iter().filter(|event| watch.range.contains(&event.kv.key));
                (*revision, concerned.cloned().collect::<Vec<_>>())
            })
            .find(|(_, events)| !events.is_empty())?;
        watch.next = revision + 1;
        Some(Message {
            header,
            events,
            ..Message::default()
        })
    }

    /// The answer to a question for progress. Older versions answer at once; others forget a question that comes while there is
    /// something to say before, and the newest one that comes before the first revision that was asked for.
    pub(super) fn progress(&self, watch: &SimulatedWatch, version: Option<Version>) -> Option<Message> {
        let is_synced = watch.created && self.revisions_after(watch.next - 1, &watch.range).is_empty();
        let is_ahead = self.revision < watch.from;
        let answers = match version {
            Some(version) if version >= Version::new(3, 5, 22) => is_synced && !is_ahead,
            Some(version) if version.tells_progress_truly() => is_synced,
            _ => true,
        };
        answers.then(|| Message {
            header: self.header(),
            ..Message::default()
        })
    }
}
