//! The promises of a watch, each as a function that finds where it was broken.
//!
//! Unit tests, property tests, simulations and live tests all judge by these, and so can you: record
//! what a watch delivers in an [`Observed`], and compare it with a [`Truth`].
//!
//! | promise | what it says | checked by |
//! |---|---|---|
//! | Ordered | events arrive in revision order | [`ordered`] |
//! | Unique | an event is delivered at most once | [`unique`] |
//! | Atomic | a revision is delivered whole, or in pieces that say so | [`atomic`] |
//! | Filtered | nothing is delivered that was not asked for | [`filtered`] |
//! | Bookmarkable | progress is never ahead of an event, nor behind the start | [`bookmarkable`] |
//! | Terminal | the end says what was delivered and where to resume | [`terminal`] |
//! | Reliable | nothing that matches is missing, in transaction order | [`reliable`] |
//! | `PrevKv` | the entry before is right, absent, or was not asked for | [`prev_kv`] |
//! | Resumable | a watch that goes on after another misses and repeats nothing | [`resumable`] |
//!
//! That a slow watcher costs others nothing (Isolated) is no property of one stream; benches and
//! tests of the registry show it. The first six need no truth and can be asked of any stream.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Event, EventKind, KeyValue, Record};
use crate::revision::{Position, Revision};
use crate::watch::{Batch, BatchKind, EndReason, Ended, Prev, Start, WatchRequest};

/// What a watch was asked for and what it said, in order.
#[derive(Clone, Debug)]
pub struct Observed {
    request: WatchRequest,
    created: Position,
    batches: Vec<Batch>,
    ended: Option<Ended>,
}

impl Observed {
    /// The record of a watch that has just been created.
    pub fn new(request: WatchRequest, created: Position) -> Self {
        Self {
            request,
            created,
            batches: Vec::new(),
            ended: None,
        }
    }

    /// Notes a batch.
    ///
    /// # Panics
    /// If the end was noted before: a watch says nothing after its end.
    pub fn see(&mut self, batch: Batch) {
        assert!(self.ended.is_none(), "a batch after the end: {batch:?}");
        self.batches.push(batch);
    }

    /// Notes the end.
    pub fn end(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    /// What was delivered.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// The batches since the last begin of a snapshot, which voids what came before.
    fn valid(&self) -> &[Batch] {
        let begin = self
            .batches
            .iter()
            .rposition(|batch| batch.kind() == BatchKind::SnapshotBegin);
        &self.batches[begin.unwrap_or(0)..]
    }

    fn events(&self) -> impl Iterator<Item = &Batch> {
        self.valid()
            .iter()
            .filter(|batch| batch.kind() == BatchKind::Events)
    }

    /// What comes after this is delivered as an event: the boundary, or the snapshot's revision.
    fn boundary(&self) -> Revision {
        match self.valid().first() {
            Some(begin) if begin.kind() == BatchKind::SnapshotBegin => begin.revision(),
            _ => self.created.revision,
        }
    }

    /// Everything up to this revision was delivered whole.
    fn horizon(&self) -> Revision {
        let whole = |batch: &&Batch| batch.kind() == BatchKind::Progress || !batch.is_partial();
        let tail = self
            .valid()
            .iter()
            .filter(|batch| batch.kind() != BatchKind::Snapshot);
        tail.filter(whole)
            .map(Batch::revision)
            .max()
            .unwrap_or(Revision(0))
            .max(self.boundary())
    }

    /// Whether a snapshot was asked for and has not been delivered to its end.
    fn awaits_snapshot(&self) -> bool {
        self.request.snapshot
            && !self
                .valid()
                .iter()
                .any(|batch| batch.kind() == BatchKind::SnapshotEnd)
    }

    fn matches(&self, event: &Event) -> bool {
        self.request.view.shows(event.kind)
            && self
                .request
                .ranges
                .iter()
                .any(|range| range.contains(&event.kv.key))
    }
}

/// What really happened: the whole history of a keyspace.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    records: Vec<Arc<Record>>,
}

impl Truth {
    /// The truth as these records tell it: all there ever were, in order.
    pub fn new(records: Vec<Arc<Record>>) -> Self {
        Self { records }
    }

