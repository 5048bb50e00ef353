//! Answers, as etcd's messages.

use tidewatch_core::txn::{OpResponse, RangeResponse, TxnResponse};
use tidewatch_core::{KeyValue, Revision};
use tidewatch_proto::{etcdserverpb as pb, mvccpb};

use crate::api::signed;

pub(crate) fn entry(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: signed(kv.create_revision.0),
        mod_revision: signed(kv.mod_revision.0),
        version: signed(kv.version),
        value: kv.value,
        lease: kv.lease.map_or(0, |lease| lease.0),
    }
}

pub(super) fn range(header: pb::ResponseHeader, answer: RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(entry).collect(),
        more: answer.more,
        count: signed(answer.count),
    }
}

pub(super) fn delete(
    header: pb::ResponseHeader,
    deleted: u64,
    prev: Vec<KeyValue>,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: signed(deleted),
        prev_kvs: prev.into_iter().map(entry).collect(),
    }
}

/// Makes the answers to the operations of a transaction. As with etcd, their headers have a revision
/// and nothing else: the one that the transaction makes from its first change on, before that the one
/// it found. A nested transaction's is empty.
pub(super) struct OpAnswers {
    now: Revision,
    after: Revision,
}

impl OpAnswers {
    pub(super) fn new(answer: &TxnResponse) -> Self {
        let after = answer.header.revision;
        let changed = answer.responses.iter().any(changes);
        Self {
            now: if changed { after.prev() } else { after },
            after,
        }
    }

    pub(super) fn all(&mut self, responses: Vec<OpResponse>) -> Vec<pb::ResponseOp> {
        responses.into_iter().map(|response| self.one(response)).collect()
    }

    fn one(&mut self, response: OpResponse) -> pb::ResponseOp {
        use pb::response_op::Response;

        if !matches!(response, OpResponse::Txn { .. }) && changes(&response) {
            self.now = self.after;
        }
        let header = pb::ResponseHeader {
            revision: signed(self.now.0),
            ..pb::ResponseHeader::default()
        };
        let response = match response {
            OpResponse::Put { prev } => Response::ResponsePut(pb::PutResponse {
                header: Some(header),
                prev_kv: prev.map(entry),
            }),
            OpResponse::Delete { deleted, prev } => {
                Response::ResponseDeleteRange(delete(header, deleted, prev))
            }
            OpResponse::Range(answer) => Response::ResponseRange(range(header, answer)),
            OpResponse::Txn { succeeded, responses } => Response::ResponseTxn(pb::TxnResponse {
                header: Some(pb::ResponseHeader::default()),
                succeeded,
                responses: self.all(responses),
            }),
        };
        pb::ResponseOp {
            response: Some(response),
        }
    }
}

/// Whether the operation changed something.
fn changes(response: &OpResponse) -> bool {
    match response {
        OpResponse::Put { .. } => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Range(_) => false,
        OpResponse::Txn { responses, .. } => responses.iter().any(changes),
    }
}
