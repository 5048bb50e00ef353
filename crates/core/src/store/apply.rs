//! The evaluation of transactions. Nothing here waits or knows what is durable.

use std::time::Instant;

use super::index::Index;
use super::lease::Leases;
use super::read::{Readable, read};
use crate::error::Error;
use crate::event::{Event, KeyValue};
use crate::key::KeyRange;
use crate::lease::LeaseId;
use crate::revision::Revision;
use crate::txn::{Compare, CompareTarget, DeleteRequest, Op, OpResponse, PutRequest, Txn};

/// What a transaction came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Whether its compares held.
    pub(super) succeeded: bool,
    /// The answers to its operations.
    pub(super) responses: Vec<OpResponse>,
    /// What it changed, in order; all at the revision after the one it saw.
    pub(super) events: Vec<Event>,
}

/// Evaluates a transaction on top of all that the index holds, and leaves its changes there.
///
/// # Errors
/// [`Error::KeyNotFound`], [`Error::LeaseNotFound`], [`Error::Compacted`],
/// [`Error::FutureRevision`], [`Error::NoSpace`]; then everything is as it was.
pub(super) fn evaluate(
    index: &mut Index,
    leases: &mut Leases,
    txn: &Txn,
    readable: Readable,
    now: &dyn Fn() -> Instant,
    quota: u64,
) -> Result<Outcome, Error> {
    let used = index.totals().bytes;
    let succeeded = holds(index, &txn.compares, readable.current);
    let branch = branch(txn, succeeded);
    let nested = decide(index, branch, readable.current);
    let mut evaluation = Evaluation {
        index,
        leases,
        readable,
        revision: readable.current.next(),
        now,
        nested: nested.into_iter(),
        events: Vec::with_capacity(branch.len()),
    };
    let done = evaluation.branch(branch).and_then(|responses| {
        let grown = evaluation.index.totals().bytes;
        if grown > quota && grown > used {
            return Err(Error::NoSpace { used, quota });
        }
        Ok(responses)
    });
    let events = evaluation.events;
    match done {
        Ok(responses) => Ok(Outcome {
            succeeded,
            responses,
            events,
        }),
        Err(error) => {
            undo(index, leases, &events);
            Err(error)
        }
    }
}

/// Evaluates a transaction that only reads.
///
/// # Errors
/// [`Error::Compacted`], [`Error::FutureRevision`].
pub(super) fn evaluate_reads(
    index: &Index,
    txn: &Txn,
    readable: Readable,
) -> Result<(bool, Vec<OpResponse>), Error> {
    let succeeded = holds(index, &txn.compares, readable.current);
    let mut responses = Vec::new();
    for op in branch(txn, succeeded) {
        responses.push(match op {
            Op::Range(request) => {
                let revision = readable.choose(request.revision)?;
                OpResponse::Range(read(index, request, revision))
            }
            Op::Txn(txn) => {
                let (succeeded, responses) = evaluate_reads(index, txn, readable)?;
                OpResponse::Txn { succeeded, responses }
            }
            Op::Put(_) | Op::Delete(_) => unreachable!("the caller asked `Txn::is_read_only`"),
        });
    }
    Ok((succeeded, responses))
}

/// Deletes the keys attached to a lease, in order.
pub(super) fn delete_attached(
    index: &mut Index,
    leases: &mut Leases,
    id: LeaseId,
    revision: Revision,
) -> Vec<Event> {
    let keys = leases.get(id).map(|lease| lease.keys.clone()).unwrap_or_default();
    let delete = |key| {
        leases.reattach(key, Some(id), None);
        index.delete(revision, key)
    };
    keys.iter().filter_map(delete).collect()
}

/// Takes back what the events did, the last one first.
pub(super) fn undo(index: &mut Index, leases: &mut Leases, events: &[Event]) {
    for event in events.iter().rev() {
        let before = event.prev.as_ref().and_then(|prev| prev.lease);
        leases.reattach(&event.kv.key, event.kv.lease, before);
        index.undo(event);
    }
}

/// Which way each nested transaction goes, in the order in which they are met. As in etcd, all
/// compares see the keyspace as it was before the first operation.
fn decide(index: &Index, ops: &[Op], revision: Revision) -> Vec<bool> {
    let mut decisions = Vec::new();
    for op in ops {
        if let Op::Txn(txn) = op {
            let succeeded = holds(index, &txn.compares, revision);
            decisions.push(succeeded);
            decisions.extend(decide(index, branch(txn, succeeded), revision));
        }
    }
    decisions
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.then } else { &txn.otherwise }
}

