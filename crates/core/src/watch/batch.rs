//! What a watch delivers.

use std::sync::Arc;
use std::time::SystemTime;

use super::event_ref::{EventRef, Iter};
use super::run::{Entry, Hold};
use crate::event::{Event, EventKind, KeyValue, Record};
use crate::revision::Revision;

/// One delivery of a watch: a revision's events, or a step of a snapshot, or a report of progress.
///
/// A batch of events holds all events of one revision that match, unless it is
/// [partial](Self::is_partial). Iterating yields them in transaction order.
///
/// It may share its events with the history and with the batches before and after it: one that is
/// kept for long keeps up to 256 of those alive.
#[derive(Clone, Debug)]
pub struct Batch {
    revision: Revision,
    body: Body,
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

/// Small, and with nothing in it but what tells its parts: batches are made and moved for every
/// delivery.
#[derive(Clone, Debug)]
enum Body {
    /// Events: the entry of this index in a run.
    Shared(Arc<Hold>, u32),
    /// Events, or entries of a snapshot, of this batch alone.
    Owned(Box<Owned>),
    /// No events.
    Mark(BatchKind),
}

#[derive(Clone, Debug)]
struct Owned {
    kind: BatchKind,
    partial: bool,
    time: Option<SystemTime>,
    events: Vec<Event>,
    view: View,
}

/// Which parts of its events a watch asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

    /// Whether some events are not shown at all.
    pub(super) fn filters(self) -> bool {
        self.no_put || self.no_delete
    }

    /// Whether previous entries are shown without values: they are handed out as they are held, so they
    /// have to be held that way.
    pub(super) fn strips(self) -> bool {
        self.keys_only && self.prev_kv
    }
}

impl Batch {
    /// The events of a record of these indices, ascending, as the history holds them; without
    /// indices, all of them.
    pub fn shared(record: Arc<Record>, matching: Option<Arc<[u32]>>, view: View) -> Self {
        Self::of(Hold::of_one(Entry::of(record, matching), view), 0)
    }

    /// The entry of this index in a run, as its holder views it.
    pub(super) fn of(hold: Arc<Hold>, at: u32) -> Self {
        let strips = hold.view().strips();
        let batch = Self::plain(hold, at);
        if strips { batch.stripped() } else { batch }
    }

    /// The entry of this index in a run, for a holder whose view does not [strip](View::strips).
    #[inline]
    pub(super) fn plain(hold: Arc<Hold>, at: u32) -> Self {
        Self {
            revision: hold.entry(at).revision,
            body: Body::Shared(hold, at),
        }
    }

    fn stripped(self) -> Self {
        let events = self.iter().map(EventRef::to_owned).collect();
        Self::events(self.revision, self.time(), events, self.view(), self.is_partial())
    }

    /// Events of one revision that are nobody else's. `partial` if more of the revision follow.
    pub fn events(
        revision: Revision,
        time: Option<SystemTime>,
        events: Vec<Event>,
        view: View,
        partial: bool,
    ) -> Self {
        let owned = Owned {
            kind: BatchKind::Events,
            partial,
            time,
            events,
            view,
        };
        Self {
            revision,
            body: Body::Owned(Box::new(owned)),
        }
    }

    /// The begin of a snapshot.
    pub fn snapshot_begin(revision: Revision) -> Self {
        Self::mark(BatchKind::SnapshotBegin, revision)
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
        let owned = Owned {
            kind: BatchKind::Snapshot,
            partial: false,
            time: None,
            events,
            view,
        };
        Self {
            revision,
            body: Body::Owned(Box::new(owned)),
        }
    }

    /// The end of a snapshot.
    pub fn snapshot_end(revision: Revision) -> Self {
        Self::mark(BatchKind::SnapshotEnd, revision)
    }

    /// A report of progress.
    pub fn progress(revision: Revision) -> Self {
        Self::mark(BatchKind::Progress, revision)
    }

    fn mark(kind: BatchKind, revision: Revision) -> Self {
        let body = Body::Mark(kind);
        Self { revision, body }
    }

    /// What it is.
    #[inline]
    pub fn kind(&self) -> BatchKind {
        match &self.body {
            Body::Shared(..) => BatchKind::Events,
            Body::Owned(owned) => owned.kind,
            Body::Mark(kind) => *kind,
        }
    }

    /// Its revision: that of the events, of the snapshot, or of the progress.
    #[inline]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether more events of the same revision follow in the next batch. One resumes at the start
    /// of the revision.
    pub fn is_partial(&self) -> bool {
        matches!(&self.body, Body::Owned(owned) if owned.partial)
    }

    /// When the revision was committed, if that is known.
    pub fn time(&self) -> Option<SystemTime> {
        match &self.body {
            Body::Shared(hold, at) => hold.entry(*at).record.time,
            Body::Owned(owned) => owned.time,
            Body::Mark(_) => None,
        }
    }

    /// Which parts of the events the watch asked for.
    #[inline]
    pub fn view(&self) -> View {
        match &self.body {
            Body::Shared(hold, _) => hold.view(),
            Body::Owned(owned) => owned.view,
            Body::Mark(_) => View::default(),
        }
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no event in it, as in all batches but [`BatchKind::Events`] and
    /// [`BatchKind::Snapshot`].
    pub fn is_empty(&self) -> bool {
        match &self.body {
            // An entry is there because something matched.
            Body::Shared(hold, _) if !hold.view().filters() => false,
            _ => self.iter().next().is_none(),
        }
    }

    /// The events, in transaction order; the entries of a snapshot, in the order of keys.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        let (events, matching, view): (&[Event], _, _) = match &self.body {
            Body::Shared(hold, at) => {
                let entry = hold.entry(*at);
                (&entry.record.events, entry.matching.as_deref(), hold.view())
            }
            Body::Owned(owned) => (&owned.events, None, owned.view),
            Body::Mark(_) => (&[], None, View::default()),
        };
        Iter {
            events,
            matching,
            next: 0,
            view,
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = EventRef<'a>;
    type IntoIter = Iter<'a>;

    #[inline]
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
