//! Consecutive entries of a topic, prepared once for all who read them.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, View};
use crate::event::Record;
use crate::revision::Revision;

/// Most entries in a run: what a reader has to work on between two looks at the ring.
pub(super) const MAX_RUN: usize = 256;

/// Most bytes of records in a run (256 KiB), so that what is encoded at once fits a message. A record
/// larger than this is a run of its own.
pub(super) const MAX_RUN_BYTES: usize = 1 << 18;

/// The part of a record that some watchers have selected. Cheap to clone: nothing is copied.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The record's, here because it is looked at more often than the rest.
    pub(super) revision: Revision,
    pub(super) record: Arc<Record>,
    /// The indices of the selected events; none: all of them.
    pub(super) matching: Option<Arc<[u32]>>,
}

impl Entry {
    pub(super) fn new(record: &Arc<Record>, matching: &[u32]) -> Option<Self> {
        if matching.is_empty() {
            return None;
        }
        let matching = (matching.len() < record.events.len()).then(|| matching.into());
        Some(Self::of(Arc::clone(record), matching))
    }

    pub(super) fn of(record: Arc<Record>, matching: Option<Arc<[u32]>>) -> Self {
        Self {
            revision: record.revision,
            record,
            matching,
        }
    }
}

/// Entries in the order of their revisions; at least one. What is made of them for some wire is kept
/// with them.
pub(super) struct Run {
    entries: Vec<Entry>,
    bytes: usize,
    /// One for each wire form and view that somebody reads. The lock is held while encoding: who
    /// comes at the same time wants the same bytes.
    encoded: Mutex<Vec<(TypeId, View, AnyEncoded)>>,
}

/// The [`WireForm::Encoded`] of some form.
type AnyEncoded = Arc<dyn Any + Send + Sync>;

impl Run {
    fn new(entries: Vec<Entry>, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            entries,
            bytes,
            encoded: Mutex::default(),
        })
    }

    /// The number of entries, which is at most [`MAX_RUN`].
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn last(&self) -> Revision {
        self.entries
            .last()
            .map_or(Revision::default(), |entry| entry.revision)
    }

    /// The index of the first entry after a revision.
    #[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
    pub(super) fn first_after(&self, after: Revision) -> u32 {
        self.entries.partition_point(|entry| entry.revision <= after) as u32
    }

    fn encoded<F: WireForm>(&self, view: View, encode: impl FnOnce() -> F::Encoded) -> Arc<F::Encoded> {
        let mut forms = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let form = TypeId::of::<F>();
        let found = forms
            .iter()
            .find(|(of, for_view, _)| (*of, *for_view) == (form, view));
        if let Some(Ok(encoded)) = found.map(|(_, _, encoded)| Arc::clone(encoded).downcast()) {
            return encoded;
        }
        let encoded = Arc::new(encode());
        forms.push((form, view, Arc::clone(&encoded) as _));
        encoded
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A run that is still being added to.
#[derive(Debug, Default)]
pub(super) struct OpenRun {
    entries: Vec<Entry>,
    bytes: usize,
}

impl OpenRun {
    /// Whether another entry of `bytes` belongs to the next run.
    pub(super) fn is_full_for(&self, bytes: usize, most: usize) -> bool {
        !self.entries.is_empty() && (self.entries.len() >= most || self.bytes + bytes > MAX_RUN_BYTES)
    }

    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        self.entries.push(entry);
        self.bytes += bytes;
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was added so far, if anything; the next run begins.
    pub(super) fn seal(&mut self) -> Option<Arc<Hold>> {
        if self.entries.is_empty() {
            return None;
        }
        let entries = std::mem::take(&mut self.entries);
        let bytes = std::mem::take(&mut self.bytes);
        Some(Hold::new(Run::new(entries, bytes), View::default()))
    }
}

/// What a watch delivers at a time, to those who send it on.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A single batch.
    Batch(Batch),
    /// Batches of events.
    Batches(Batches),
}

impl From<Batch> for Delivery {
    fn from(batch: Batch) -> Self {
        Self::Batch(batch)
    }
}

