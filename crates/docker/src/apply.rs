//! Writing what a plan says.

use std::collections::BTreeSet;

use tidewatch_core::limits::{MAX_TXN_BYTES, MAX_TXN_OPS};
use tidewatch_core::txn::{Compare, Op, PutRequest, Txn, TxnResponse};
use tidewatch_core::{Error, Keyspace, Revision};
use tidewatch_fleet::{FleetKey, WorkloadId, key, value};

use crate::plan::Change;
use crate::presence::Claim;

/// What became of a plan.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It is written; at this revision, if there was anything to write.
    Done(Option<Revision>),
    /// The claim under which it was planned no longer stands.
    FenceLost,
    /// A workload appeared or vanished in between.
    Conflict,
}

/// Applies changes that were planned under `claim`, in one transaction; where they are too many, in several, in their order. Each is
/// safe to apply again: what is left of a plan is what the next plan says.
pub(crate) async fn apply(keyspace: &Keyspace, claim: &Claim, changes: &[Change]) -> Result<Applied, Error> {
    let (retired, written): (Vec<_>, Vec<_>) = changes
        .iter()
        .partition(|change| matches!(change, Change::Retire(_)));
    let mut revision = None;
    for txn in transactions(claim, &written) {
        let response = keyspace.txn(txn).await?;
        if !response.succeeded {
            return Ok(refused(claim, &response));
        }
        revision = Some(response.header.revision);
    }
    for change in retired {
        let response = keyspace.txn(retire(claim, &change.key())).await?;
        if response.succeeded {
            revision = Some(response.header.revision);
        } else if let Applied::FenceLost = refused(claim, &response) {
            return Ok(Applied::FenceLost);
        }
    }
    Ok(Applied::Done(revision))
}

fn refused(claim: &Claim, response: &TxnResponse) -> Applied {
    if claim.holds(response.responses.first()) {
        Applied::Conflict
    } else {
        Applied::FenceLost
    }
}

