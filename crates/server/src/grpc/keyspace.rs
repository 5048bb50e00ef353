//! `tidewatch.v1.Keyspace`: reads, writes, transactions and leases.

use std::time::Duration;

use tidewatch_core::txn::{DeleteRequest, Header, OpResponse, PutRequest, RangeRequest, Txn};
use tidewatch_core::{Error, KeyValue, Keyspace, LeaseId, Revision};
use tidewatch_proto::v1;
use tonic::{Request, Response, Status};

use super::{Answer, status};

/// The most that a range may be answered with, in bytes. It is what our own client accepts; whoever
/// wants more reads it in pages, at one revision.
const MAX_RANGE_BYTES: usize = 64 << 20;

/// More than an entry takes on the wire besides its key and its value.
const ENTRY_BYTES: usize = 64;

/// The service.
#[derive(Clone)]
pub(crate) struct KeyspaceService {
    pub(crate) keyspace: Keyspace,
}

#[tonic::async_trait]
impl v1::keyspace_server::Keyspace for KeyspaceService {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        let request = RangeRequest::try_from(request.into_inner()).map_err(status)?;
        let answer = self.keyspace.range(request).await.map_err(status)?;
        Ok(Response::new(answer.into()))
    }

    async fn range(&self, request: Request<v1::RangeRequest>) -> Answer<v1::RangeResponse> {
        let request = RangeRequest::try_from(request.into_inner()).map_err(status)?;
        let answer = self.keyspace.range(request).await.map_err(status)?;
        // What is read shares its bytes with the keyspace; what is sent would be a copy of them all.
        let bytes: usize = answer.1.kvs.iter().map(size).sum();
        if bytes > MAX_RANGE_BYTES {
            return Err(status(Error::LimitExceeded {
                what: "bytes in one answer (ask for fewer entries at a time)",
                limit: MAX_RANGE_BYTES,
            }));
        }
        Ok(Response::new(answer.into()))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Answer<v1::PutResponse> {
        let request = PutRequest::from(request.into_inner());
        let (header, response) = self.one(request.into()).await?;
        let prev_kv = match response {
            Some(OpResponse::Put { prev }) => prev.as_ref().map(Into::into),
            _ => None,
        };
        Ok(Response::new(v1::PutResponse {
            header: Some(header.into()),
            prev_kv,
        }))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        let request = DeleteRequest::try_from(request.into_inner()).map_err(status)?;
        let (header, response) = self.one(request.into()).await?;
        let (deleted, prev) = match response {
            Some(OpResponse::Delete { deleted, prev }) => (deleted, prev),
            _ => (0, Vec::new()),
        };
        Ok(Response::new(v1::DeleteResponse {
            header: Some(header.into()),
            deleted,
            prev_kvs: prev.iter().map(Into::into).collect(),
        }))
    }

    async fn txn(&self, request: Request<v1::TxnRequest>) -> Answer<v1::TxnResponse> {
        let txn = Txn::try_from(request.into_inner()).map_err(status)?;
        let response = self.keyspace.txn(txn).await.map_err(status)?;
        Ok(Response::new((&response).into()))
    }

    async fn compact(&self, request: Request<v1::CompactRequest>) -> Answer<v1::CompactResponse> {
        let revision = Revision(request.into_inner().revision);
        let header = self.keyspace.compact(revision).await.map_err(status)?;
        Ok(Response::new(v1::CompactResponse {
            header: Some(header.into()),
        }))
    }

    async fn lease_grant(&self, request: Request<v1::LeaseGrantRequest>) -> Answer<v1::LeaseGrantResponse> {
        let request = request.into_inner();
        let ttl = Duration::from_millis(request.ttl_ms);
        let granted = self.keyspace.lease_grant(request.id.map(LeaseId), ttl).await;
        Ok(Response::new(granted.map_err(status)?.into()))
    }

    async fn lease_revoke(
        &self,
        request: Request<v1::LeaseRevokeRequest>,
    ) -> Answer<v1::LeaseRevokeResponse> {
        let id = LeaseId(request.into_inner().id);
        let header = self.keyspace.lease_revoke(id).await.map_err(status)?;
        Ok(Response::new(v1::LeaseRevokeResponse {
            header: Some(header.into()),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<v1::LeaseKeepAliveRequest>,
    ) -> Answer<v1::LeaseKeepAliveResponse> {
        let id = LeaseId(request.into_inner().id);
        let (header, ttl) = self.keyspace.lease_keep_alive(id).await.map_err(status)?;
        Ok(Response::new(v1::LeaseKeepAliveResponse {
            header: Some(header.into()),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<v1::LeaseTimeToLiveRequest>,
    ) -> Answer<v1::LeaseTimeToLiveResponse> {
        let id = LeaseId(request.into_inner().id);
        let answer = self.keyspace.lease_info(id).await.map_err(status)?;
        Ok(Response::new(answer.into()))
    }

    async fn lease_list(&self, _: Request<v1::LeaseListRequest>) -> Answer<v1::LeaseListResponse> {
        let answer = self.keyspace.lease_list().await.map_err(status)?;
        Ok(Response::new(answer.into()))
    }
}

impl KeyspaceService {
    /// Carries out a transaction of one operation.
    async fn one(&self, txn: Txn) -> Result<(Header, Option<OpResponse>), Status> {
        let mut response = self.keyspace.txn(txn).await.map_err(status)?;
        Ok((response.header, response.responses.pop()))
    }
}

fn size(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + ENTRY_BYTES
}