/// Batches of events that were prepared together: consecutive ones of a watch. What is made of them
/// for a [wire](WireForm) is made once for all watchers of the same keys and [`View`].
///
/// They keep each other alive: at most 256 and, unless it is a single one, 256 KiB of records.
#[derive(Clone, Debug)]
pub struct Batches {
    hold: Arc<Hold>,
    /// The first entry that is meant.
    from: u32,
    /// Whether the view shows every event, as it is held.
    plain: bool,
}

impl Batches {
    /// What is in a run from this index on, for one reader.
    pub(super) fn new(hold: Arc<Hold>, from: u32, view: View) -> Self {
        let is_single = from + 1 == hold.run.len();
        let hold = if is_single && view == hold.view {
            hold
        } else {
            Hold::new(Arc::clone(&hold.run), view)
        };
        let plain = !view.filters() && !view.strips();
        Self { hold, from, plain }
    }

    /// How many there are, with those of which the view shows nothing.
    pub(super) fn len(&self) -> u32 {
        self.hold.run.len() - self.from
    }

    /// Takes the first out if it is shown as it is held, and there is another one.
    #[inline]
    pub(super) fn pop_plain(&mut self) -> Option<Batch> {
        let at = self.from;
        if !self.plain || at + 1 >= self.hold.run.len() {
            return None;
        }
        self.from = at + 1;
        Some(Batch::plain(Arc::clone(&self.hold), at))
    }

    /// The first, whatever the view shows of it, and the others, if there are any.
    pub(super) fn split_first(self) -> (Batch, Option<Self>) {
        let Self { hold, from, plain } = self;
        if from + 1 == hold.run.len() {
            return (Batch::of(hold, from), None);
        }
        let batch = Batch::of(Arc::clone(&hold), from);
        let from = from + 1;
        (batch, Some(Self { hold, from, plain }))
    }

    /// Which parts of the events the watch asked for.
    pub fn view(&self) -> View {
        self.hold.view
    }

    /// The revision of the last one.
    pub fn revision(&self) -> Revision {
        self.hold.run.last()
    }

    /// The revision of the last one of which the view shows something.
    pub(super) fn last_shown(&self) -> Option<Revision> {
        if self.plain {
            return Some(self.revision());
        }
        self.iter().next_back().map(|batch| batch.revision())
    }

    /// The batches, in order; without those of which the view shows nothing.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Batch> {
        (self.from..self.hold.run.len())
            .map(|at| Batch::of(Arc::clone(&self.hold), at))
            .filter(|batch| !batch.is_empty())
    }

    /// All of them in a wire form. The first who asks encodes, the others get the same.
    pub fn encoded<F: WireForm>(&self) -> Arc<F::Encoded> {
        if self.from > 0 {
            // Only who begins in the middle of a run wants this.
            return Arc::new(F::encode(self));
        }
        self.hold.run.encoded::<F>(self.view(), || F::encode(self))
    }
}

/// A hold on a run, with a view of it.
///
/// A reader makes one of its own and has the batches it hands out share that instead of the run: so
/// readers on different threads do not fight over one reference count with every delivery, which costs
/// more than the rest of it. Where there is but one batch to hand out, the one that comes with the run
/// will do.
#[derive(Debug)]
pub(super) struct Hold {
    run: Arc<Run>,
    view: View,
}

impl Hold {
    fn new(run: Arc<Run>, view: View) -> Arc<Self> {
        Arc::new(Self { run, view })
    }

    /// A hold on a run of one entry.
    pub(super) fn of_one(entry: Entry, view: View) -> Arc<Self> {
        let bytes = entry.record.size();
        Self::new(Run::new(vec![entry], bytes), view)
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    #[inline]
    pub(super) fn view(&self) -> View {
        self.view
    }

    #[inline]
    pub(super) fn entry(&self, at: u32) -> &Entry {
        &self.run.entries[at as usize]
    }
}

/// How events look on some wire. `core` knows no wire format, but it keeps what one makes beside the
/// events, so that a thousand streams of one shape send the same bytes.
pub trait WireForm: 'static {
    /// What is kept: usually bytes.
    type Encoded: Send + Sync + 'static;

    /// Encodes batches. What comes out must depend on them and their [view](Batches::view) alone, not
    /// on the watch they are for.
    fn encode(batches: &Batches) -> Self::Encoded;
}
