//! Ranges of keys, entries, events, positions.

use std::time::Duration;

use tidewatch_core::key::{KeyRange, RangeEnd, check_key, key, range};
use tidewatch_core::watch::View;
use tidewatch_core::{Error, Event, EventKind, KeyValue, KeyspaceId, LeaseId, Position, Revision};

use super::{Malformed, detached, needed};
use crate::v1;

impl From<&KeyRange> for v1::KeyRange {
    fn from(range: &KeyRange) -> Self {
        let end = match range.end() {
            RangeEnd::Single => None,
            RangeEnd::Before(end) => Some(v1::key_range::End::Before(end.clone())),
            RangeEnd::Unbounded => Some(v1::key_range::End::Unbounded(true)),
        };
        Self {
            start: range.start().clone(),
            end,
        }
    }
}

impl TryFrom<v1::KeyRange> for KeyRange {
    type Error = Error;

    fn try_from(message: v1::KeyRange) -> Result<Self, Error> {
        let start = detached(message.start);
        match message.end {
            None => key(start),
            Some(v1::key_range::End::Before(end)) => range(start, detached(end)),
            Some(v1::key_range::End::Unbounded(true)) => {
                if !start.is_empty() {
                    check_key(&start)?;
                }
                Ok(Self::from_key(start))
            }
            Some(v1::key_range::End::Unbounded(false)) => Err(Error::InvalidArgument {
                what: "range",
                reason: "unbounded is false; leave it out for a single key".into(),
            }),
        }
    }
}

/// The range of a request, which must have one.
pub(super) fn requested_range(message: Option<v1::KeyRange>) -> Result<KeyRange, Error> {
    let message = message.ok_or_else(|| Error::InvalidArgument {
        what: "range",
        reason: "it is missing".into(),
    })?;
    message.try_into()
}

impl From<&KeyValue> for v1::KeyValue {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: kv.key.clone(),
            create_revision: kv.create_revision.0,
            mod_revision: kv.mod_revision.0,
            version: kv.version,
            value: kv.value.clone(),
            lease: kv.lease.map_or(0, |lease| lease.0),
        }
    }
}

impl From<v1::KeyValue> for KeyValue {
    fn from(message: v1::KeyValue) -> Self {
        Self {
            key: message.key,
            value: message.value,
            create_revision: Revision(message.create_revision),
            mod_revision: Revision(message.mod_revision),
            version: message.version,
            lease: lease_id(message.lease),
        }
    }
}

/// The lease of an entry, where 0 is none.
pub(super) fn lease_id(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

impl From<EventKind> for v1::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Put => Self::Put,
            EventKind::Delete => Self::Delete,
        }
    }
}

impl From<v1::EventKind> for EventKind {
    fn from(kind: v1::EventKind) -> Self {
        match kind {
            v1::EventKind::Put => Self::Put,
            v1::EventKind::Delete => Self::Delete,
        }
    }
}

/// An event that arrived at a watch which asked for `view`.
pub(crate) fn event(message: v1::Event, view: View) -> Result<Event, Malformed> {
    let kind = v1::EventKind::try_from(message.kind).map_err(|_| Malformed("an event of an unknown kind"))?;
    let prev = match (message.prev, view.prev_kv) {
        (_, false) | (Some(v1::event::Prev::PrevAbsent(_)), true) => None,
        (Some(v1::event::Prev::PrevKv(kv)), true) => Some(kv.into()),
        (None, true) => return Err(Malformed("an event that does not tell what was before")),
    };
    Ok(Event {
        kind: kind.into(),
        kv: needed(message.kv, "an event without a key")?.into(),
        prev,
    })
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self {
            keyspace_id: position.keyspace.0,
            revision: position.revision.0,
        }
    }
}

impl From<v1::Position> for Position {
    fn from(message: v1::Position) -> Self {
        Self {
            keyspace: KeyspaceId(message.keyspace_id),
            revision: Revision(message.revision),
        }
    }
}

/// A duration in the whole milliseconds of the wire.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
