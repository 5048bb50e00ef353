//! What a transaction comes to, worked out on a copy of the state.

use std::slice;

use bytes::Bytes;
use tidewatch_core::txn::{
    Compare, CompareTarget, DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, Txn,
};
use tidewatch_core::{Event, KeyValue, Revision};

use super::truth::{State, within};

/// What a transaction comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) responses: Vec<OpResponse>,
    pub(crate) events: Vec<Event>,
}

/// Carries out a transaction on top of `before`, at `revision`.
pub(crate) fn evaluate(before: &State, revision: Revision, txn: &Txn) -> Outcome {
    let mut run = Run {
        before,
        state: before.clone(),
        revision,
        events: Vec::new(),
    };
    let (succeeded, responses) = run.txn(txn);
    Outcome {
        succeeded,
        responses,
        events: run.events,
    }
}

struct Run<'a> {
    before: &'a State,
    state: State,
    revision: Revision,
    events: Vec<Event>,
}

impl Run<'_> {
    fn txn(&mut self, txn: &Txn) -> (bool, Vec<OpResponse>) {
        let succeeded = txn.compares.iter().all(|compare| holds(self.before, compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let responses = ops.iter().map(|op| match op {
            Op::Put(put) => self.put(put),
            Op::Delete(delete) => self.delete(delete),
            Op::Range(request) => OpResponse::Range(read(&self.state, request)),
            Op::Txn(nested) => {
                let (succeeded, responses) = self.txn(nested);
                OpResponse::Txn { succeeded, responses }
            }
        });
        (succeeded, responses.collect())
    }

    fn put(&mut self, put: &PutRequest) -> OpResponse {
        let prev = self.state.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: prev.as_ref().map_or(self.revision, |prev| prev.create_revision),
            mod_revision: self.revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: put.lease,
        };
        self.state.insert(put.key.clone(), kv.clone());
        self.events.push(Event::put(kv, prev.clone()));
        OpResponse::Put {
            prev: prev.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRequest) -> OpResponse {
        let removed: Vec<_> = within(&self.state, slice::from_ref(&delete.range))
            .cloned()
            .collect();
        for kv in &removed {
            self.state.remove(&kv.key);
            self.events.push(Event::delete(self.revision, kv.clone()));
        }
        OpResponse::Delete {
            deleted: removed.len() as u64,
            prev: if delete.prev_kv { removed } else { Vec::new() },
        }
    }
}

/// A read of everything in a range. No other is asked for in a simulation.
pub(crate) fn read(state: &State, request: &RangeRequest) -> RangeResponse {
    let kvs: Vec<_> = within(state, slice::from_ref(&request.range)).cloned().collect();
    RangeResponse {
        more: false,
        count: kvs.len() as u64,
        kvs,
    }
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
    let mut found: Vec<_> = within(state, slice::from_ref(&compare.range)).collect();
    if found.is_empty() {
        if matches!(compare.target, CompareTarget::Value(_)) {
            return false;
        }
        found.push(&absent);
    }
    found.into_iter().all(|kv| {
        compare.op.accepts(match &compare.target {
            CompareTarget::Version(version) => kv.version.cmp(version),
            CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
            CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
            CompareTarget::Value(value) => kv.value.cmp(value),
            CompareTarget::Lease(lease) => kv.lease.cmp(lease),
        })
    })
}