    fn current(&self) -> Revision {
        self.records
            .last()
            .map_or(Revision::INITIAL, |record| record.revision)
    }

    /// The entries at a revision.
    fn state_at(&self, revision: Revision) -> BTreeMap<&Bytes, &KeyValue> {
        let mut state = BTreeMap::new();
        for event in self
            .records
            .iter()
            .take_while(|r| r.revision <= revision)
            .flat_map(|r| &r.events)
        {
            match event.kind {
                EventKind::Put => state.insert(&event.kv.key, &event.kv),
                EventKind::Delete => state.remove(&event.kv.key),
            };
        }
        state
    }
}

/// A broken promise, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: `Ordered`, `Unique`, ….
    pub promise: &'static str,
    /// What was seen instead.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.detail)
    }
}

impl std::error::Error for Violation {}

/// The outcome of a check.
pub type Verdict = Result<(), Violation>;

fn broken(promise: &'static str, detail: impl Into<String>) -> Verdict {
    Err(Violation {
        promise,
        detail: detail.into(),
    })
}

/// Checks what can be checked without knowing the truth.
///
/// # Errors
/// The first promise that was broken.
pub fn stream(observed: &Observed) -> Verdict {
    ordered(observed)?;
    unique(observed)?;
    atomic(observed)?;
    filtered(observed)?;
    bookmarkable(observed)?;
    terminal(observed)
}

/// Checks everything there is to check about one watch.
///
/// # Errors
/// The first promise that was broken.
pub fn all(observed: &Observed, truth: &Truth) -> Verdict {
    stream(observed)?;
    reliable(observed, truth)?;
    prev_kv(observed, truth)
}

/// Events arrive in revision order, each with its batch's revision.
pub fn ordered(observed: &Observed) -> Verdict {
    let mut last = observed.boundary();
    let mut goes_on = false;
    for batch in observed.events() {
        let revision = batch.revision();
        if revision < last || (revision == last && !goes_on) {
            return broken("Ordered", format!("revision {revision} after {last}"));
        }
        if let Some(event) = batch.iter().find(|event| event.mod_revision() != revision) {
            return broken("Ordered", format!("{event:?} in a batch of revision {revision}"));
        }
        (last, goes_on) = (revision, batch.is_partial());
    }
    Ok(())
}

/// No event is delivered twice, and no key twice in a snapshot.
pub fn unique(observed: &Observed) -> Verdict {
    let mut seen = HashSet::new();
    for batch in observed.valid() {
        for event in batch {
            let is_event = batch.kind() == BatchKind::Events;
            if !seen.insert((is_event, batch.revision(), event.key().clone())) {
                return broken("Unique", format!("{event:?} was delivered twice"));
            }
        }
    }
    Ok(())
}

/// The piece of a revision is followed by more of that revision, or by the end.
pub fn atomic(observed: &Observed) -> Verdict {
    for pair in observed.valid().windows(2) {
        let (piece, next) = (&pair[0], &pair[1]);
        if piece.is_partial() && (next.kind() != BatchKind::Events || next.revision() != piece.revision()) {
            let (next, revision) = (next.kind(), piece.revision());
            return broken("Atomic", format!("{next:?} in the middle of revision {revision}"));
        }
    }
    Ok(())
}

/// Nothing is delivered that was not asked for, and no batch of events is empty.
pub fn filtered(observed: &Observed) -> Verdict {
    let Observed { request, .. } = observed;
    for batch in observed.valid() {
        if batch.kind() == BatchKind::Events && batch.is_empty() {
            return broken(
                "Filtered",
                format!("an empty batch at revision {}", batch.revision()),
            );
        }
        for event in batch {
            let in_range = request.ranges.iter().any(|range| range.contains(event.key()));
            let shown = batch.kind() == BatchKind::Snapshot || request.view.shows(event.kind());
            let bare = !request.view.keys_only || event.value().is_empty();
            if !(in_range && shown && bare) {
                return broken("Filtered", format!("{event:?} was not asked for"));
            }
        }
    }
    Ok(())
}

