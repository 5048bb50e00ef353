//! Requests, from etcd's messages. What is checked, and in which order, is what etcd checks first; the
//! rest is up to the keyspace.

use bytes::Bytes;
use tidewatch_core::limits::MAX_TXN_OPS;
use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Op, PutRequest, RangeRequest, Sort, SortBy, Txn,
};
use tidewatch_core::{KeyRange, LeaseId, Revision, key, range as keys_between};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::{MAX_TXN_DEPTH, detached};
use tonic::Status;

use crate::error;

/// The end of a range that has none.
const FROM_KEY: &[u8] = b"\0";

/// The keys that etcd's clients mean by a key and the end of a range.
///
/// # Errors
/// Without a key; or with one longer than we keep.
pub(crate) fn requested_range(start: Bytes, end: Bytes) -> Result<KeyRange, Status> {
    if start.is_empty() {
        return Err(error::EMPTY_KEY.into());
    }
    let (start, end) = (detached(start), detached(end));
    if end.is_empty() {
        return key(start).map_err(error::status);
    }
    if end == FROM_KEY {
        // Refuses what is too long; the range itself has no end.
        key(start.clone()).map_err(error::status)?;
        return Ok(KeyRange::from_key(start));
    }
    if start >= end {
        return Ok(KeyRange::empty());
    }
    keys_between(start, end).map_err(error::status)
}

pub(super) fn range(message: pb::RangeRequest) -> Result<RangeRequest, Status> {
    let sort = sort(&message)?;
    Ok(RangeRequest {
        range: requested_range(message.key, message.range_end)?,
        revision: positive(message.revision).map(Revision),
        limit: positive(message.limit).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        sort,
        keys_only: message.keys_only,
        count_only: message.count_only,
        min_mod_revision: positive(message.min_mod_revision).map(Revision),
        max_mod_revision: upper(message.max_mod_revision),
        min_create_revision: positive(message.min_create_revision).map(Revision),
        max_create_revision: upper(message.max_create_revision),
        serializable: message.serializable,
    })
}

fn sort(message: &pb::RangeRequest) -> Result<Option<Sort>, Status> {
    use pb::range_request::{SortOrder, SortTarget};

    let order = SortOrder::try_from(message.sort_order).map_err(|_| error::INVALID_SORT_OPTION)?;
    let target = SortTarget::try_from(message.sort_target).map_err(|_| error::INVALID_SORT_OPTION)?;
    let by = match target {
        SortTarget::Key if order != SortOrder::Descend => return Ok(None),
        SortTarget::Key => SortBy::Key,
        SortTarget::Version => SortBy::Version,
        SortTarget::Create => SortBy::Create,
        SortTarget::Mod => SortBy::Mod,
        SortTarget::Value => SortBy::Value,
    };
    Ok(Some(Sort {
        by,
        descending: order == SortOrder::Descend,
    }))
}

pub(super) fn put(message: pb::PutRequest) -> Result<PutRequest, Status> {
    if message.key.is_empty() {
        return Err(error::EMPTY_KEY.into());
    }
    if message.ignore_value && !message.value.is_empty() {
        return Err(error::VALUE_PROVIDED.into());
    }
    if message.ignore_lease && message.lease != 0 {
        return Err(error::LEASE_PROVIDED.into());
    }
    Ok(PutRequest {
        key: detached(message.key),
        value: detached(message.value),
        lease: lease(message.lease),
        prev_kv: message.prev_kv,
        ignore_value: message.ignore_value,
        ignore_lease: message.ignore_lease,
    })
}

pub(super) fn delete(message: pb::DeleteRangeRequest) -> Result<DeleteRequest, Status> {
    Ok(DeleteRequest {
        range: requested_range(message.key, message.range_end)?,
        prev_kv: message.prev_kv,
    })
}

pub(super) fn txn(message: pb::TxnRequest) -> Result<Txn, Status> {
    nested(message, MAX_TXN_OPS, MAX_TXN_DEPTH)
}

/// `allowance` is what the longest list may have, and what nested transactions may use of it is what it
/// leaves over.
fn nested(message: pb::TxnRequest, allowance: usize, depth: usize) -> Result<Txn, Status> {
    let (compares, success, failure) = (message.compare, message.success, message.failure);
    let longest = compares.len().max(success.len()).max(failure.len());
    let left = allowance.checked_sub(longest).ok_or(error::TOO_MANY_OPS)?;
    let depth = depth.checked_sub(1).ok_or(error::TOO_MANY_OPS)?;
    let ops = |list: Vec<pb::RequestOp>| -> Result<Vec<Op>, Status> {
        list.into_iter().map(|message| op(message, left, depth)).collect()
    };
    Ok(Txn {
        compares: compares.into_iter().map(compare).collect::<Result<_, _>>()?,
        then: ops(success)?,
        otherwise: ops(failure)?,
    })
}

fn op(message: pb::RequestOp, allowance: usize, depth: usize) -> Result<Op, Status> {
    use pb::request_op::Request;

    Ok(match message.request {
        Some(Request::RequestRange(message)) => Op::Range(range(message)?),
        Some(Request::RequestPut(message)) => Op::Put(put(message)?),
        Some(Request::RequestDeleteRange(message)) => Op::Delete(delete(message)?),
        Some(Request::RequestTxn(message)) => Op::Txn(nested(message, allowance, depth)?),
        // What etcd says about an operation that is none.
        None => return Err(error::KEY_NOT_FOUND.into()),
    })
}

