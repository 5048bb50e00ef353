//! Reads and transactions in etcd-client's words.

use etcd_client::proto::{PbRangeResponse, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{
    Compare as EtcdCompare, CompareOp as EtcdCompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder,
    SortTarget, Txn as EtcdTxn, TxnOp,
};
use tidewatch_core::KeyRange;
use tidewatch_core::key::RangeEnd;
use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, Op, OpResponse, RangeRequest, RangeResponse, SortBy, Txn,
};

use super::convert::{first, key_value, number};

/// A range, as its first key and, unless it is that one, its end. To etcd the end that is the first name of all means that there
/// is none.
fn bounds(range: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    match range.end() {
        RangeEnd::Single => (first(range), None),
        RangeEnd::Unbounded => (first(range), Some(vec![0])),
        // Nothing lies between a name and itself.
        RangeEnd::Before(end) if first(range)[..] >= end[..] => (vec![1], Some(vec![1])),
        RangeEnd::Before(end) => (first(range), Some(end.to_vec())),
    }
}

/// A read.
pub(super) fn get(request: &RangeRequest) -> (Vec<u8>, GetOptions) {
    let (key, end) = bounds(&request.range);
    let mut options = GetOptions::new();
    if let Some(end) = end {
        options = options.with_range(end);
    }
    if let Some(limit) = request.limit {
        // Zero stands for all. Whoever asks for none learns from one whether there are any.
        options = options.with_limit(i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
    }
    if let Some(revision) = request.revision {
        options = options.with_revision(number(revision));
    }
    if let Some(sort) = request.sort {
        let target = match sort.by {
            SortBy::Key => SortTarget::Key,
            SortBy::Version => SortTarget::Version,
            SortBy::Create => SortTarget::Create,
            SortBy::Mod => SortTarget::Mod,
            SortBy::Value => SortTarget::Value,
        };
        let order = if sort.descending {
            SortOrder::Descend
        } else {
            SortOrder::Ascend
        };
        options = options.with_sort(target, order);
    }
    if request.keys_only {
        options = options.with_keys_only();
    }
    if request.count_only {
        options = options.with_count_only();
    }
    if request.serializable {
        options = options.with_serializable();
    }
    if let Some(revision) = request.min_mod_revision {
        options = options.with_min_mod_revision(number(revision));
    }
    if let Some(revision) = request.max_mod_revision {
        options = options.with_max_mod_revision(number(revision));
    }
    if let Some(revision) = request.min_create_revision {
        options = options.with_min_create_revision(number(revision));
    }
    if let Some(revision) = request.max_create_revision {
        options = options.with_max_create_revision(number(revision));
    }
    (key, options)
}

/// A transaction.
pub(super) fn of(txn: &Txn) -> EtcdTxn {
    EtcdTxn::new()
        .when(txn.compares.iter().map(compare).collect::<Vec<_>>())
        .and_then(txn.then.iter().map(op).collect::<Vec<_>>())
        .or_else(txn.otherwise.iter().map(op).collect::<Vec<_>>())
}

fn op(op: &Op) -> TxnOp {
    match op {
        Op::Put(put) => {
            let mut options = PutOptions::new();
            if let Some(lease) = put.lease {
                options = options.with_lease(lease.0);
            }
            if put.prev_kv {
                options = options.with_prev_key();
            }
            if put.ignore_value {
                options = options.with_ignore_value();
            }
            if put.ignore_lease {
                options = options.with_ignore_lease();
            }
            TxnOp::put(put.key.to_vec(), put.value.to_vec(), Some(options))
        }
        Op::Delete(delete) => {
            let (key, end) = bounds(&delete.range);
            let mut options = DeleteOptions::new();
            if let Some(end) = end {
                options = options.with_range(end);
            }
            if delete.prev_kv {
                options = options.with_prev_key();
            }
            TxnOp::delete(key, Some(options))
        }
        Op::Range(request) => {
            let (key, options) = get(request);
            TxnOp::get(key, Some(options))
        }
        Op::Txn(txn) => TxnOp::txn(of(txn)),
    }
}

fn compare(compare: &Compare) -> EtcdCompare {
    let op = match compare.op {
        CompareOp::Equal => EtcdCompareOp::Equal,
        CompareOp::Greater => EtcdCompareOp::Greater,
        CompareOp::Less => EtcdCompareOp::Less,
        CompareOp::NotEqual => EtcdCompareOp::NotEqual,
    };
    let (key, end) = bounds(&compare.range);
    let compare = match &compare.target {
        CompareTarget::Version(version) => {
            EtcdCompare::version(key, op, i64::try_from(*version).unwrap_or(i64::MAX))
        }
        CompareTarget::Create(revision) => EtcdCompare::create_revision(key, op, number(*revision)),
        CompareTarget::Mod(revision) => EtcdCompare::mod_revision(key, op, number(*revision)),
        CompareTarget::Value(value) => EtcdCompare::value(key, op, value.to_vec()),
        CompareTarget::Lease(lease) => EtcdCompare::lease(key, op, lease.map_or(0, |lease| lease.0)),
    };
    match end {
        Some(end) => compare.with_range(end),
        None => compare,
    }
}

/// The answer to a read.
pub(super) fn ranged(request: &RangeRequest, answer: PbRangeResponse) -> RangeResponse {
    let mut response = RangeResponse {
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: u64::try_from(answer.count).unwrap_or_default(),
    };
    if request.limit == Some(0) {
        response.more |= !response.kvs.is_empty();
        response.kvs.clear();
    }
    response
}

/// The answer to a transaction; none if it is not one to this.
pub(super) fn answered(txn: &Txn, answer: PbTxnResponse) -> Option<(bool, Vec<OpResponse>)> {
    let ops = if answer.succeeded {
        &txn.then
    } else {
        &txn.otherwise
    };
    if ops.len() != answer.responses.len() {
        return None;
    }
    let responses = ops.iter().zip(answer.responses).map(|(op, answer)| {
        Some(match (op, answer.response?) {
            (Op::Put(_), PbTxnOpResponse::ResponsePut(put)) => OpResponse::Put {
                prev: put.prev_kv.map(key_value),
            },
            (Op::Delete(_), PbTxnOpResponse::ResponseDeleteRange(delete)) => OpResponse::Delete {
                deleted: u64::try_from(delete.deleted).unwrap_or_default(),
                prev: delete.prev_kvs.into_iter().map(key_value).collect(),
            },
            (Op::Range(request), PbTxnOpResponse::ResponseRange(range)) => {
                OpResponse::Range(ranged(request, range))
            }
            (Op::Txn(txn), PbTxnOpResponse::ResponseTxn(answer)) => {
                let (succeeded, responses) = answered(txn, answer)?;
                OpResponse::Txn { succeeded, responses }
            }
            _ => return None,
        })
    });
    Some((answer.succeeded, responses.collect::<Option<_>>()?))
}
