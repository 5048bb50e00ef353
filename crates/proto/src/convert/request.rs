//! Requests to the keyspace.

use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Op, PutRequest, RangeRequest, Sort, SortBy, Txn,
};
use tidewatch_core::{Error, LeaseId, Revision, key};

use super::detached;
use super::key::{lease_id, requested_range};
use crate::v1;
use crate::v1::compare::Target;

/// How deep transactions may nest on the wire; the outermost counts as 1. Protobuf decoders stop at
/// a hundred nested messages, and each level costs two.
pub const MAX_TXN_DEPTH: usize = 32;

/// How deep a transaction nests; 1 without a nested one. For callers to check against
/// [`MAX_TXN_DEPTH`] before they send it.
pub fn txn_depth(txn: &Txn) -> usize {
    let nested = txn.then.iter().chain(&txn.otherwise).map(|op| match op {
        Op::Txn(txn) => txn_depth(txn),
        _ => 0,
    });
    1 + nested.max().unwrap_or(0)
}

impl TryFrom<v1::GetRequest> for RangeRequest {
    type Error = Error;

    fn try_from(message: v1::GetRequest) -> Result<Self, Error> {
        Ok(Self {
            revision: message.revision.map(Revision),
            serializable: message.serializable,
            ..Self::new(key(message.key)?)
        })
    }
}

impl From<&RangeRequest> for v1::RangeRequest {
    fn from(request: &RangeRequest) -> Self {
        let bound = |revision: Option<Revision>| revision.map(|revision| revision.0);
        let sort_by = request
            .sort
            .map_or(v1::SortBy::Unspecified, |sort| match sort.by {
                SortBy::Key => v1::SortBy::Key,
                SortBy::Version => v1::SortBy::Version,
                SortBy::Create => v1::SortBy::Create,
                SortBy::Mod => v1::SortBy::Mod,
                SortBy::Value => v1::SortBy::Value,
            });
        Self {
            range: Some((&request.range).into()),
            revision: bound(request.revision),
            limit: request.limit.map(|limit| limit as u64),
            sort_by: sort_by.into(),
            sort_descending: request.sort.is_some_and(|sort| sort.descending),
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: bound(request.min_mod_revision),
            max_mod_revision: bound(request.max_mod_revision),
            min_create_revision: bound(request.min_create_revision),
            max_create_revision: bound(request.max_create_revision),
            serializable: request.serializable,
        }
    }
}

impl TryFrom<v1::RangeRequest> for RangeRequest {
    type Error = Error;

    fn try_from(message: v1::RangeRequest) -> Result<Self, Error> {
        let by = match known::<v1::SortBy>(message.sort_by, "sort_by")? {
            v1::SortBy::Unspecified => None,
            v1::SortBy::Key => Some(SortBy::Key),
            v1::SortBy::Version => Some(SortBy::Version),
            v1::SortBy::Create => Some(SortBy::Create),
            v1::SortBy::Mod => Some(SortBy::Mod),
            v1::SortBy::Value => Some(SortBy::Value),
        };
        Ok(Self {
            range: requested_range(message.range)?,
            revision: message.revision.map(Revision),
            limit: message
                .limit
                .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            sort: by.map(|by| Sort {
                by,
                descending: message.sort_descending,
            }),
            keys_only: message.keys_only,
            count_only: message.count_only,
            min_mod_revision: message.min_mod_revision.map(Revision),
            max_mod_revision: message.max_mod_revision.map(Revision),
            min_create_revision: message.min_create_revision.map(Revision),
            max_create_revision: message.max_create_revision.map(Revision),
            serializable: message.serializable,
        })
    }
}

