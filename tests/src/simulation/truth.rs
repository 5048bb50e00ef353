//! What really happened: each revision as it became durable, and the state it made.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidewatch_core::{Event, EventKind, KeyRange, KeyValue, KeyspaceId, Record, Revision, check};

use super::chronicle::Moment;

/// The entries at a revision.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// All revisions there ever were. It is told by the journal's disk and by nobody else, and it works out by itself what
/// each event must look like.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) keyspace: KeyspaceId,
    /// Revision 2, 3, and so on.
    records: Vec<Arc<Record>>,
    /// When each of them became durable.
    moments: Vec<Moment>,
    /// At revision 1, 2, and so on.
    states: Vec<State>,
}

impl Truth {
    pub(crate) fn new(keyspace: KeyspaceId) -> Self {
        Self {
            keyspace,
            records: Vec::new(),
            moments: Vec::new(),
            states: vec![State::new()],
        }
    }

    /// The last durable revision.
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    /// The state at a revision that exists.
    pub(crate) fn state(&self, revision: Revision) -> &State {
        &self.states[index(revision)]
    }

    pub(crate) fn records(&self) -> &[Arc<Record>] {
        &self.records
    }

    /// The records after a revision.
    pub(crate) fn after(&self, revision: Revision) -> &[Arc<Record>] {
        let from = usize::try_from(revision.0.saturating_sub(1)).unwrap_or(usize::MAX);
        &self.records[from.min(self.records.len())..]
    }

    /// The record that made a revision, and when it became durable.
    pub(crate) fn record(&self, revision: Revision) -> Option<(&Arc<Record>, Moment)> {
        let at = usize::try_from(revision.0).ok()?.checked_sub(2)?;
        Some((self.records.get(at)?, self.moments[at]))
    }

    /// Takes in the next revision.
    ///
    /// # Errors
    /// It does not follow from the state before it.
    pub(crate) fn add(&mut self, record: &Record, moment: Moment) -> Result<(), String> {
        let revision = self.revision().next();
        if record.revision != revision || record.events.is_empty() {
            return Err(format!("{record:?} is committed as revision {revision}"));
        }
        let before = self.state(self.revision());
        let mut state = before.clone();
        for event in &record.events {
            let key = &event.kv.key;
            let twice = record.events.iter().filter(|other| other.kv.key == *key).count() > 1;
            let wanted = follows(event, revision, before.get(key).cloned());
            if twice || wanted.as_ref() != Some(event) {
                return Err(format!("{event:?} at {revision} instead of {wanted:?}"));
            }
            match event.kind {
                EventKind::Put => state.insert(key.clone(), event.kv.clone()),
                EventKind::Delete => state.remove(key),
            };
        }
        self.records.push(Arc::new(record.clone()));
        self.moments.push(moment);
        self.states.push(state);
        Ok(())
    }

    /// The same, for the checker.
    pub(crate) fn for_checker(&self) -> check::Truth {
        check::Truth::new(self.records.clone())
    }
}

fn index(revision: Revision) -> usize {
    usize::try_from(revision.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// How an event must look, given what it says it does and what was there before.
fn follows(event: &Event, revision: Revision, before: Option<KeyValue>) -> Option<Event> {
    match event.kind {
        EventKind::Put => {
            let kv = KeyValue {
                create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
                mod_revision: revision,
                version: before.as_ref().map_or(1, |before| before.version + 1),
                ..event.kv.clone()
            };
            Some(Event::put(kv, before))
        }
        EventKind::Delete => before.map(|before| Event::delete(revision, before)),
    }
}

/// The entries of a state that some ranges hold, in the order of keys.
pub(crate) fn within<'a>(state: &'a State, ranges: &'a [KeyRange]) -> impl Iterator<Item = &'a KeyValue> {
    let inside = |kv: &&KeyValue| ranges.iter().any(|range| range.contains(&kv.key));
    state.values().filter(inside)
}
