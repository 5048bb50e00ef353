//! What a watch delivers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::event::{Event, EventKind, KeyValue, Record};
use crate::lease::LeaseId;
use crate::revision::Revision;

/// One delivery of a watch: a revision's events, or a step of a snapshot, or a report of progress.
///
/// A batch of events holds all events of one revision that match, unless it is
/// [partial](Self::is_partial). Iterating yields them in transaction order.
#[derive(Clone, Debug)]
pub struct Batch {
    kind: BatchKind,
    revision: Revision,
    partial: bool,
    time: Option<SystemTime>,
    events: Events,
    view: View,
}

/// What a [`Batch`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchKind {
    /// A snapshot as of the batch's revision begins. What was delivered before is void.
    SnapshotBegin,
    /// Entries of the snapshot, as writes.
    Snapshot,
    /// The snapshot is complete; what follows happened after the batch's revision.
    SnapshotEnd,
    /// Events of one revision.
    Events,
    /// No event: every one up to the batch's revision was delivered before.
    Progress,
}

/// The events of a batch, as the source holds them.
#[derive(Clone, Debug)]
pub enum Events {
    /// Some events of a record that is shared with the history and other watchers.
    Shared {
        /// The record.
        record: Arc<Record>,
        /// The indices of its events that match, ascending; none: all of them.
        matching: Option<Arc<[u32]>>,
    },
    /// Events of this batch alone.
    Owned(Vec<Event>),
}

/// Which parts of its events a watch asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The entry before each event.
    pub prev_kv: bool,
    /// No values.
    pub keys_only: bool,
    /// No writes.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
}

impl View {
    /// Whether events of this kind were asked for.
    pub fn shows(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }
}

impl Batch {
    /// Events of a record, as the history holds them.
    pub fn shared(record: Arc<Record>, matching: Option<Arc<[u32]>>, view: View) -> Self {
        let (revision, time) = (record.revision, record.time);
        let batch = Self {
            kind: BatchKind::Events,
            revision,
            partial: false,
            time,
            events: Events::Shared { record, matching },
            view,
        };
        if view.keys_only && view.prev_kv {
            // Previous entries are handed out as they are held, so these are held without values.
            let events = batch.iter().map(EventRef::to_owned).collect();
            return Self::events(revision, time, events, view, false);
        }
        batch
    }

    /// Events of one revision that are nobody else's. `partial` if more of the revision follow.
    pub fn events(
        revision: Revision,
        time: Option<SystemTime>,
        events: Vec<Event>,
        view: View,
        partial: bool,
    ) -> Self {
        Self {
            kind: BatchKind::Events,
            revision,
            partial,
            time,
            events: Events::Owned(events),
            view,
        }
    }

    /// The begin of a snapshot.
    pub fn snapshot_begin(revision: Revision) -> Self {
        Self::empty(BatchKind::SnapshotBegin, revision)
    }

    /// Entries of a snapshot.
    pub fn snapshot(revision: Revision, kvs: Vec<KeyValue>, view: View) -> Self {
        let events = kvs.into_iter().map(|kv| Event::put(kv, None)).collect();
        // A snapshot shows what is there, whatever kind of change brought it about, and there is no
        // "before" to it.
        let view = View {
            keys_only: view.keys_only,
            ..View::default()
        };
        Self {
            events: Events::Owned(events),
            view,
            ..Self::empty(BatchKind::Snapshot, revision)
        }
    }

    /// The end of a snapshot.
    pub fn snapshot_end(revision: Revision) -> Self {
        Self::empty(BatchKind::SnapshotEnd, revision)
    }

    /// A report of progress.
    pub fn progress(revision: Revision) -> Self {
        Self::empty(BatchKind::Progress, revision)
    }

    fn empty(kind: BatchKind, revision: Revision) -> Self {
        Self {
            kind,
            revision,
            partial: false,
            time: None,
            events: Events::Owned(Vec::new()),
            view: View::default(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> BatchKind {
        self.kind
    }

    /// Its revision: that of the events, of the snapshot, or of the progress.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether more events of the same revision follow in the next batch. One resumes at the start
    /// of the revision.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// When the revision was committed, if that is known.
    pub fn time(&self) -> Option<SystemTime> {
        self.time
    }

    /// Which parts of the events the watch asked for.
    pub fn view(&self) -> View {
        self.view
    }

    /// The events as they are held, before the [view](Self::view) is applied: for wire forms that
    /// are made once for many watchers.
    pub fn raw_events(&self) -> &Events {
        &self.events
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no event in it, as in all batches but [`BatchKind::Events`] and
    /// [`BatchKind::Snapshot`].
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The events, in transaction order; the entries of a snapshot, in the order of keys.
    pub fn iter(&self) -> Iter<'_> {
        let (events, matching): (&[Event], _) = match &self.events {
            Events::Shared { record, matching } => (&record.events, matching.as_deref()),
            Events::Owned(events) => (events, None),
        };
        Iter {
            events,
            matching,
            next: 0,
            view: self.view,
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = EventRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of a [`Batch`], in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    events: &'a [Event],
    matching: Option<&'a [u32]>,
    next: usize,
    view: View,
}

impl<'a> Iterator for Iter<'a> {
    type Item = EventRef<'a>;

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
    pub fn key(self) -> &'a Bytes {
        &self.event.kv.key
    }

    /// The new value; empty for a deletion, or if the watch asked for no values.
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