impl From<&PutRequest> for v1::PutRequest {
    fn from(request: &PutRequest) -> Self {
        Self {
            key: request.key.clone(),
            value: request.value.clone(),
            lease: request.lease.map(|lease| lease.0),
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

impl From<v1::PutRequest> for PutRequest {
    fn from(message: v1::PutRequest) -> Self {
        Self {
            key: detached(message.key),
            value: detached(message.value),
            lease: message.lease.map(LeaseId),
            prev_kv: message.prev_kv,
            ignore_value: message.ignore_value,
            ignore_lease: message.ignore_lease,
        }
    }
}

impl From<&DeleteRequest> for v1::DeleteRequest {
    fn from(request: &DeleteRequest) -> Self {
        Self {
            range: Some((&request.range).into()),
            prev_kv: request.prev_kv,
        }
    }
}

impl TryFrom<v1::DeleteRequest> for DeleteRequest {
    type Error = Error;

    fn try_from(message: v1::DeleteRequest) -> Result<Self, Error> {
        Ok(Self {
            range: requested_range(message.range)?,
            prev_kv: message.prev_kv,
        })
    }
}

impl From<&Compare> for v1::Compare {
    fn from(compare: &Compare) -> Self {
        let op = match compare.op {
            CompareOp::Equal => v1::CompareOp::Equal,
            CompareOp::Greater => v1::CompareOp::Greater,
            CompareOp::Less => v1::CompareOp::Less,
            CompareOp::NotEqual => v1::CompareOp::NotEqual,
        };
        let target = match &compare.target {
            CompareTarget::Version(version) => Target::Version(*version),
            CompareTarget::Create(revision) => Target::CreateRevision(revision.0),
            CompareTarget::Mod(revision) => Target::ModRevision(revision.0),
            CompareTarget::Value(value) => Target::Value(value.clone()),
            CompareTarget::Lease(lease) => Target::Lease(lease.map_or(0, |lease| lease.0)),
        };
        Self {
            range: Some((&compare.range).into()),
            op: op.into(),
            target: Some(target),
        }
    }
}

impl TryFrom<v1::Compare> for Compare {
    type Error = Error;

    fn try_from(message: v1::Compare) -> Result<Self, Error> {
        let op = match known::<v1::CompareOp>(message.op, "compare")? {
            v1::CompareOp::Equal => CompareOp::Equal,
            v1::CompareOp::Greater => CompareOp::Greater,
            v1::CompareOp::Less => CompareOp::Less,
            v1::CompareOp::NotEqual => CompareOp::NotEqual,
            v1::CompareOp::Unspecified => return Err(missing("compare", "op")),
        };
        let target = match message.target.ok_or_else(|| missing("compare", "target"))? {
            Target::Version(version) => CompareTarget::Version(version),
            Target::CreateRevision(revision) => CompareTarget::Create(Revision(revision)),
            Target::ModRevision(revision) => CompareTarget::Mod(Revision(revision)),
            Target::Value(value) => CompareTarget::Value(value),
            Target::Lease(lease) => CompareTarget::Lease(lease_id(lease)),
        };
        Ok(Self {
            range: requested_range(message.range)?,
            op,
            target,
        })
    }
}

impl From<&Op> for v1::Op {
    fn from(op: &Op) -> Self {
        let op = match op {
            Op::Put(put) => v1::op::Op::Put(put.into()),
            Op::Delete(delete) => v1::op::Op::Delete(delete.into()),
            Op::Range(range) => v1::op::Op::Range(range.into()),
            Op::Txn(txn) => v1::op::Op::Txn(txn.into()),
        };
        Self { op: Some(op) }
    }
}

impl From<&Txn> for v1::TxnRequest {
    fn from(txn: &Txn) -> Self {
        Self {
            compares: txn.compares.iter().map(Into::into).collect(),
            then: txn.then.iter().map(Into::into).collect(),
            otherwise: txn.otherwise.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::TxnRequest> for Txn {
    type Error = Error;

    fn try_from(message: v1::TxnRequest) -> Result<Self, Error> {
        txn(message, MAX_TXN_DEPTH)
    }
}

fn txn(message: v1::TxnRequest, depth: usize) -> Result<Txn, Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::InvalidArgument {
            what: "transaction",
            reason: format!("it nests more than {MAX_TXN_DEPTH} deep"),
        });
    };
    let ops = |ops: Vec<v1::Op>| -> Result<Vec<Op>, Error> {
        ops.into_iter().map(|message| op(message, depth)).collect()
    };
    Ok(Txn {
        compares: message
            .compares
            .into_iter()
            .map(Compare::try_from)
            .collect::<Result<_, _>>()?,
        then: ops(message.then)?,
        otherwise: ops(message.otherwise)?,
    })
}

fn op(message: v1::Op, depth: usize) -> Result<Op, Error> {
    Ok(match message.op.ok_or_else(|| missing("transaction", "op"))? {
        v1::op::Op::Put(put) => Op::Put(put.into()),
        v1::op::Op::Delete(delete) => Op::Delete(delete.try_into()?),
        v1::op::Op::Range(range) => Op::Range(range.try_into()?),
        v1::op::Op::Txn(nested) => Op::Txn(txn(nested, depth)?),
    })
}

/// A value of an enum, if it is one that this version knows.
pub(crate) fn known<T: TryFrom<i32>>(value: i32, what: &'static str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::InvalidArgument {
        what,
        reason: format!("{value} is not a value this server knows"),
    })
}

fn missing(what: &'static str, field: &str) -> Error {
    Error::InvalidArgument {
        what,
        reason: format!("its {field} is missing"),
    }
}
