//! What an embedded keyspace holds in memory, and the two steps of every change: it is evaluated,
//! and when it is durable it is published. In between it can be taken back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::apply::{self, Outcome};
use super::index::{Index, Totals};
use super::lease::{Lease, Leases};
use super::read::Readable;
use super::replay::{check_version, contradiction, replay_record};
use crate::error::{Cause, Error};
use crate::event::{Event, KeyValue, Record};
use crate::history::History;
use crate::journal::Entry;
use crate::lease::{LeaseGrant, LeaseId, LeaseInfo};
use crate::revision::Revision;
use crate::settings::HistoryWindow;
use crate::txn::Txn;

/// How many records are forgotten at a time while others wait for the lock.
const MAX_FORGOTTEN_AT_ONCE: usize = 1024;

/// The keyspace in memory.
///
/// Index and leases hold what was evaluated, `pending` how to take back what of that is not
/// published yet. Everybody who reads does so as of `committed`.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    leases: Leases,
    /// The last revision that is durable, and so visible.
    committed: Revision,
    /// The last revision that was evaluated.
    evaluated: Revision,
    /// The oldest revision that can be read.
    oldest: Revision,
    /// The totals at `committed`.
    totals: Totals,
    pending: Vec<Change>,
    /// What the history holds, kept here so that looking at it needs no other lock.
    kept: Kept,
    /// When a record was last added that does not say when it happened, if one was. All of these are at least so old.
    untimed: Option<SystemTime>,
    /// Nothing new is accepted.
    pub(super) closed: bool,
}

/// Something that was evaluated.
#[derive(Debug)]
enum Change {
    Record(Arc<Record>),
    Granted(LeaseGrant),
    /// The lease as it was when its keys had been detached.
    Ended(Lease),
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    records: u64,
    bytes: u64,
}

/// What evaluation needs from outside.
pub(super) struct Context<'a> {
    /// The wall clock, for the record.
    pub(super) time: SystemTime,
    /// The monotonic clock, read only if a lease is at stake.
    pub(super) now: &'a dyn Fn() -> Instant,
    /// The most bytes of keys and values.
    pub(super) quota: u64,
}

impl State {
    /// An empty keyspace.
    pub(super) fn empty() -> Self {
        Self {
            index: Index::default(),
            leases: Leases::default(),
            committed: Revision::INITIAL,
            evaluated: Revision::INITIAL,
            oldest: Revision::INITIAL,
            totals: Totals::default(),
            pending: Vec::new(),
            kept: Kept::default(),
            untimed: None,
            closed: false,
        }
    }

    /// A keyspace that was read back from a journal.
    pub(super) fn recovered(
        index: Index,
        leases: Leases,
        current: Revision,
        oldest: Revision,
        history: &History,
    ) -> Self {
        let totals = index.totals();
        let kept = Kept {
            records: history.len() as u64,
            bytes: history.bytes(),
        };
        Self {
            index,
            leases,
            committed: current,
            evaluated: current,
            oldest,
            totals,
            kept,
            ..Self::empty()
        }
    }

    /// The state that a listing shows.
    ///
    /// # Errors
    /// The listing cannot be one of this revision.
    pub(super) fn listed(
        revision: Revision,
        entries: impl IntoIterator<Item = KeyValue>,
    ) -> Result<Self, Cause> {
        let mut index = Index::default();
        for kv in entries {
            check_version(&kv)?;
            if kv.mod_revision > revision || index.restore(&kv).is_some() {
                return Err(contradiction(format!(
                    "{:?} is twice in a listing at revision {revision}, or was written after it, at {}",
                    kv.key.escape_ascii().to_string(),
                    kv.mod_revision,
                )));
            }
        }
        let totals = index.totals();
        Ok(Self {
            index,
            committed: revision,
            evaluated: revision,
            oldest: revision,
            totals,
            ..Self::empty()
        })
    }

    /// Adds what happened elsewhere, and makes it visible. For the age of the history, what does not say when it happened is `now`'s.
    ///
    /// # Errors
    /// It cannot follow what is here. Nothing of it is visible, but the state takes nothing more.
    pub(super) fn follow(&mut self, record: Record, now: SystemTime, history: &History) -> Result<(), Cause> {
        if record.time.is_none() {
            self.untimed = Some(now);
        }
        let revision = record.revision;
        if revision <= self.evaluated {
            return Err(contradiction(format!(
                "revision {revision} follows {}",
                self.evaluated
            )));
        }
        self.evaluated = revision;
        let record = Arc::new(replay_record(&mut self.index, record)?);
        self.pending.push(Change::Record(record));
        self.publish(history);
        Ok(())
    }

