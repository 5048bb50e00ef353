//! Answers of the keyspace.

use tidewatch_core::txn::{Header, OpResponse, RangeResponse, TxnResponse};
use tidewatch_core::{KeyValue, KeyspaceId, Revision};

use super::{MAX_TXN_DEPTH, Malformed, needed};
use crate::v1;
use crate::v1::op_response::Response;

impl From<Header> for v1::ResponseHeader {
    fn from(header: Header) -> Self {
        Self {
            keyspace_id: header.keyspace.0,
            revision: header.revision.0,
        }
    }
}

/// The header of an answer, which must have one.
pub fn header(message: Option<v1::ResponseHeader>) -> Result<Header, Malformed> {
    let message = needed(message, "an answer without a header")?;
    Ok(Header {
        keyspace: KeyspaceId(message.keyspace_id),
        revision: Revision(message.revision),
    })
}

impl From<(Header, RangeResponse)> for v1::GetResponse {
    fn from((header, mut response): (Header, RangeResponse)) -> Self {
        Self {
            header: Some(header.into()),
            kv: response.kvs.pop().map(|kv| (&kv).into()),
        }
    }
}

impl From<&RangeResponse> for v1::RangeResponse {
    fn from(response: &RangeResponse) -> Self {
        Self {
            header: None,
            kvs: response.kvs.iter().map(Into::into).collect(),
            more: response.more,
            count: response.count,
        }
    }
}

impl From<(Header, RangeResponse)> for v1::RangeResponse {
    fn from((header, response): (Header, RangeResponse)) -> Self {
        Self {
            header: Some(header.into()),
            ..(&response).into()
        }
    }
}

impl From<v1::RangeResponse> for RangeResponse {
    fn from(message: v1::RangeResponse) -> Self {
        Self {
            kvs: entries(message.kvs),
            more: message.more,
            count: message.count,
        }
    }
}

impl From<&OpResponse> for v1::OpResponse {
    fn from(response: &OpResponse) -> Self {
        let response = match response {
            OpResponse::Put { prev } => Response::Put(v1::PutResponse {
                header: None,
                prev_kv: prev.as_ref().map(Into::into),
            }),
            OpResponse::Delete { deleted, prev } => Response::Delete(v1::DeleteResponse {
                header: None,
                deleted: *deleted,
                prev_kvs: prev.iter().map(Into::into).collect(),
            }),
            OpResponse::Range(range) => Response::Range(range.into()),
            OpResponse::Txn { succeeded, responses } => Response::Txn(v1::TxnResponse {
                header: None,
                succeeded: *succeeded,
                responses: responses.iter().map(Into::into).collect(),
            }),
        };
        Self {
            response: Some(response),
        }
    }
}

impl From<&TxnResponse> for v1::TxnResponse {
    fn from(response: &TxnResponse) -> Self {
        Self {
            header: Some(response.header.into()),
            succeeded: response.succeeded,
            responses: response.responses.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::TxnResponse> for TxnResponse {
    type Error = Malformed;

    fn try_from(message: v1::TxnResponse) -> Result<Self, Malformed> {
        Ok(Self {
            header: header(message.header)?,
            succeeded: message.succeeded,
            responses: op_responses(message.responses, MAX_TXN_DEPTH)?,
        })
    }
}

fn op_responses(messages: Vec<v1::OpResponse>, depth: usize) -> Result<Vec<OpResponse>, Malformed> {
    let depth = depth
        .checked_sub(1)
        .ok_or(Malformed("it nests deeper than any transaction"))?;
    messages
        .into_iter()
        .map(|message| op_response(message, depth))
        .collect()
}

fn op_response(message: v1::OpResponse, depth: usize) -> Result<OpResponse, Malformed> {
    Ok(
        match needed(message.response, "an empty answer to an operation")? {
            Response::Put(put) => OpResponse::Put {
                prev: put.prev_kv.map(Into::into),
            },
            Response::Delete(delete) => OpResponse::Delete {
                deleted: delete.deleted,
                prev: entries(delete.prev_kvs),
            },
            Response::Range(range) => OpResponse::Range(range.into()),
            Response::Txn(txn) => OpResponse::Txn {
                succeeded: txn.succeeded,
                responses: op_responses(txn.responses, depth)?,
            },
        },
    )
}

fn entries(messages: Vec<v1::KeyValue>) -> Vec<KeyValue> {
    messages.into_iter().map(Into::into).collect()
}
