//! Writing what a plan says.

use std::collections::BTreeSet;

use tidewatch_core::limits::{MAX_TXN_BYTES, MAX_TXN_OPS};
use tidewatch_core::txn::{Compare, Op, PutRequest, Txn, TxnResponse};
use tidewatch_core::{Error, Keyspace, Revision};
use tidewatch_fleet::{FleetKey, WorkloadId, key, value};

use crate::plan::Change;
use crate::presence::Presence;

/// What became of a plan.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It is written; at this revision, if there was anything to write.
    Done(Option<Revision>),
    /// The host is no longer ours.
    FenceLost,
    /// A workload appeared or vanished in between.
    Conflict,
}

/// Applies changes in one transaction; where they are too many, in several, in their order. Each is
/// safe to apply again: what is left of a plan is what the next plan says.
pub(crate) async fn apply(
    keyspace: &Keyspace,
    presence: &Presence,
    changes: &[Change],
) -> Result<Applied, Error> {
    let (retired, written): (Vec<_>, Vec<_>) = changes
        .iter()
        .partition(|change| matches!(change, Change::Retire(_)));
    let mut revision = None;
    for txn in transactions(presence, &written) {
        let response = keyspace.txn(txn).await?;
        if !response.succeeded {
            return Ok(refused(presence, &response));
        }
        revision = Some(response.header.revision);
    }
    for change in retired {
        let response = keyspace.txn(retire(presence, &change.key())).await?;
        if response.succeeded {
            revision = Some(response.header.revision);
        } else if let Applied::FenceLost = refused(presence, &response) {
            return Ok(Applied::FenceLost);
        }
    }
    Ok(Applied::Done(revision))
}

fn refused(presence: &Presence, response: &TxnResponse) -> Applied {
    if presence.holds(response.responses.first()) {
        Applied::Conflict
    } else {
        Applied::FenceLost
    }
}

fn transactions(presence: &Presence, changes: &[&Change]) -> Vec<Txn> {
    let mut chunks = Vec::new();
    let mut declared = BTreeSet::new();
    let mut chunk = Chunk::new(presence);
    for change in changes {
        if !chunk.has_room(change) {
            chunks.push(std::mem::replace(&mut chunk, Chunk::new(presence)).txn);
        }
        chunk.add(change, &mut declared);
    }
    if !chunk.txn.then.is_empty() {
        chunks.push(chunk.txn);
    }
    chunks
}

/// A transaction that is being filled.
struct Chunk {
    txn: Txn,
    bytes: usize,
    compared: BTreeSet<WorkloadId>,
    /// The workloads that this very transaction declares: compares see what was there before it.
    declares: BTreeSet<WorkloadId>,
}

impl Chunk {
    fn new(presence: &Presence) -> Self {
        Self {
            txn: Txn::new().when(presence.fence()).or_else(presence.question()),
            bytes: 0,
            compared: BTreeSet::new(),
            declares: BTreeSet::new(),
        }
    }

    fn has_room(&self, change: &Change) -> bool {
        self.txn.then.len() < MAX_TXN_OPS
            && self.txn.compares.len() < MAX_TXN_OPS
            // Half of what is allowed, because keys and compares count too.
            && (self.txn.then.is_empty() || self.bytes + size(change) <= MAX_TXN_BYTES / 2)
    }

    fn add(&mut self, change: &Change, declared: &mut BTreeSet<WorkloadId>) {
        self.bytes += size(change);
        let key = change.key();
        match change {
            Change::Declare(workload) => {
                declared.insert(workload.id.clone());
                self.declares.insert(workload.id.clone());
                self.when(Compare::absent(key.to_range()));
                self.put(&key, value::encode(workload));
            }
            Change::Insert(_, row) | Change::Update(_, row) => {
                self.require(&row.workload_id);
                self.put(&key, value::encode(row));
            }
            Change::Remove(_) | Change::Retire(_) => {
                let txn = std::mem::take(&mut self.txn);
                self.txn = txn.delete(key.to_range());
            }
        }
    }

    /// A row is written only while its workload exists, so that one that is removed takes all its
    /// rows with it, also those that a plan is about to write.
    fn require(&mut self, workload: &WorkloadId) {
        if !self.declares.contains(workload) && self.compared.insert(workload.clone()) {
            self.when(Compare::exists(FleetKey::Workload(workload.clone()).to_range()));
        }
    }

    fn when(&mut self, compare: Compare) {
        self.txn.compares.push(compare);
    }

    fn put(&mut self, key: &FleetKey, value: bytes::Bytes) {
        self.txn
            .then
            .push(Op::Put(PutRequest::new(key.to_bytes(), value)));
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Declare(workload) => value::encode(workload).len(),
        Change::Insert(_, row) | Change::Update(_, row) => value::encode(row).len(),
        Change::Remove(_) | Change::Retire(_) => 0,
    }
}

/// Retires a workload unless somebody has written a row of it in between.
fn retire(presence: &Presence, key: &FleetKey) -> Txn {
    let mut txn = Txn::new().when(presence.fence()).or_else(presence.question());
    if let Some(workload) = key.workload() {
        txn = txn.when(Compare::absent(key::container_rows(workload)));
    }
    txn.delete(key.to_range())
}
