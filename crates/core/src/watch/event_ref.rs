//! Events as a watch sees them.

use std::fmt;

use bytes::Bytes;

use super::View;
use crate::event::{Event, EventKind, KeyValue};
use crate::lease::LeaseId;
use crate::revision::Revision;

/// The events of a [`Batch`](super::Batch), in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    pub(super) events: &'a [Event],
    pub(super) matching: Option<&'a [u32]>,
    pub(super) next: usize,
    pub(super) view: View,
}

impl<'a> Iterator for Iter<'a> {
    type Item = EventRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EventRef<'a>> {
        loop {
            let event = match self.matching {
                Some(matching) => &self.events[*matching.get(self.next)? as usize],
                None => self.events.get(self.next)?,
            };
            self.next += 1;
            if self.view.shows(event.kind) {
                return Some(EventRef {
                    event,
                    view: self.view,
                });
            }
        }
    }
}

/// An event as a watch sees it: without what it did not ask for.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    event: &'a Event,
    view: View,
}

/// The entry before an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prev<'a> {
    /// The watch did not ask for it.
    NotRequested,
    /// The key did not exist.
    Absent,
    /// This is it. A watch that asked for no values finds an empty one here.
    Entry(&'a KeyValue),
}

static EMPTY: Bytes = Bytes::new();

impl<'a> EventRef<'a> {
    /// What happened.
    pub fn kind(self) -> EventKind {
        self.event.kind
    }

    /// To which key.
    #[inline]
    pub fn key(self) -> &'a Bytes {
        &self.event.kv.key
    }

    /// The new value; empty for a deletion, or if the watch asked for no values.
    #[inline]
    pub fn value(self) -> &'a Bytes {
        if self.view.keys_only {
            &EMPTY
        } else {
            &self.event.kv.value
        }
    }

    /// When the key was created; zero for a deletion.
    pub fn create_revision(self) -> Revision {
        self.event.kv.create_revision
    }

    /// The revision of the write or deletion. In a snapshot: when the entry was last written.
    pub fn mod_revision(self) -> Revision {
        self.event.kv.mod_revision
    }

    /// How often the key was written since its creation; zero for a deletion.
    pub fn version(self) -> u64 {
        self.event.kv.version
    }

    /// The lease of the key.
    pub fn lease(self) -> Option<LeaseId> {
        self.event.kv.lease
    }

    /// The entry before the event.
    pub fn prev(self) -> Prev<'a> {
        match (&self.event.prev, self.view.prev_kv) {
            (_, false) => Prev::NotRequested,
            (None, true) => Prev::Absent,
            (Some(prev), true) => Prev::Entry(prev),
        }
    }

    /// A copy that owns itself, of what the watch asked for. Cheap: keys and values are shared.
    pub fn to_owned(self) -> Event {
        let strip = |kv: &KeyValue| KeyValue {
            value: if self.view.keys_only {
                Bytes::new()
            } else {
                kv.value.clone()
            },
            ..kv.clone()
        };
        Event {
            kind: self.event.kind,
            kv: strip(&self.event.kv),
            prev: self.event.prev.as_ref().filter(|_| self.view.prev_kv).map(strip),
        }
    }
}

impl fmt::Display for EventRef<'_> {
    /// `PUT /key = value` or `DELETE /key`, with bytes that are not text escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key().escape_ascii())?;
        if self.kind() == EventKind::Put && !self.view.keys_only {
            write!(f, " = {}", String::from_utf8_lossy(self.value()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&(*self).to_owned(), f)
    }
}