fn holds(index: &Index, compares: &[Compare], revision: Revision) -> bool {
    compares
        .iter()
        .all(|compare| compare_holds(index, compare, revision))
}

fn compare_holds(index: &Index, compare: &Compare, revision: Revision) -> bool {
    if let Some(key) = compare.range.as_single() {
        return accepts(compare, index.get(key, revision).as_ref());
    }
    let mut entries = index.entries(&compare.range, None, revision).peekable();
    if entries.peek().is_none() {
        return accepts(compare, None);
    }
    entries.all(|kv| accepts(compare, Some(&kv)))
}

fn accepts(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => kv.map_or(0, |kv| kv.version).cmp(version),
        CompareTarget::Create(revision) => kv.map_or(Revision(0), |kv| kv.create_revision).cmp(revision),
        CompareTarget::Mod(revision) => kv.map_or(Revision(0), |kv| kv.mod_revision).cmp(revision),
        CompareTarget::Lease(lease) => kv.and_then(|kv| kv.lease).cmp(lease),
        CompareTarget::Value(value) => match kv {
            Some(kv) => kv.value.cmp(value),
            None => return false,
        },
    };
    compare.op.accepts(ordering)
}

struct Evaluation<'a> {
    index: &'a mut Index,
    leases: &'a mut Leases,
    readable: Readable,
    /// At which everything changes.
    revision: Revision,
    now: &'a dyn Fn() -> Instant,
    nested: std::vec::IntoIter<bool>,
    events: Vec<Event>,
}

impl Evaluation<'_> {
    fn branch(&mut self, ops: &[Op]) -> Result<Vec<OpResponse>, Error> {
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.delete(delete),
                Op::Range(request) => {
                    let revision = match request.revision {
                        Some(_) => self.readable.choose(request.revision)?,
                        None => self.revision,
                    };
                    OpResponse::Range(read(self.index, request, revision))
                }
                Op::Txn(txn) => {
                    let succeeded = self.nested.next().expect("each nested transaction was decided");
                    let responses = self.branch(branch(txn, succeeded))?;
                    OpResponse::Txn { succeeded, responses }
                }
            });
        }
        Ok(responses)
    }

    fn put(&mut self, put: &PutRequest) -> Result<OpResponse, Error> {
        let (mut value, mut lease) = (put.value.clone(), put.lease);
        if let Some(id) = lease
            && !self.leases.is_alive(id, (self.now)())
        {
            return Err(Error::LeaseNotFound { id });
        }
        if put.ignore_value || put.ignore_lease {
            let Some(kv) = self.index.get(&put.key, self.revision) else {
                return Err(Error::KeyNotFound { key: put.key.clone() });
            };
            value = if put.ignore_value { kv.value } else { value };
            lease = if put.ignore_lease { kv.lease } else { lease };
        }
        let event = self.index.put(self.revision, &put.key, value, lease);
        let before = event.prev.as_ref().and_then(|prev| prev.lease);
        self.leases.reattach(&event.kv.key, before, lease);
        let prev = if put.prev_kv { event.prev.clone() } else { None };
        self.events.push(event);
        Ok(OpResponse::Put { prev })
    }

    fn delete(&mut self, delete: &DeleteRequest) -> OpResponse {
        let mut deleted = 0;
        let mut prev = Vec::new();
        for key in self.live_keys(&delete.range) {
            let Some(event) = self.index.delete(self.revision, &key) else {
                continue;
            };
            if let Some(before) = &event.prev {
                self.leases.reattach(&key, before.lease, None);
                if delete.prev_kv {
                    prev.push(before.clone());
                }
            }
            deleted += 1;
            self.events.push(event);
        }
        OpResponse::Delete { deleted, prev }
    }

    fn live_keys(&self, range: &KeyRange) -> Vec<bytes::Bytes> {
        match range.as_single() {
            Some(key) => vec![key.clone()],
            None => self
                .index
                .scan(range, None, self.revision)
                .filter_map(|(key, version)| version.map(|_| key.clone()))
                .collect(),
        }
    }
}
