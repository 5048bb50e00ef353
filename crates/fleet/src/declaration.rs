//! Declaring workloads, and taking that back.

use tidewatch_core::txn::{Compare, DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, Txn};
use tidewatch_core::{KeyValue, Keyspace, Revision};

use crate::error::Error;
use crate::key::{self, FleetKey};
use crate::name::WorkloadId;
use crate::value;
use crate::workload::{Kind, Workload};

/// How often a change is tried again when somebody else changed the same key in between. Two people
/// who declare the same workload at once need two; more is a loop that somebody should hear of.
const MAX_ATTEMPTS: usize = 8;

/// Declares a workload, or changes a declared one. Returns it as it is stored now, and the revision
/// of that. Fields that this code does not know and the new one does not name are kept; if nothing
/// is different, nothing is written.
///
/// # Errors
/// [`Error::Reserved`] for an id that belongs to the compose plugin, [`Error::ReservedKind`] for its kind;
/// [`Error::Conflict`], [`Error::Keyspace`].
pub async fn declare(keyspace: &Keyspace, workload: Workload) -> Result<(Workload, Revision), Error> {
    if Workload::is_adopted(&workload.id) {
        return Err(Error::Reserved { id: workload.id });
    }
    if workload.kind == Kind::Compose {
        return Err(Error::ReservedKind { id: workload.id });
    }
    declare_any(keyspace, workload).await
}

/// Reads a workload that somebody wrote down as JSON.
///
/// # Errors
/// [`Error::InvalidValue`], with the name `workload`, and what is wrong where; [`Error::UnknownKind`].
pub fn parse(json: &[u8]) -> Result<Workload, Error> {
    let invalid = |error: serde_json::Error| Error::InvalidValue {
        key: "a workload".to_owned(),
        reason: error.to_string(),
    };
    // An unknown kind has an error of its own, which says what there is.
    let object: value::Extra = serde_json::from_slice(json).map_err(invalid)?;
    if let Some(serde_json::Value::String(kind)) = object.get("kind") {
        kind.parse::<Kind>()?;
    }
    serde_json::from_value(object.into()).map_err(invalid)
}

/// [`declare`] for the compose plugin, which owns the ids that others may not use.
///
/// # Errors
/// [`Error::Conflict`], [`Error::Keyspace`].
pub async fn declare_any(keyspace: &Keyspace, workload: Workload) -> Result<(Workload, Revision), Error> {
    let name = FleetKey::Workload(workload.id.clone());
    for _ in 0..MAX_ATTEMPTS {
        let stored = keyspace.get(name.to_bytes()).await?;
        let merged = merge(&workload, stored.as_ref());
        let bytes = value::encode(&merged);
        if let Some(stored) = &stored
            && serde_json::from_slice::<Workload>(&stored.value).is_ok_and(|stored| stored == merged)
        {
            return Ok((merged, stored.mod_revision));
        }
        let unchanged = Compare::mod_revision(name.to_range(), modified(stored.as_ref()));
        let put = PutRequest::new(name.to_bytes(), bytes);
        let response = keyspace.txn(Txn::new().when(unchanged).put(put)).await?;
        if response.succeeded {
            return Ok((merged, response.header.revision));
        }
    }
    Err(Error::Conflict {
        key: name.to_string(),
        attempts: MAX_ATTEMPTS,
    })
}

/// The new workload with the unknown fields of the stored one. What is stored and is no workload is
/// replaced.
fn merge(workload: &Workload, stored: Option<&KeyValue>) -> Workload {
    let mut merged = workload.clone();
    let stored = stored.and_then(|stored| serde_json::from_slice::<Workload>(&stored.value).ok());
    if let Some(stored) = stored {
        let mut extra = stored.extra;
        extra.append(&mut merged.extra);
        merged.extra = extra;
    }
    merged
}

fn modified(stored: Option<&KeyValue>) -> Revision {
    stored.map_or(Revision(0), |stored| stored.mod_revision)
}

/// Removes a workload and its container rows; with `force` also while it has deploy rows, which go
/// too. Returns the revision and how many keys were removed, the workload's own included.
///
/// # Errors
/// [`Error::WorkloadNotFound`]; [`Error::DeployRowsExist`] and [`Error::Reserved`] unless forced;
/// [`Error::Conflict`], [`Error::Keyspace`].
pub async fn remove(keyspace: &Keyspace, id: &WorkloadId, force: bool) -> Result<(Revision, u64), Error> {
    let name = FleetKey::Workload(id.clone());
    let deploy = key::deploy_rows(id);
    for _ in 0..MAX_ATTEMPTS {
        let Some(stored) = keyspace.get(name.to_bytes()).await? else {
            return Err(Error::WorkloadNotFound { id: id.clone() });
        };
        if !force && Workload::is_adopted(id) {
            return Err(Error::Reserved { id: id.clone() });
        }
        let unchanged = Compare::mod_revision(name.to_range(), stored.mod_revision);
        let mut txn = Txn::new()
            .when(unchanged)
            .delete(name.to_range())
            .delete(key::container_rows(id));
        if force {
            txn = txn.and_then(Op::Delete(DeleteRequest::new(deploy.clone())));
        } else {
            txn = txn.when(Compare::absent(deploy.clone()));
        }
        let first = RangeRequest {
            limit: Some(1),
            keys_only: true,
            ..RangeRequest::new(deploy.clone())
        };
        let response = keyspace.txn(txn.or_else(Op::Range(first))).await?;
        if response.succeeded {
            let removed = response.responses.iter().map(|response| match response {
                OpResponse::Delete { deleted, .. } => *deleted,
                _ => 0,
            });
            return Ok((response.header.revision, removed.sum()));
        }
        if let Some(OpResponse::Range(range)) = response.responses.first()
            && let Some(first) = range.kvs.first().filter(|_| !force)
        {
            return Err(Error::DeployRowsExist {
                id: id.clone(),
                first: String::from_utf8_lossy(&first.key).into_owned(),
                count: usize::try_from(range.count).unwrap_or(usize::MAX),
            });
        }
    }
    Err(Error::Conflict {
        key: name.to_string(),
        attempts: MAX_ATTEMPTS,
    })
}