/// Reports of progress only grow, none is below an event that was delivered before or below an explicit
/// start, and no event follows that they already covered.
pub fn bookmarkable(observed: &Observed) -> Verdict {
    let floor = match observed.request.start {
        Start::At(revision) => revision,
        Start::Now | Start::After(_) => observed.boundary(),
    };
    let (mut covered, mut delivered) = (Revision(0), Revision(0));
    for batch in observed.valid() {
        let revision = batch.revision();
        match batch.kind() {
            BatchKind::Progress if revision < floor.max(covered).max(delivered) => {
                let detail = format!(
                    "progress {revision} after progress {covered} and revision {delivered}, with a start of {floor}"
                );
                return broken("Bookmarkable", detail);
            }
            BatchKind::Progress => covered = revision,
            BatchKind::Events if revision <= covered => {
                return broken(
                    "Bookmarkable",
                    format!("revision {revision} after progress {covered}"),
                );
            }
            BatchKind::Events => delivered = revision,
            _ => {}
        }
    }
    Ok(())
}

/// The end tells the last revision that was delivered whole, and a place to resume from that neither
/// skips nor repeats.
pub fn terminal(observed: &Observed) -> Verdict {
    let Some(ended) = &observed.ended else {
        return Ok(());
    };
    let whole = observed
        .batches
        .iter()
        .filter(|batch| batch.kind() == BatchKind::Events && !batch.is_partial());
    let last = whole.map(Batch::revision).next_back();
    if ended.last_delivered != last {
        let said = ended.last_delivered;
        return broken(
            "Terminal",
            format!("it says {said:?} was delivered last, but it was {last:?}"),
        );
    }
    let Some(resume) = ended.resume else {
        return Ok(());
    };
    if observed.awaits_snapshot() {
        return broken("Terminal", "a place to resume from in the middle of a snapshot");
    }
    if matches!(
        ended.reason,
        EndReason::KeyspaceChanged { .. } | EndReason::Compacted { .. }
    ) {
        return broken(
            "Terminal",
            format!("a place to resume from although {}", ended.reason),
        );
    }
    if resume.keyspace != observed.created.keyspace || resume.revision < observed.horizon() {
        let horizon = observed.horizon();
        return broken(
            "Terminal",
            format!("it resumes from {resume}, but everything up to {horizon} was delivered"),
        );
    }
    Ok(())
}

/// Nothing that matches is missing up to what was delivered, reported as progress, or promised by the
/// end as a place to resume from; each revision is in transaction order. A snapshot is the state at
/// its revision.
pub fn reliable(observed: &Observed, truth: &Truth) -> Verdict {
    snapshot_is_the_state(observed, truth)?;
    if observed.awaits_snapshot() {
        return Ok(());
    }
    let promised = observed
        .ended
        .as_ref()
        .and_then(|ended| ended.resume)
        .map_or(Revision(0), |at| at.revision);
    let horizon = observed.horizon().max(promised);
    if horizon > truth.current() && horizon > observed.created.revision {
        return broken(
            "Bookmarkable",
            format!(
                "{horizon} is ahead of the history, which is at {}",
                truth.current()
            ),
        );
    }
    let keys_only = observed.request.view.keys_only;
    let show = |revision: Revision, kind: EventKind, kv: KeyValue| {
        let value = if keys_only { Bytes::new() } else { kv.value.clone() };
        (revision, kind, KeyValue { value, ..kv })
    };
    let happened = truth
        .records
        .iter()
        .filter(|r| r.revision > observed.boundary() && r.revision <= horizon);
    let mut expected = happened.flat_map(|record| {
        let matching = record.events.iter().filter(|event| observed.matches(event));
        matching.map(|event| show(record.revision, event.kind, event.kv.clone()))
    });
    let delivered = observed.events().filter(|batch| batch.revision() <= horizon);
    let mut delivered = delivered.flat_map(|batch| {
        batch
            .iter()
            .map(|event| show(batch.revision(), event.kind(), event.to_owned().kv))
    });
    loop {
        match (expected.next(), delivered.next()) {
            (None, None) => return Ok(()),
            (expected, delivered) if expected == delivered => {}
            (expected, delivered) => {
                return broken(
                    "Reliable",
                    format!("expected {expected:?}, but {delivered:?} was delivered"),
                );
            }
        }
    }
}