    /// Notes that nothing of what happened elsewhere up to `revision` is missing. Never goes back.
    pub(super) fn advance(&mut self, revision: Revision, history: &History) {
        if revision > self.committed {
            (self.committed, self.evaluated) = (revision, revision);
            history.advance(revision);
        }
    }

    /// Whether it was told of something that cannot have happened.
    pub(super) fn is_broken(&self) -> bool {
        self.pending.is_empty() && self.evaluated > self.committed
    }

    /// What can be read.
    pub(super) fn readable(&self) -> Readable {
        Readable {
            oldest: self.oldest,
            current: self.committed,
        }
    }

    /// The last durable revision.
    pub(super) fn committed(&self) -> Revision {
        self.committed
    }

    /// The last evaluated revision: the answer's, if all goes well.
    pub(super) fn evaluated(&self) -> Revision {
        self.evaluated
    }

    /// What there is at the last durable revision.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Evaluates a transaction.
    ///
    /// # Errors
    /// Those of [`apply::evaluate`]; then nothing has changed.
    pub(super) fn txn(&mut self, txn: &Txn, context: &Context<'_>) -> Result<Outcome, Error> {
        let readable = Readable {
            oldest: self.oldest,
            current: self.evaluated,
        };
        let Context { now, quota, .. } = *context;
        let mut outcome = apply::evaluate(&mut self.index, &mut self.leases, txn, readable, now, quota)?;
        self.record(std::mem::take(&mut outcome.events), context.time);
        Ok(outcome)
    }

    /// Evaluates the grant of a lease.
    ///
    /// # Errors
    /// Those of [`Leases::grant`].
    pub(super) fn grant(
        &mut self,
        id: Option<LeaseId>,
        ttl: Duration,
        now: Instant,
    ) -> Result<LeaseGrant, Error> {
        let grant = self.leases.grant(id, ttl, now)?;
        self.pending.push(Change::Granted(grant));
        Ok(grant)
    }