fn transactions(claim: &Claim, changes: &[&Change]) -> Vec<Txn> {
    let mut chunks = Vec::new();
    let mut declared = BTreeSet::new();
    let mut chunk = Chunk::new(claim);
    for change in changes {
        if !chunk.has_room(change) {
            chunks.push(std::mem::replace(&mut chunk, Chunk::new(claim)).txn);
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
    fn new(claim: &Claim) -> Self {
        Self {
            txn: fenced(claim),
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

/// A transaction that happens only while the claim stands, and otherwise tells whether that is why.
fn fenced(claim: &Claim) -> Txn {
    let txn = claim.fence().into_iter().fold(Txn::new(), Txn::when);
    txn.or_else(claim.question())
}

/// Retires a workload unless somebody has written a row of it in between.
fn retire(claim: &Claim, key: &FleetKey) -> Txn {
    let mut txn = fenced(claim);
    if let Some(workload) = key.workload() {
        txn = txn.when(Compare::absent(key::container_rows(workload)));
    }
    txn.delete(key.to_range())
}

#[cfg(test)]
mod tests {
    use tidewatch_core::SystemClock;
    use tidewatch_core::txn::RangeRequest;
    use tidewatch_fleet::{ContainerRow, Kind, Role, RowName, Workload};

    use super::*;
    use crate::presence::{Hold, Presence};
    use crate::status::ReconcilerStatus;
    use tidewatch_fleet::Alive;

    fn insert(workload: &str, row: &str) -> Change {
        let (workload, row): (WorkloadId, RowName) = (workload.parse().unwrap(), row.parse().unwrap());
        let host: tidewatch_fleet::HostName = "h1".parse().unwrap();
        let key = FleetKey::Container(workload.clone(), host.clone(), row.clone());
        let role = Role::from(row.clone());
        let value = ContainerRow::new(workload, Kind::Stack, host, &row, role);
        Change::Insert(key, Box::new(value))
    }

    fn declared(id: &str) -> Change {
        Change::Declare(Box::new(Workload::new(id.parse().unwrap(), Kind::Compose)))
    }

    fn presence(ks: &Keyspace, instance: &str) -> Presence {
        let us = Alive {
            instance: instance.to_owned(),
            ..Alive::default()
        };
        let status = ReconcilerStatus::new("h1".parse().unwrap(), instance.to_owned());
        Presence::new(ks.clone(), us, None, status, SystemClock::shared())
    }

    async fn claimed(presence: &Presence) -> Claim {
        assert_eq!(presence.keep().await.unwrap(), Hold::Anew);
        presence.claim().unwrap()
    }

    async fn held() -> (Keyspace, Claim) {
        let ks = Keyspace::memory();
        let claim = claimed(&presence(&ks, "i1")).await;
        (ks, claim)
    }

    async fn count(ks: &Keyspace) -> usize {
        let rows = RangeRequest::new(key::section(key::CONTAINERS));
        ks.range(rows).await.unwrap().1.kvs.len()
    }

    #[tokio::test]
    async fn nothing_to_write_makes_no_revision() {
        let (ks, claim) = held().await;
        let before = ks.status().await.unwrap().revision;
        let applied = apply(&ks, &claim, &[]).await.unwrap();
        assert!(matches!(applied, Applied::Done(None)));
        assert_eq!(ks.status().await.unwrap().revision, before);
    }

    #[tokio::test]
    async fn a_row_of_a_workload_that_was_removed_in_between_is_not_written() {
        let (ks, claim) = held().await;
        let applied = apply(&ks, &claim, &[insert("shop", "web")]).await.unwrap();
        assert!(matches!(applied, Applied::Conflict));
        assert_eq!(count(&ks).await, 0);
    }

    #[tokio::test]
    async fn nothing_is_written_without_the_fence() {
        let (ks, claim) = held().await;
        ks.put("/workloads/shop", "{}").await.unwrap();
        ks.put("/alive/h1", r#"{"instance":"other"}"#).await.unwrap();
        let applied = apply(&ks, &claim, &[insert("shop", "web")]).await.unwrap();
        assert!(matches!(applied, Applied::FenceLost));
        assert_eq!(count(&ks).await, 0);
    }

    #[tokio::test]
    async fn a_plan_of_an_earlier_claim_is_not_applied_whoever_has_the_host_now() {
        let (ks, first) = held().await;
        ks.put("/workloads/shop", "{}").await.unwrap();
        let plan = [insert("shop", "web")];
        let alive = || async { ks.get("/alive/h1").await.unwrap().unwrap() };
        // Another life of the same instance takes the key over, which keeps its create revision.
        let created = alive().await.create_revision;
        let next_life = presence(&ks, "i1");
        let second = claimed(&next_life).await;
        assert_eq!(alive().await.create_revision, created);
        assert!(matches!(
            apply(&ks, &first, &plan).await.unwrap(),
            Applied::FenceLost
        ));
        // The lease expires, somebody else has the host for a while, then it is ours again.
        next_life.release().await;
        let other = presence(&ks, "i2");
        let theirs = claimed(&other).await;
        assert!(matches!(
            apply(&ks, &second, &plan).await.unwrap(),
            Applied::FenceLost
        ));
        other.release().await;
        let third = claimed(&next_life).await;
        for old in [&first, &second, &theirs] {
            assert!(matches!(
                apply(&ks, old, &plan).await.unwrap(),
                Applied::FenceLost
            ));
        }
        assert_eq!(count(&ks).await, 0);
        assert!(matches!(
            apply(&ks, &third, &plan).await.unwrap(),
            Applied::Done(Some(_))
        ));
    }

    #[tokio::test]
    async fn a_claim_is_none_in_another_keyspace_where_revisions_happen_to_agree() {
        let (_, claim) = held().await;
        let (other, theirs) = held().await;
        other.put("/workloads/shop", "{}").await.unwrap();
        let plan = [insert("shop", "web")];
        assert!(matches!(
            apply(&other, &claim, &plan).await.unwrap(),
            Applied::FenceLost
        ));
        assert!(matches!(
            apply(&other, &theirs, &plan).await.unwrap(),
            Applied::Done(Some(_))
        ));
    }

    #[tokio::test]
    async fn a_project_and_its_rows_appear_at_one_revision_and_two_hosts_do_not_declare_it_twice() {
        let (ks, claim) = held().await;
        let changes = [declared("compose-blog"), insert("compose-blog", "web")];
        let Applied::Done(Some(revision)) = apply(&ks, &claim, &changes).await.unwrap() else {
            panic!();
        };
        for key in ["/workloads/compose-blog", "/containers/compose-blog/h1/web"] {
            assert_eq!(ks.get(key).await.unwrap().unwrap().mod_revision, revision);
        }
        let again = apply(&ks, &claim, &changes).await.unwrap();
        assert!(matches!(again, Applied::Conflict));
    }

    #[tokio::test]
    async fn more_than_a_transaction_holds_is_written_in_order_in_several_and_may_be_repeated() {
        let (ks, claim) = held().await;
        let mut changes = vec![declared("compose-blog")];
        changes.extend((0..300).map(|n| insert("compose-blog", &format!("web.{n}"))));
        let before = ks.status().await.unwrap().revision;
        let applied = apply(&ks, &claim, &changes).await.unwrap();
        assert!(matches!(applied, Applied::Done(Some(_))));
        assert_eq!(count(&ks).await, 300);
        assert_eq!(ks.status().await.unwrap().revision.0, before.0 + 3);
        let again = apply(&ks, &claim, &changes[1..]).await.unwrap();
        assert!(matches!(again, Applied::Done(Some(_))));
    }

    #[tokio::test]
    async fn rows_of_many_workloads_stay_within_what_a_transaction_may_compare() {
        let (ks, claim) = held().await;
        let mut changes = Vec::new();
        for n in 0..200 {
            ks.put(format!("/workloads/w{n}"), "{}").await.unwrap();
            changes.push(insert(&format!("w{n}"), "web"));
        }
        let applied = apply(&ks, &claim, &changes).await.unwrap();
        assert!(matches!(applied, Applied::Done(Some(_))));
        assert_eq!(count(&ks).await, 200);
    }

    #[tokio::test]
    async fn large_rows_stay_within_the_bytes_of_a_transaction() {
        let (ks, claim) = held().await;
        ks.put("/workloads/shop", "{}").await.unwrap();
        let large = (0..8).map(|n| match insert("shop", &format!("web.{n}")) {
            Change::Insert(key, mut row) => {
                row.labels.insert("l".into(), "x".repeat(400_000));
                Change::Insert(key, row)
            }
            other => other,
        });
        let changes: Vec<_> = large.collect();
        let applied = apply(&ks, &claim, &changes).await.unwrap();
        assert!(matches!(applied, Applied::Done(Some(_))));
        assert_eq!(count(&ks).await, 8);
    }

    #[tokio::test]
    async fn a_workload_is_not_retired_while_a_row_of_it_exists_anywhere() {
        let (ks, claim) = held().await;
        ks.put("/workloads/compose-blog", "{}").await.unwrap();
        ks.put("/containers/compose-blog/h2/web", "{}").await.unwrap();
        let retire = [Change::Retire(FleetKey::Workload(
            "compose-blog".parse().unwrap(),
        ))];
        let applied = apply(&ks, &claim, &retire).await.unwrap();
        assert!(matches!(applied, Applied::Done(None)));
        assert!(ks.get("/workloads/compose-blog").await.unwrap().is_some());
        let row = tidewatch_core::key("/containers/compose-blog/h2/web").unwrap();
        ks.delete(row).await.unwrap();
        apply(&ks, &claim, &retire).await.unwrap();
        assert!(ks.get("/workloads/compose-blog").await.unwrap().is_none());
    }
}
