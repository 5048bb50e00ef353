//! A keyspace that is easy to get right: a copy of the whole map for each revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewatch_core::txn::{
    Compare, CompareTarget, DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, SortBy,
    Txn,
};
use tidewatch_core::{Error, Event, KeyRange, KeyValue, LeaseId, Record, Revision};

pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// Why something is refused, without the details.
pub(crate) type Refused = &'static str;

pub(crate) struct Map {
    /// The state at revision 1, 2, and so on.
    states: Vec<State>,
    /// The events of revision 2, 3, and so on.
    events: Vec<Vec<Event>>,
    pub(crate) oldest: Revision,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    /// In seconds.
    pub(crate) now: u64,
    quota: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Lease {
    secs: u64,
    deadline: u64,
}

/// What a transaction comes to.
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) responses: Vec<OpResponse>,
    pub(crate) events: Vec<Event>,
    state: State,
}

impl Map {
    pub(crate) fn new(quota: u64) -> Self {
        Self {
            states: vec![State::new()],
            events: Vec::new(),
            oldest: Revision::INITIAL,
            leases: BTreeMap::new(),
            now: 0,
            quota,
        }
    }

    pub(crate) fn current(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    pub(crate) fn at(&self, revision: Revision) -> &State {
        &self.states[usize::try_from(revision.0).unwrap() - 1]
    }

    pub(crate) fn used(&self) -> u64 {
        bytes(self.at(self.current()))
    }

    /// The events from the oldest revision on.
    pub(crate) fn records(&self) -> Vec<(Revision, Vec<Event>)> {
        let records = (2..).map(Revision).zip(self.events.iter().cloned());
        records.filter(|(revision, _)| *revision >= self.oldest).collect()
    }

    /// All there ever was, as records.
    pub(crate) fn truth(&self) -> Vec<Record> {
        let record = |(revision, events): (u64, &Vec<Event>)| Record {
            revision: Revision(revision),
            time: None,
            events: events.clone().into(),
        };
        (2..).zip(&self.events).map(record).collect()
    }

    pub(crate) fn evaluate(&self, txn: &Txn) -> Result<Outcome, Refused> {
        let before = self.at(self.current());
        let mut running = Running {
            map: self,
            before,
            state: before.clone(),
            events: Vec::new(),
        };
        let (succeeded, responses) = running.txn(txn)?;
        let Running { state, events, .. } = running;
        if bytes(&state) > self.quota && bytes(&state) > bytes(before) {
            return Err("no space");
        }
        Ok(Outcome {
            succeeded,
            responses,
            events,
            state,
        })
    }

    pub(crate) fn commit(&mut self, outcome: Outcome) -> Revision {
        if !outcome.events.is_empty() {
            self.states.push(outcome.state);
            self.events.push(outcome.events);
        }
        self.current()
    }

    pub(crate) fn read(&self, request: &RangeRequest) -> Result<RangeResponse, Refused> {
        let revision = self.readable(request.revision)?;
        Ok(read(self.at(revision), request))
    }

    fn readable(&self, revision: Option<Revision>) -> Result<Revision, Refused> {
        match revision {
            Some(revision) if revision > self.current() => Err("future"),
            Some(revision) if revision < self.oldest => Err("compacted"),
            Some(revision) => Ok(revision),
            None => Ok(self.current()),
        }
    }

    pub(crate) fn compact(&mut self, to: Revision) -> Result<(), Refused> {
        if to > self.current() {
            return Err("future");
        }
        if to < self.oldest || (to == self.oldest && to > Revision::INITIAL) {
            return Err("compacted");
        }
        self.oldest = to;
        Ok(())
    }

    pub(crate) fn grant(&mut self, id: LeaseId, secs: u64) {
        let deadline = self.now + secs;
        self.leases.insert(id, Lease { secs, deadline });
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId) -> Option<u64> {
        let now = self.now;
        let lease = self.leases.get_mut(&id).filter(|lease| lease.deadline > now)?;
        lease.deadline = now + lease.secs;
        Some(lease.secs)
    }

    pub(crate) fn lease_info(&self, id: LeaseId) -> Result<(u64, u64, Vec<Bytes>), Refused> {
        let lease = self.alive(id).ok_or("no lease")?;
        Ok((lease.secs, lease.deadline - self.now, self.attached(id)))
    }

    pub(crate) fn end_lease(&mut self, id: LeaseId) {
        self.leases.remove(&id);
        let (mut state, revision) = (self.at(self.current()).clone(), self.current().next());
        let attached = self.attached(id);
        let removed = attached.iter().filter_map(|key| state.remove(key));
        let events: Vec<_> = removed.map(|prev| Event::delete(revision, prev)).collect();
        self.commit(Outcome {
            succeeded: true,
            responses: Vec::new(),
            events,
            state,
        });
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.leases.values().any(|lease| lease.deadline <= self.now)
    }

    /// Ends what has expired, the earliest deadline first.
    pub(crate) fn expire(&mut self) {
        let expired =
            |(&id, lease): (&LeaseId, &Lease)| (lease.deadline <= self.now).then_some((lease.deadline, id));
        let mut due: Vec<_> = self.leases.iter().filter_map(expired).collect();
        due.sort_unstable();
        for (_, id) in due {
            self.end_lease(id);
        }
    }

    /// Leases have all of their time again.
    pub(crate) fn restart(&mut self) {
        for lease in self.leases.values_mut() {
            lease.deadline = self.now + lease.secs;
        }
    }

    fn alive(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id).filter(|lease| lease.deadline > self.now)
    }

    fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        let entries = self.at(self.current()).values();
        entries
            .filter(|kv| kv.lease == Some(id))
            .map(|kv| kv.key.clone())
            .collect()
    }
}

/// A transaction under way.
struct Running<'a> {
    map: &'a Map,
    before: &'a State,
    state: State,
    events: Vec<Event>,
}

impl Running<'_> {
    fn txn(&mut self, txn: &Txn) -> Result<(bool, Vec<OpResponse>), Refused> {
        let succeeded = txn.compares.iter().all(|compare| holds(self.before, compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op {
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.delete(delete),
                Op::Range(request) if request.revision.is_some() => {
                    OpResponse::Range(self.map.read(request)?)
                }
                Op::Range(request) => OpResponse::Range(read(&self.state, request)),
                Op::Txn(nested) => {
                    let (succeeded, responses) = self.txn(nested)?;
                    OpResponse::Txn { succeeded, responses }
                }
            });
        }
        Ok((succeeded, responses))
    }

    fn put(&mut self, put: &PutRequest) -> Result<OpResponse, Refused> {
        if put.lease.is_some_and(|id| self.map.alive(id).is_none()) {
            return Err("no lease");
        }
        let revision = self.map.current().next();
        let prev = self.state.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && prev.is_none() {
            return Err("no key");
        }
        let kept = |keep: bool| prev.as_ref().filter(|_| keep);
        let kv = KeyValue {
            key: put.key.clone(),
            value: kept(put.ignore_value)
                .map_or(&put.value, |prev| &prev.value)
                .clone(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: kept(put.ignore_lease).map_or(put.lease, |prev| prev.lease),
        };
        self.state.insert(put.key.clone(), kv.clone());
        self.events.push(Event::put(kv, prev.clone()));
        Ok(OpResponse::Put {
            prev: prev.filter(|_| put.prev_kv),
        })
    }

    fn delete(&mut self, delete: &DeleteRequest) -> OpResponse {
        let revision = self.map.current().next();
        let removed: Vec<_> = within(&self.state, &delete.range).cloned().collect();
        for kv in &removed {
            self.state.remove(&kv.key);
            self.events.push(Event::delete(revision, kv.clone()));
        }
        OpResponse::Delete {
            deleted: removed.len() as u64,
            prev: if delete.prev_kv { removed } else { Vec::new() },
        }
    }
}

fn bytes(state: &State) -> u64 {
    let sizes = state.values().map(|kv| kv.key.len() + kv.value.len());
    sizes.sum::<usize>() as u64
}

fn within<'a>(state: &'a State, range: &'a KeyRange) -> impl Iterator<Item = &'a KeyValue> {
    state.values().filter(|kv| range.contains(&kv.key))
}

fn read(state: &State, request: &RangeRequest) -> RangeResponse {
    let count = within(state, &request.range).count() as u64;
    if request.count_only {
        return RangeResponse {
            kvs: Vec::new(),
            more: false,
            count,
        };
    }
    let mut kvs: Vec<_> = within(state, &request.range).cloned().collect();
    kvs.retain(|kv| {
        let (created, modified) = (kv.create_revision, kv.mod_revision);
        request.min_mod_revision.is_none_or(|min| min <= modified)
            && request.max_mod_revision.is_none_or(|max| max >= modified)
            && request.min_create_revision.is_none_or(|min| min <= created)
            && request.max_create_revision.is_none_or(|max| max >= created)
    });
    if let Some(sort) = request.sort {
        kvs.sort_by(|a, b| {
            let by = match sort.by {
                SortBy::Key => a.key.cmp(&b.key),
                SortBy::Version => a.version.cmp(&b.version),
                SortBy::Create => a.create_revision.cmp(&b.create_revision),
                SortBy::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortBy::Value => a.value.cmp(&b.value),
            };
            let by = if sort.descending { by.reverse() } else { by };
            by.then_with(|| a.key.cmp(&b.key))
        });
    }
    let limit = request.limit.unwrap_or(usize::MAX);
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    RangeResponse { kvs, more, count }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let absent = KeyValue {
        key: Bytes::new(),
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: Revision(0),
        version: 0,
        lease: None,
    };
    let mut found: Vec<_> = within(state, &compare.range).collect();
    if found.is_empty() {
        if matches!(compare.target, CompareTarget::Value(_)) {
            return false;
        }
        found.push(&absent);
    }
    found.into_iter().all(|kv| {
        let ordering = match &compare.target {
            CompareTarget::Version(version) => kv.version.cmp(version),
            CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
            CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
            CompareTarget::Value(value) => kv.value.cmp(value),
            CompareTarget::Lease(lease) => kv.lease.cmp(lease),
        };
        compare.op.accepts(ordering)
    })
}

/// What an error is called here.
pub(crate) fn kind(error: &Error) -> Refused {
    match error {
        Error::KeyNotFound { .. } => "no key",
        Error::LeaseNotFound { .. } => "no lease",
        Error::LeaseExists { .. } => "exists",
        Error::Compacted { .. } => "compacted",
        Error::FutureRevision { .. } => "future",
        Error::NoSpace { .. } => "no space",
        Error::Journal(_) => "journal",
        Error::DuplicateKey { .. } => "duplicate",
        _ => "something else",
    }
}
