//! Doing again what was done elsewhere: by this keyspace before a restart, or by the one it is a replica of.

use std::fmt;
use std::sync::Arc;

use super::index::Index;
use crate::error::Cause;
use crate::event::{Event, EventKind, KeyValue, Record};

/// Adds a record to the index and finds out what was there before each of its events.
///
/// # Errors
/// It cannot follow what is in the index. Part of it may be there then, at its revision.
pub(super) fn replay_record(index: &mut Index, record: Record) -> Result<Record, Cause> {
    let Record {
        revision,
        time,
        events,
    } = record;
    let replay = |event: Event| {
        let key = event.kv.key.clone();
        if event.kv.mod_revision != revision || index.changed_at(&key, revision) {
            return Err(contradiction(format!(
                "{:?} is changed at revision {} within revision {revision}, or twice in it",
                key.escape_ascii().to_string(),
                event.kv.mod_revision,
            )));
        }
        match event.kind {
            EventKind::Put => {
                check_version(&event.kv)?;
                let prev = index.restore(&event.kv);
                Ok(Event::put(event.kv, prev))
            }
            EventKind::Delete => index.delete(revision, &key).ok_or_else(|| {
                contradiction(format!(
                    "revision {revision} deletes {:?}, which does not exist",
                    key.escape_ascii().to_string()
                ))
            }),
        }
    };
    let events: Result<Box<[Event]>, Cause> = events.into_iter().map(replay).collect();
    Ok(Record {
        revision,
        time,
        events: events?,
    })
}

/// # Errors
/// The entry is one of a key that does not exist.
pub(super) fn check_version(kv: &KeyValue) -> Result<(), Cause> {
    if kv.version > 0 {
        return Ok(());
    }
    let key = kv.key.escape_ascii();
    Err(contradiction(format!(
        "{:?} is there with version 0",
        key.to_string()
    )))
}

pub(super) fn contradiction(what: String) -> Cause {
    Arc::new(Contradiction(what))
}

/// What is said to have happened cannot have happened.
#[derive(Debug)]
struct Contradiction(String);

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a contradiction in what is said to have happened: {}", self.0)
    }
}

impl std::error::Error for Contradiction {}
