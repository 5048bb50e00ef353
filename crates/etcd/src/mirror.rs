//! The state of a watched range, and what each delivery changes in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewatch_core::{Event, EventKind, KeyValue, Revision};

use crate::delivery::{Delivery, SnapshotReason};
use crate::header::Identity;

/// A copy of a range, made of its deliveries.
///
/// It turns the snapshots that come when history was lost into what has changed, so that whoever follows it sees a deletion
/// that happened while nobody looked. It holds every entry of the range, and while a snapshot arrives those of both.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    entries: BTreeMap<Bytes, KeyValue>,
    at: Option<(Identity, Revision)>,
    arriving: Option<Arriving>,
}

#[derive(Clone, Debug)]
struct Arriving {
    identity: Identity,
    reason: SnapshotReason,
    entries: BTreeMap<Bytes, KeyValue>,
}

/// What changed, in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which history it is of.
    pub identity: Identity,
    /// Every revision up to here is in the mirror.
    pub revision: Revision,
    /// Why it was found by a snapshot; none if the history told it. Of what a snapshot tells, deletions carry the snapshot's
    /// revision, and what came and went in between is missing.
    pub snapshot: Option<SnapshotReason>,
    /// The events, in the order in which they happened, or of their keys. None are there if a snapshot found all as it was.
    pub events: Vec<Event>,
}

impl Mirror {
    /// Takes a delivery in. Returns what has changed, if a step is complete with it.
    pub fn apply(&mut self, delivery: Delivery) -> Option<Change> {
        match delivery {
            Delivery::SnapshotBegin { identity, reason, .. } => {
                self.arriving = Some(Arriving {
                    identity,
                    reason,
                    entries: BTreeMap::new(),
                });
                None
            }
            Delivery::Snapshot(entries) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving
                        .entries
                        .extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
                }
                None
            }
            Delivery::SnapshotEnd { revision } => {
                let arriving = self.arriving.take()?;
                self.at = Some((arriving.identity, revision));
                let before = std::mem::replace(&mut self.entries, arriving.entries);
                Some(Change {
                    identity: arriving.identity,
                    revision,
                    snapshot: Some(arriving.reason),
                    events: difference(before, &self.entries, revision),
                })
            }
            Delivery::Record(record) => {
                let (identity, revision) = self.at.as_mut()?;
                *revision = record.revision;
                let identity = *identity;
                for event in &record.events {
                    match event.kind {
                        EventKind::Put => self.entries.insert(event.kv.key.clone(), event.kv.clone()),
                        EventKind::Delete => self.entries.remove(&event.kv.key),
                    };
                }
                Some(Change {
                    identity,
                    revision: record.revision,
                    snapshot: None,
                    events: record.events.into_vec(),
                })
            }
            Delivery::Progress(to) => {
                let (_, revision) = self.at.as_mut()?;
                *revision = to;
                None
            }
        }
    }

    /// The entries, in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = &KeyValue> {
        self.entries.values()
    }

    /// What is under a key.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.entries.get(key)
    }

    /// Which history it is of, and how far it has come; none before the first snapshot is complete.
    pub fn at(&self) -> Option<(Identity, Revision)> {
        self.at
    }
}

/// The events that lead from one state to the other, in the order of their keys.
fn difference(
    mut before: BTreeMap<Bytes, KeyValue>,
    after: &BTreeMap<Bytes, KeyValue>,
    revision: Revision,
) -> Vec<Event> {
    let mut events: Vec<_> = after
        .values()
        .filter_map(|entry| match before.remove(&entry.key) {
            Some(same) if same == *entry => None,
            previous => Some(Event::put(entry.clone(), previous)),
        })
        .collect();
    events.extend(before.into_values().map(|gone| Event::delete(revision, gone)));
    events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, revision: u64) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(format!("value at {revision}")),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        }
    }

    fn snapshot(
        mirror: &mut Mirror,
        reason: SnapshotReason,
        entries: Vec<KeyValue>,
        revision: u64,
    ) -> Option<Change> {
        let revision = Revision(revision);
        let identity = Identity::of(1);
        let begin = Delivery::SnapshotBegin {
            identity,
            revision,
            reason,
        };
        assert_eq!(mirror.apply(begin), None);
        assert_eq!(mirror.apply(Delivery::Snapshot(entries)), None);
        mirror.apply(Delivery::SnapshotEnd { revision })
    }

    #[test]
    fn a_later_snapshot_is_told_as_what_changed_in_one_step() {
        let mut mirror = Mirror::default();
        let first = vec![entry("gone", 2), entry("kept", 3), entry("written", 4)];
        let all = snapshot(&mut mirror, SnapshotReason::First, first, 5).unwrap();
        assert_eq!(all.events.len(), 3);

        let second = vec![entry("kept", 3), entry("new", 8), entry("written", 7)];
        let change = snapshot(&mut mirror, SnapshotReason::Compacted, second, 9).unwrap();
        assert_eq!(change.snapshot, Some(SnapshotReason::Compacted));
        assert_eq!(
            change.events,
            [
                Event::delete(Revision(9), entry("gone", 2)),
                Event::put(entry("new", 8), None),
                Event::put(entry("written", 7), Some(entry("written", 4))),
            ]
        );
        assert_eq!(mirror.get(b"gone"), None);
        assert_eq!(mirror.at(), Some((Identity::of(1), Revision(9))));
    }

    #[test]
    fn a_snapshot_that_begins_anew_voids_what_came_of_the_one_before() {
        let mut mirror = Mirror::default();
        snapshot(&mut mirror, SnapshotReason::First, vec![entry("a", 2)], 2);
        let begin = Delivery::SnapshotBegin {
            identity: Identity::of(1),
            revision: Revision(3),
            reason: SnapshotReason::Compacted,
        };
        mirror.apply(begin);
        mirror.apply(Delivery::Snapshot(vec![entry("half", 3)]));
        assert_eq!(mirror.entries().collect::<Vec<_>>(), [&entry("a", 2)]);
        let change = snapshot(&mut mirror, SnapshotReason::Compacted, vec![entry("a", 2)], 4).unwrap();
        assert_eq!(change.events, []);
    }
}