    /// Evaluates the end of a lease: its keys are deleted at one revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub(super) fn end_lease(&mut self, id: LeaseId, time: SystemTime) -> Result<(), Error> {
        if self.leases.get(id).is_none() {
            return Err(Error::LeaseNotFound { id });
        }
        let revision = self.evaluated.next();
        let events = apply::delete_attached(&mut self.index, &mut self.leases, id, revision);
        self.record(events, time);
        self.pending.extend(self.leases.remove(id).map(Change::Ended));
        Ok(())
    }

    fn record(&mut self, events: Vec<Event>, time: SystemTime) {
        if events.is_empty() {
            return;
        }
        self.evaluated = self.evaluated.next();
        self.pending.push(Change::Record(Arc::new(Record {
            revision: self.evaluated,
            time: Some(time),
            events: events.into_boxed_slice(),
        })));
    }

    /// What a journal must remember before [`publish`](Self::publish).
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |change: &Change| match change {
            Change::Record(record) => Entry::Record(record.clone()),
            Change::Granted(grant) => Entry::LeaseGranted(*grant),
            Change::Ended(lease) => Entry::LeaseEnded(lease.grant.id),
        };
        self.pending.iter().map(entry).collect()
    }

    /// Makes all that was evaluated visible. The caller holds the lock on the state meanwhile, so
    /// that records reach the history in their order, and no reader sees one without the other.
    pub(super) fn publish(&mut self, history: &History) {
        self.committed = self.evaluated;
        self.totals = self.index.totals();
        let kept = &mut self.kept;
        let mut records = self
            .pending
            .drain(..)
            .filter_map(|change| match change {
                Change::Record(record) => {
                    kept.records += 1;
                    kept.bytes += record.size() as u64;
                    Some(record)
                }
                Change::Granted(_) | Change::Ended(_) => None,
            })
            .peekable();
        if records.peek().is_some() {
            history.append(records);
        }
    }

    /// Takes back all that was evaluated and not published.
    pub(super) fn undo(&mut self) {
        while let Some(change) = self.pending.pop() {
            match change {
                Change::Record(record) => {
                    apply::undo(&mut self.index, &mut self.leases, &record.events);
                }
                Change::Granted(grant) => drop(self.leases.remove(grant.id)),
                Change::Ended(lease) => self.leases.insert(lease),
            }
        }
        self.evaluated = self.committed;
        debug_assert_eq!(self.index.totals(), self.totals);
    }

    /// Gives a lease its full time to live, and returns that.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<Duration, Error> {
        let not_found = Error::LeaseNotFound { id };
        for change in &mut self.pending {
            match change {
                Change::Granted(grant) if grant.id == id => return Err(not_found),
                // Its end is not durable yet, and may still fail.
                Change::Ended(lease) if lease.grant.id == id => {
                    if lease.deadline <= now {
                        return Err(not_found);
                    }
                    lease.deadline = now + lease.grant.ttl;
                    return Ok(lease.grant.ttl);
                }
                _ => {}
            }
        }
        self.leases.keep_alive(id, now).ok_or(not_found)
    }

    /// What is known of a lease, as of what is durable.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub(super) fn lease_info(&self, id: LeaseId, now: Instant) -> Result<LeaseInfo, Error> {
        let mut lease = self.leases.get(id).cloned();
        // Takes back what is pending, as `undo` would, on a copy of this one lease.
        for change in self.pending.iter().rev() {
            match change {
                Change::Granted(grant) if grant.id == id => lease = None,
                Change::Ended(ended) if ended.grant.id == id => lease = Some(ended.clone()),
                Change::Record(record) => {
                    if let Some(lease) = &mut lease {
                        record
                            .events
                            .iter()
                            .rev()
                            .for_each(|event| take_back(lease, event));
                    }
                }
                _ => {}
            }
        }
        let lease = lease
            .filter(|lease| lease.deadline > now)
            .ok_or(Error::LeaseNotFound { id })?;
        Ok(LeaseInfo {
            id,
            granted: lease.grant.ttl,
            remaining: lease.deadline - now,
            keys: lease.keys.into_iter().collect(),
        })
    }

    /// The names of all leases, in order, as of what is durable.
    pub(super) fn lease_ids(&self) -> Vec<LeaseId> {
        let mut ids: Vec<_> = self.leases.ids().collect();
        for change in self.pending.iter().rev() {
            match change {
                Change::Granted(grant) => ids.retain(|&id| id != grant.id),
                Change::Ended(lease) => {
                    let at = ids.partition_point(|&id| id < lease.grant.id);
                    ids.insert(at, lease.grant.id);
                }
                Change::Record(_) => {}
            }
        }
        ids
    }

    /// How many leases there are, as of what is durable.
    pub(super) fn lease_count(&self) -> u64 {
        let ended = self
            .pending
            .iter()
            .filter(|change| matches!(change, Change::Ended(_)));
        let granted = self
            .pending
            .iter()
            .filter(|change| matches!(change, Change::Granted(_)));
        (self.leases.len() + ended.count() - granted.count()) as u64
    }

    /// When the next lease expires.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leases.next_deadline()
    }

    /// At most `max` leases that have expired.
    pub(super) fn expired(&self, now: Instant, max: usize) -> Vec<LeaseId> {
        self.leases.expired(now, max)
    }

    /// Checks the argument of a compaction, as etcd does.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub(super) fn check_compaction(&self, requested: Revision) -> Result<(), Error> {
        let Readable { oldest, current } = self.readable();
        if requested > current {
            return Err(Error::FutureRevision { requested, current });
        }
        // A keyspace that was never compacted can be read from its first revision on.
        let compacted = oldest > Revision::INITIAL && requested == oldest;
        if requested < oldest || compacted {
            return Err(Error::Compacted { requested, oldest });
        }
        Ok(())
    }

    /// Forgets some of what happened before `target`, and returns it, to be dropped without the lock.
    /// To be repeated until nothing is returned. The current revision stays, also where the original of a
    /// replica is ahead and has forgotten more.
    pub(super) fn compact(&mut self, target: Revision, history: &History) -> Vec<Arc<Record>> {
        let target = target.min(self.committed);
        let first = history.front().map_or(target, |record| record.revision);
        let oldest = target.min(Revision(first.0 + MAX_FORGOTTEN_AT_ONCE as u64));
        let forgotten = history.compact(oldest);
        self.oldest = self.oldest.max(oldest);
        for record in &forgotten {
            self.kept.records -= 1;
            self.kept.bytes -= record.size() as u64;
            for event in &record.events {
                self.index.prune(&event.kv.key, oldest);
            }
        }
        forgotten
    }

    /// Whether more is kept than the window allows, apart from age.
    pub(super) fn exceeds(&self, window: &HistoryWindow) -> bool {
        self.kept.bytes > window.max_bytes || window.max_revisions.is_some_and(|max| self.kept.records > max)
    }

    /// The oldest revision to keep, if some are to be forgotten. The current one always stays. Looks no
    /// further than just beyond `most`, because writers wait meanwhile.
    pub(super) fn compaction_target(
        &self,
        window: &HistoryWindow,
        now: SystemTime,
        history: &History,
        most: Revision,
    ) -> Option<Revision> {
        let surplus = self.exceeds(window).then(|| self.surplus(window, history, most));
        let aged = aged(window, now, self.untimed, history, most);
        let target = surplus.flatten().max(aged)?.min(self.committed);
        (target > self.oldest).then_some(target)
    }

    /// From where on the history fits its bounds, with a sixteenth to spare, so that a full window is
    /// not compacted at every write.
    fn surplus(&self, window: &HistoryWindow, history: &History, most: Revision) -> Option<Revision> {
        let max_records = window.max_revisions.unwrap_or(u64::MAX);
        let (records, bytes) = (
            max_records - max_records / 16,
            window.max_bytes - window.max_bytes / 16,
        );
        let mut kept = self.kept;
        forget_while(history, most, |record| {
            let forget = kept.records > records || kept.bytes > bytes;
            kept.records = kept.records.saturating_sub(1);
            kept.bytes = kept.bytes.saturating_sub(record.size() as u64);
            forget
        })
    }
}