fn compare(message: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult, CompareTarget as Target, TargetUnion};

    let range = requested_range(message.key, message.range_end)?;
    let Ok(result) = CompareResult::try_from(message.result) else {
        // A result of another version is none that etcd minds, but of a value there has to be one.
        return Ok(match message.target.try_into() {
            Ok(Target::Value) => Compare {
                range,
                op: CompareOp::Greater,
                target: CompareTarget::Version(0),
            },
            _ => constant(true),
        });
    };
    let op = match result {
        CompareResult::Equal => CompareOp::Equal,
        CompareResult::Greater => CompareOp::Greater,
        CompareResult::Less => CompareOp::Less,
        CompareResult::NotEqual => CompareOp::NotEqual,
    };
    // A constant of another kind than the target counts as none.
    let (target, union) = (Target::try_from(message.target), message.target_union);
    let number = match (target, &union) {
        (Ok(Target::Version), Some(TargetUnion::Version(number)))
        | (Ok(Target::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(Target::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(Target::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    };
    let Ok(positive) = u64::try_from(number) else {
        // Everything that there is to compare with is greater.
        return Ok(constant(matches!(op, CompareOp::Greater | CompareOp::NotEqual)));
    };
    let target = match target {
        Ok(Target::Version) => CompareTarget::Version(positive),
        Ok(Target::Create) => CompareTarget::Create(Revision(positive)),
        Ok(Target::Mod) => CompareTarget::Mod(Revision(positive)),
        Ok(Target::Lease) => CompareTarget::Lease(lease(number)),
        Ok(Target::Value) => CompareTarget::Value(match union {
            Some(TargetUnion::Value(value)) => detached(value),
            _ => Bytes::new(),
        }),
        // A target of another version compares as equal.
        Err(_) => return Ok(constant(op == CompareOp::Equal)),
    };
    Ok(Compare { range, op, target })
}

/// A compare that holds, or does not, whatever there is.
fn constant(holds: bool) -> Compare {
    // A range without keys compares as an absent key does, whose version is 0.
    Compare {
        range: KeyRange::empty(),
        op: CompareOp::Equal,
        target: CompareTarget::Version(u64::from(!holds)),
    }
}

fn lease(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

/// A number that counts only when it is positive.
fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|&number| number > 0)
}

/// An upper bound of revisions; 0 is none, and below a negative one there is nothing.
fn upper(number: i64) -> Option<Revision> {
    (number != 0).then(|| Revision(u64::try_from(number).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(start: &'static str, end: &'static str) -> KeyRange {
        requested_range(start.into(), end.into()).unwrap()
    }

    #[test]
    fn the_forms_of_a_range() {
        assert_eq!(requested("a", ""), key("a").unwrap());
        assert_eq!(requested("a", "\0"), KeyRange::from_key("a"));
        assert_eq!(requested("\0", "\0"), KeyRange::from_key("\0"));
        assert_eq!(requested("a", "c"), keys_between("a", "c").unwrap());
        for (start, end) in [("b", "a"), ("a", "a")] {
            assert_eq!(requested(start, end), KeyRange::empty());
        }
        let missing = requested_range(Bytes::new(), "a".into()).unwrap_err();
        assert_eq!(missing.message(), error::EMPTY_KEY.text);
        let long = requested_range(vec![b'a'; 5000].into(), "\0".into()).unwrap_err();
        assert_eq!(long.message(), error::REQUEST_TOO_LARGE.text);
    }

    #[test]
    fn a_transaction_is_counted_as_etcd_counts() {
        let leaf = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                key: "a".into(),
                ..pb::RangeRequest::default()
            })),
        };
        let of = |ops: usize, inner: Option<pb::TxnRequest>| {
            let mut success = vec![leaf.clone(); ops];
            success.extend(inner.map(|txn| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestTxn(txn)),
            }));
            pb::TxnRequest {
                success,
                ..pb::TxnRequest::default()
            }
        };
        txn(of(128, None)).unwrap();
        txn(of(63, Some(of(64, None)))).unwrap();
        for refused in [of(129, None), of(63, Some(of(65, None)))] {
            assert_eq!(txn(refused).unwrap_err().message(), error::TOO_MANY_OPS.text);
        }
        let nothing = pb::TxnRequest {
            failure: vec![pb::RequestOp { request: None }],
            ..pb::TxnRequest::default()
        };
        assert_eq!(txn(nothing).unwrap_err().message(), error::KEY_NOT_FOUND.text);
    }

    #[test]
    fn nesting_ends_before_the_stack_does() {
        let mut deep = pb::TxnRequest::default();
        for _ in 0..40 {
            deep = pb::TxnRequest {
                success: vec![pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestTxn(deep)),
                }],
                ..pb::TxnRequest::default()
            };
        }
        assert_eq!(txn(deep).unwrap_err().message(), error::TOO_MANY_OPS.text);
    }
}
