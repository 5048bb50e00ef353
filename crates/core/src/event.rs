//! What is stored under a key, and what happens to it.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

use crate::lease::LeaseId;
use crate::revision::Revision;

/// An entry of the keyspace, as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Its key.
    pub key: Bytes,
    /// Its value; empty is a value.
    pub value: Bytes,
    /// When the key was created, or created again after its last deletion.
    pub create_revision: Revision,
    /// When the value was last written.
    pub mod_revision: Revision,
    /// How often the value was written since the key's creation: 1 for a new key.
    pub version: u64,
    /// The lease whose end removes the key.
    pub lease: Option<LeaseId>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted, by a request or by the end of its lease.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The entry after the change. Of a deleted one remain the key and the revision of the
    /// deletion, in `mod_revision`; the rest is empty or zero.
    pub kv: KeyValue,
    /// The entry before the change; none if the key was absent.
    pub prev: Option<KeyValue>,
}

impl Event {
    /// A write of `kv` over `prev`.
    pub fn put(kv: KeyValue, prev: Option<KeyValue>) -> Self {
        Self {
            kind: EventKind::Put,
            kv,
            prev,
        }
    }

    /// The deletion of `prev` at `revision`.
    pub fn delete(revision: Revision, prev: KeyValue) -> Self {
        let kv = KeyValue {
            key: prev.key.clone(),
            value: Bytes::new(),
            create_revision: Revision(0),
            mod_revision: revision,
            version: 0,
            lease: None,
        };
        Self {
            kind: EventKind::Delete,
            kv,
            prev: Some(prev),
        }
    }
}

/// One committed revision: all that a transaction changed, in its order.
///
/// Records are made once, shared by everybody who reads the history, and never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The revision of every event in it.
    pub revision: Revision,
    /// When it was committed, as far as this process can tell. Advisory: clocks jump.
    pub time: Option<SystemTime>,
    /// The events, in transaction order; never empty.
    pub events: Box<[Event]>,
}

impl Record {
    /// About how much memory the record holds on to, in bytes.
    pub fn size(&self) -> usize {
        let entry = |kv: &KeyValue| kv.key.len() + kv.value.len();
        size_of::<Self>()
            + self
                .events
                .iter()
                .map(|event| size_of::<Event>() + entry(&event.kv) + event.prev.as_ref().map_or(0, entry))
                .sum::<usize>()
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        })
    }
}
