//! One watcher's story: what it was told, over all the watches that went on from one another.

use tidewatch_core::check::Observed;
use tidewatch_core::watch::{EventRef, Start, WatchRequest};
use tidewatch_core::{Batch, BatchKind, Ended, Event, KeyValue, Position, Record, Revision};

use super::truth::{Truth, within};

/// What a watcher was told since it last began anew. Through deaths and restarts of either side it has to be what
/// happened, without a gap and without a repetition.
#[derive(Debug)]
pub(crate) struct Tale {
    pub(crate) request: WatchRequest,
    /// From where on the last of its watches was to deliver.
    pub(crate) start: Start,
    /// The last of its watches is one of the relay.
    pub(crate) relayed: bool,
    /// Each watch on its own, for the checker.
    pub(crate) watches: Vec<Observed>,
    /// Where to go on.
    position: Option<Position>,
    /// What it was told happened after this.
    boundary: Revision,
    /// Everything up to here was told.
    through: Revision,
    told: Vec<(Revision, Event)>,
    snapshot: Option<Vec<Event>>,
    /// A watch is open.
    pub(crate) open: bool,
    /// It cannot go on.
    pub(crate) over: bool,
}

impl Tale {
    pub(crate) fn begin(request: WatchRequest, created: Position, position: Option<Position>) -> Self {
        Self {
            watches: vec![Observed::new(request.clone(), created)],
            start: request.start,
            relayed: false,
            request,
            position,
            boundary: created.revision,
            through: created.revision,
            told: Vec::new(),
            snapshot: None,
            open: true,
            over: false,
        }
    }

    /// The request that goes on from here.
    pub(crate) fn resuming(&self, position: Position) -> WatchRequest {
        WatchRequest {
            start: Start::After(position),
            snapshot: false,
            ..self.request.clone()
        }
    }

    /// Another watch goes on.
    ///
    /// # Errors
    /// Not from where this one is.
    pub(crate) fn go_on(&mut self, request: WatchRequest, created: Position) -> Result<(), String> {
        (self.start, self.relayed) = (request.start, false);
        self.watches.push(Observed::new(request, created));
        self.open = true;
        if created.revision == self.through {
            return Ok(());
        }
        Err(format!(
            "it goes on after {}, but everything up to {} was told",
            created.revision, self.through
        ))
    }

    /// Keeps the place to go on from, as a reader who saves it does: all before it counts as told.
    pub(crate) fn keep(&mut self, position: Option<Position>) {
        self.position = position;
        if let Some(position) = position {
            self.through = self.through.max(position.revision);
        }
    }

    /// Where to go on.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(crate) fn through(&self) -> Revision {
        self.through
    }

    /// Whether the watch that is open has said nothing yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.watches.last().is_none_or(|watch| watch.batches().is_empty())
    }

    /// Takes in a batch. Returns how many entries a snapshot has that is complete with it.
    ///
    /// # Errors
    /// It is not what happened.
    pub(crate) fn hear(&mut self, batch: &Batch, truth: &Truth) -> Result<Option<usize>, String> {
        let revision = batch.revision();
        if let Some(watch) = self.watches.last_mut() {
            watch.see(batch.clone());
        }
        if revision > truth.revision() {
            return Err(format!(
                "{:?} {revision} is shown before it is durable",
                batch.kind()
            ));
        }
        let events = batch.iter().map(EventRef::to_owned);
        match (batch.kind(), &mut self.snapshot) {
            (BatchKind::SnapshotBegin, snapshot) => {
                *snapshot = Some(Vec::new());
                self.told.clear();
                (self.boundary, self.through) = (revision, revision);
            }
            (BatchKind::Snapshot, Some(snapshot)) => snapshot.extend(events),
            (BatchKind::SnapshotEnd, Some(_)) => return self.end_snapshot(revision, truth).map(Some),
            (BatchKind::Events, None) => {
                self.told.extend(events.map(|event| (revision, event)));
                self.through = revision;
            }
            (BatchKind::Progress, None) => self.through = self.through.max(revision),
            (kind, snapshot) => {
                let within = if snapshot.is_some() {
                    "within"
                } else {
                    "outside of"
                };
                return Err(format!("{kind:?} {within} a snapshot"));
            }
        }
        Ok(None)
    }

    fn end_snapshot(&mut self, revision: Revision, truth: &Truth) -> Result<usize, String> {
        let mut shown: Vec<_> = self.snapshot.take().unwrap_or_default();
        shown.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
        let state = within(truth.state(revision), &self.request.ranges);
        let wanted: Vec<_> = state.map(|kv| Event::put(self.bare(kv.clone()), None)).collect();
        if shown != wanted {
            return Err(format!(
                "the snapshot of {revision} is {shown:?} instead of {wanted:?}"
            ));
        }
        Ok(shown.len())
    }

    /// Takes in an end.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.open = false;
        self.position = ended.resume;
        match ended.resume {
            Some(resume) => self.through = self.through.max(resume.revision),
            None => self.over = true,
        }
        if let Some(watch) = self.watches.last_mut() {
            watch.end(ended);
        }
    }

    /// Compares what was told with what happened up to where it says it is.
    ///
    /// # Errors
    /// They differ.
    pub(crate) fn verdict(&self, truth: &Truth) -> Result<(), String> {
        self.verdict_at(truth, self.through)
    }

    /// Compares what was told with what happened up to `through`.
    ///
    /// # Errors
    /// They differ.
    pub(crate) fn verdict_at(&self, truth: &Truth, through: Revision) -> Result<(), String> {
        if self.snapshot.is_some() {
            return Ok(());
        }
        let happened = truth.after(self.boundary).iter();
        let happened = happened.take_while(|record| record.revision <= through);
        let mut wanted = happened.flat_map(|record| self.seen_of(record));
        let mut told = self.told.iter().cloned();
        loop {
            match (wanted.next(), told.next()) {
                (None, None) => return Ok(()),
                (wanted, told) if wanted == told => {}
                (wanted, told) => {
                    let (from, boundary) = (&self.request.ranges, self.boundary);
                    return Err(format!(
                        "over all its watches of {from:?} after {boundary} up to {through} it was told {told:?} instead of {wanted:?}"
                    ));
                }
            }
        }
    }

    /// How many revisions of those after `revision` concern it, counted up to one more than `most`.
    pub(crate) fn ahead(&self, revision: Revision, truth: &Truth, most: usize) -> usize {
        let concerns = |record: &&std::sync::Arc<Record>| record.events.iter().any(|event| self.shows(event));
        truth
            .after(revision)
            .iter()
            .filter(concerns)
            .take(most + 1)
            .count()
    }

    fn seen_of(&self, record: &Record) -> Vec<(Revision, Event)> {
        let shown = record.events.iter().filter(|event| self.shows(event));
        let bare = |event: &Event| Event {
            kind: event.kind,
            kv: self.bare(event.kv.clone()),
            prev: event
                .prev
                .clone()
                .filter(|_| self.request.view.prev_kv)
                .map(|prev| self.bare(prev)),
        };
        shown.map(|event| (record.revision, bare(event))).collect()
    }

    fn shows(&self, event: &Event) -> bool {
        self.request.view.shows(event.kind)
            && self
                .request
                .ranges
                .iter()
                .any(|range| range.contains(&event.kv.key))
    }

    fn bare(&self, mut kv: KeyValue) -> KeyValue {
        if self.request.view.keys_only {
            kv.value.clear();
        }
        kv
    }
}