fn take_back(lease: &mut Lease, event: &Event) {
    let id = lease.grant.id;
    if event.kv.lease == Some(id) {
        lease.keys.remove(&event.kv.key);
    }
    if event.prev.as_ref().is_some_and(|prev| prev.lease == Some(id)) {
        lease.keys.insert(event.kv.key.clone());
    }
}

/// From where on the records are young enough; those that do not say when they happened are taken for as young as the last of them.
fn aged(
    window: &HistoryWindow,
    now: SystemTime,
    untimed: Option<SystemTime>,
    history: &History,
    most: Revision,
) -> Option<Revision> {
    let limit = now.checked_sub(window.max_age)?;
    forget_while(history, most, |record| {
        record.time.or(untimed).is_some_and(|time| time < limit)
    })
}

/// The revision after the last of the oldest records that are to be forgotten, or one beyond `most`.
fn forget_while(
    history: &History,
    most: Revision,
    mut forget: impl FnMut(&Record) -> bool,
) -> Option<Revision> {
    let mut target = None;
    let mut after = history.oldest().prev();
    while let Ok(chunk) = history.read_after(after, MAX_FORGOTTEN_AT_ONCE) {
        for record in &chunk.records {
            if target > Some(most) || !forget(record) {
                return target;
            }
            target = Some(record.revision.next());
        }
        if chunk.records.is_empty() {
            break;
        }
        after = chunk.through;
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::KeyspaceId;

    #[test]
    fn the_search_for_what_is_to_be_forgotten_is_bounded() {
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        let record = |revision| Record {
            revision: Revision(revision),
            time: Some(SystemTime::UNIX_EPOCH),
            events: [].into(),
        };
        history.append((2..=5000).map(record).map(Arc::new));
        let (current, oldest) = (Revision(5000), Revision(1));
        let state = State::recovered(Index::default(), Leases::default(), current, oldest, &history);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        for (max_age, max_revisions) in [(Duration::from_secs(9), None), (Duration::MAX, Some(16))] {
            let window = HistoryWindow {
                max_revisions,
                max_age,
                ..HistoryWindow::default()
            };
            let target = |most| state.compaction_target(&window, now, &history, Revision(most));
            assert_eq!(
                target(100),
                Some(Revision(101)),
                "enough to know that there is more"
            );
            assert!(target(u64::MAX) > Some(Revision(4980)));
        }
    }
}