fn snapshot_is_the_state(observed: &Observed, truth: &Truth) -> Verdict {
    if !observed.request.snapshot || observed.awaits_snapshot() {
        return Ok(());
    }
    let state = truth.state_at(observed.boundary());
    let ranges = &observed.request.ranges;
    let expected: BTreeMap<_, _> = state
        .into_iter()
        .filter(|(key, _)| ranges.iter().any(|range| range.contains(key)))
        .collect();
    let items = observed
        .valid()
        .iter()
        .filter(|batch| batch.kind() == BatchKind::Snapshot);
    let delivered: BTreeMap<_, _> = items
        .flat_map(|batch| {
            batch
                .iter()
                .map(|event| (event.key().clone(), event.mod_revision()))
        })
        .collect();
    let same = expected.len() == delivered.len()
        && expected
            .iter()
            .all(|(key, kv)| delivered.get(*key) == Some(&kv.mod_revision));
    if same {
        return Ok(());
    }
    let revision = observed.boundary();
    broken(
        "Reliable",
        format!("the snapshot at {revision} is {delivered:?} instead of {expected:?}"),
    )
}

/// The entry before an event is the one that was there, is absent where there was none, and is not
/// there if it was not asked for.
pub fn prev_kv(observed: &Observed, truth: &Truth) -> Verdict {
    let view = observed.request.view;
    for batch in observed.events() {
        let record = truth
            .records
            .iter()
            .find(|record| record.revision == batch.revision());
        for event in batch {
            let happened = record.and_then(|record| record.events.iter().find(|e| e.kv.key == event.key()));
            let before = happened.and_then(|event| event.prev.as_ref());
            let right = match event.prev() {
                Prev::NotRequested => !view.prev_kv,
                Prev::Absent => view.prev_kv && before.is_none(),
                Prev::Entry(prev) => {
                    view.prev_kv && before.is_some_and(|before| view.keys_only || before == prev)
                }
            };
            if !right {
                return broken(
                    "PrevKv",
                    format!("{:?} before {event:?}, but it was {before:?}", event.prev()),
                );
            }
        }
    }
    Ok(())
}

