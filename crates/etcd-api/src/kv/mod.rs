//! `etcdserverpb.KV`: reads, writes, transactions and compaction.

mod request;
mod response;

pub(crate) use request::requested_range;
pub(crate) use response::entry;

use tidewatch_core::txn::{Op, OpResponse, RangeResponse, Txn, TxnResponse};
use tidewatch_core::{KeyValue, Revision};
use tidewatch_proto::etcdserverpb as pb;
use tonic::{Request, Status};

use crate::api::{Answer, EtcdApi};
use crate::error;
use response::OpAnswers;

/// More than an entry takes on the wire besides its key and its value.
const ENTRY_BYTES: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct KvService {
    pub(crate) api: EtcdApi,
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Answer<pb::RangeResponse> {
        let request = request::range(request.into_inner())?;
        let (header, answer) = self.api.keyspace.range(request).await.map_err(error::status)?;
        self.check_size(answer.kvs.iter())?;
        Ok(response::range(self.api.header(header), answer).into())
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        let put = request::put(request.into_inner())?;
        let mut answer = self.txn_of(Op::Put(put)).await?;
        let prev = match answer.responses.pop() {
            Some(OpResponse::Put { prev }) => prev,
            _ => None,
        };
        Ok(pb::PutResponse {
            header: Some(self.api.header(answer.header)),
            prev_kv: prev.map(entry),
        }
        .into())
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Answer<pb::DeleteRangeResponse> {
        let delete = request::delete(request.into_inner())?;
        let mut answer = self.txn_of(Op::Delete(delete)).await?;
        let (deleted, prev) = match answer.responses.pop() {
            Some(OpResponse::Delete { deleted, prev }) => (deleted, prev),
            _ => (0, Vec::new()),
        };
        Ok(response::delete(self.api.header(answer.header), deleted, prev).into())
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Answer<pb::TxnResponse> {
        let txn = request::txn(request.into_inner())?;
        let answer = self.api.keyspace.txn(txn).await.map_err(error::status)?;
        self.check_size(answer.responses.iter().flat_map(read))?;
        let header = self.api.header(answer.header);
        let responses = OpAnswers::new(&answer).all(answer.responses);
        Ok(pb::TxnResponse {
            header: Some(header),
            succeeded: answer.succeeded,
            responses,
        }
        .into())
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Answer<pb::CompactionResponse> {
        // A negative one was compacted before there was a first.
        let revision = u64::try_from(request.into_inner().revision).map_err(|_| error::COMPACTED)?;
        let header = self.api.keyspace.compact(Revision(revision)).await;
        Ok(pb::CompactionResponse {
            header: Some(self.api.header(header.map_err(error::status)?)),
        }
        .into())
    }
}

impl KvService {
    /// Carries out a transaction of one operation.
    async fn txn_of(&self, op: Op) -> Result<TxnResponse, Status> {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        self.api.keyspace.txn(txn).await.map_err(error::status)
    }

    /// What is read shares its bytes with the keyspace; what is sent would be a copy of them all.
    fn check_size<'a>(&self, mut kvs: impl Iterator<Item = &'a KeyValue>) -> Result<(), Status> {
        let max = self.api.limits.max_answer_bytes;
        let fits = kvs.try_fold(0, |bytes, kv| {
            let bytes = bytes + kv.key.len() + kv.value.len() + ENTRY_BYTES;
            (bytes <= max).then_some(bytes)
        });
        if fits.is_none() {
            return Err(Status::resource_exhausted(format!(
                "etcdserver: the answer has more than {max} bytes; ask for fewer keys at a time, with a limit"
            )));
        }
        Ok(())
    }
}

/// What an operation of a transaction has read.
fn read(response: &OpResponse) -> Vec<&KeyValue> {
    match response {
        OpResponse::Range(RangeResponse { kvs, .. }) => kvs.iter().collect(),
        OpResponse::Put { prev } => prev.iter().collect(),
        OpResponse::Delete { prev, .. } => prev.iter().collect(),
        OpResponse::Txn { responses, .. } => responses.iter().flat_map(read).collect(),
    }
}