/// A watch that goes on after another begins where that one ended.
pub fn resumable(earlier: &Observed, later: &Observed) -> Verdict {
    let Start::After(position) = later.request.start else {
        return broken("Resumable", "the later watch does not start after a position");
    };
    if later.created != position {
        return broken(
            "Resumable",
            format!("resumed after {position}, it began after {}", later.created),
        );
    }
    let (horizon, first) = (earlier.horizon(), later.events().next().map(Batch::revision));
    if first.is_some_and(|first| first <= horizon) {
        return broken(
            "Resumable",
            format!("{first:?} was delivered again, everything up to {horizon} had been"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::prefix;
    use crate::revision::KeyspaceId;
    use crate::watch::View;

    const CREATED: Position = Position {
        keyspace: KeyspaceId(1),
        revision: Revision(1),
    };

    fn put(revision: u64, key: &'static str, prev: Option<KeyValue>) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: revision.to_string().into(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Event::put(kv, prev)
    }

    fn truth() -> Truth {
        let first = put(2, "/a/x", None);
        let records = [
            vec![first.clone(), put(2, "/b", None)],
            vec![put(3, "/a/x", Some(first.kv)), put(3, "/a/y", None)],
            vec![put(4, "/a/z", None)],
        ];
        let record = |events: Vec<Event>| {
            Arc::new(Record {
                revision: events[0].kv.mod_revision,
                time: None,
                events: events.into(),
            })
        };
        Truth::new(records.into_iter().map(record).collect())
    }

    fn request() -> WatchRequest {
        let view = View {
            prev_kv: true,
            ..View::default()
        };
        WatchRequest {
            view,
            ..WatchRequest::new([prefix("/a/").expect("a prefix")])
        }
    }

    fn batch(at: usize, matching: &[u32]) -> Batch {
        Batch::shared(
            Arc::clone(&truth().records[at]),
            Some(matching.into()),
            request().view,
        )
    }

    fn observed(batches: Vec<Batch>) -> Observed {
        Observed {
            batches,
            ..Observed::new(request(), CREATED)
        }
    }

    #[test]
    fn what_is_right_passes() {
        let right = observed(vec![
            batch(0, &[0]),
            batch(1, &[0, 1]),
            Batch::progress(Revision(3)),
            batch(2, &[0]),
        ]);
        assert_eq!(all(&right, &truth()), Ok(()));
    }

    #[test]
    fn each_promise_is_missed_when_it_is_broken() {
        let partial = |at: usize| {
            let events = vec![truth().records[at].events[0].clone()];
            Batch::events(truth().records[at].revision, None, events, request().view, true)
        };
        let without_prev = Batch::shared(
            Arc::clone(&truth().records[1]),
            None,
            View {
                prev_kv: false,
                ..request().view
            },
        );
        let cases = [
            ("Ordered", vec![batch(1, &[0, 1]), batch(0, &[0])]),
            ("Ordered", vec![batch(0, &[0]), batch(0, &[0])]),
            ("Unique", vec![partial(0), partial(0)]),
            ("Atomic", vec![partial(1), batch(2, &[0])]),
            ("Filtered", vec![batch(0, &[0, 1])]),
            (
                "Bookmarkable",
                vec![Batch::progress(Revision(3)), batch(1, &[0, 1])],
            ),
            ("Bookmarkable", vec![Batch::progress(Revision(0))]),
            (
                "Bookmarkable",
                vec![batch(0, &[0]), batch(1, &[0, 1]), Batch::progress(Revision(2))],
            ),
            (
                "Bookmarkable",
                vec![
                    batch(0, &[0]),
                    batch(1, &[0, 1]),
                    batch(2, &[0]),
                    Batch::progress(Revision(9)),
                ],
            ),
            ("Reliable", vec![batch(1, &[0, 1])]),
            ("Reliable", vec![batch(0, &[0]), batch(1, &[0])]),
            ("Reliable", vec![batch(0, &[0]), batch(1, &[1, 0])]),
            ("Reliable", vec![Batch::progress(Revision(2))]),
            ("PrevKv", vec![batch(0, &[0]), without_prev]),
        ];
        for (promise, batches) in cases {
            let violation =
                all(&observed(batches.clone()), &truth()).expect_err(&format!("{promise}: {batches:?}"));
            assert_eq!(violation.promise, promise, "{violation}");
        }
    }

    #[test]
    fn an_end_must_know_what_was_delivered_and_where_to_resume() {
        let at = |revision| {
            Some(Position {
                revision: Revision(revision),
                ..CREATED
            })
        };
        let cases = [
            (Some(2), at(2), Ok(())),
            (None, at(2), Err("Terminal")),
            (Some(2), at(1), Err("Terminal")),
            (Some(2), at(3), Err("Reliable")),
            (Some(2), None, Ok(())),
        ];
        for (last, resume, expected) in cases {
            let mut observed = observed(vec![batch(0, &[0])]);
            observed.end(Ended {
                reason: EndReason::Overflow,
                last_delivered: last.map(Revision),
                resume,
            });
            let verdict = all(&observed, &truth()).map_err(|violation| violation.promise);
            assert_eq!(verdict, expected, "{last:?} {resume:?}");
        }
    }

    #[test]
    fn a_later_watch_must_begin_where_the_earlier_ended() {
        let earlier = observed(vec![batch(0, &[0])]);
        let later = |revision, batches| {
            let position = Position {
                revision: Revision(revision),
                ..CREATED
            };
            let request = WatchRequest {
                start: Start::After(position),
                ..request()
            };
            Observed {
                batches,
                ..Observed::new(request, position)
            }
        };
        assert_eq!(resumable(&earlier, &later(2, vec![batch(1, &[0, 1])])), Ok(()));
        assert!(
            resumable(&earlier, &later(1, vec![batch(0, &[0])])).is_err(),
            "a repetition"
        );
        assert!(all(&later(2, vec![batch(2, &[0])]), &truth()).is_err(), "a gap");
    }
}
