//! `etcdserverpb.Lease`.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tidewatch_core::limits::MAX_LEASE_TTL_SECS;
use tidewatch_core::{Error, LeaseId};
use tidewatch_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status, Streaming};

use crate::api::{Answer, EtcdApi, signed};
use crate::error;

/// The shortest time to live that is granted, in seconds: what etcd makes of less, with the heartbeats
/// it has by default.
const MIN_TTL_SECS: u64 = 2;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct LeaseService {
    pub(crate) api: EtcdApi,
}

#[tonic::async_trait]
impl pb::lease_server::Lease for LeaseService {
    async fn lease_grant(&self, request: Request<pb::LeaseGrantRequest>) -> Answer<pb::LeaseGrantResponse> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        if ttl > MAX_LEASE_TTL_SECS {
            return Err(error::LEASE_TTL_TOO_LARGE.into());
        }
        let ttl = u64::try_from(ttl).unwrap_or_default().max(MIN_TTL_SECS);
        let id = (id != 0).then_some(LeaseId(id));
        let granted = self.api.keyspace.lease_grant(id, Duration::from_secs(ttl)).await;
        let (header, grant) = granted.map_err(error::status)?;
        Ok(pb::LeaseGrantResponse {
            header: Some(self.api.header(header)),
            id: grant.id.0,
            ttl: seconds(grant.ttl),
            error: String::new(),
        }
        .into())
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Answer<pb::LeaseRevokeResponse> {
        let id = LeaseId(request.into_inner().id);
        let header = self.api.keyspace.lease_revoke(id).await.map_err(error::status)?;
        Ok(pb::LeaseRevokeResponse {
            header: Some(self.api.header(header)),
        }
        .into())
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    /// Answers one request after the other, so that a client that does not read is not read either.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let begin = Some((self.clone(), request.into_inner()));
        let answers = stream::unfold(begin, |state| async move {
            let (service, mut requests) = state?;
            match service.next_keep_alive(&mut requests).await {
                Ok(None) => None,
                Ok(Some(answer)) => Some((Ok(answer), Some((service, requests)))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let answer = match self.api.keyspace.lease_info(LeaseId(id)).await {
            Ok((header, info)) => pb::LeaseTimeToLiveResponse {
                header: Some(self.api.header(header)),
                id,
                ttl: seconds(info.remaining),
                granted_ttl: seconds(info.granted),
                keys: if keys { info.keys } else { Vec::new() },
            },
            // Here, and in keep-alives, etcd has a number for that instead of an error.
            Err(Error::LeaseNotFound { .. }) => pb::LeaseTimeToLiveResponse {
                header: Some(self.api.current().await?),
                id,
                ttl: -1,
                ..pb::LeaseTimeToLiveResponse::default()
            },
            Err(error) => return Err(error::status(error)),
        };
        Ok(answer.into())
    }

    async fn lease_leases(&self, _: Request<pb::LeaseLeasesRequest>) -> Answer<pb::LeaseLeasesResponse> {
        let (header, ids) = self.api.keyspace.lease_list().await.map_err(error::status)?;
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.api.header(header)),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect(),
        }
        .into())
    }
}

impl LeaseService {
    /// Waits for a request and answers it. None: the client has no more.
    async fn next_keep_alive(
        &self,
        requests: &mut Streaming<pb::LeaseKeepAliveRequest>,
    ) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        let request = tokio::select! {
            biased;
            () = self.api.draining.clone() => return Err(error::STOPPED.into()),
            request = requests.message() => request?,
        };
        let Some(pb::LeaseKeepAliveRequest { id }) = request else {
            return Ok(None);
        };
        let (header, ttl) = match self.api.keyspace.lease_keep_alive(LeaseId(id)).await {
            Ok((header, ttl)) => (self.api.header(header), seconds(ttl)),
            Err(Error::LeaseNotFound { .. }) => (self.api.current().await?, 0),
            Err(error) => return Err(error::status(error)),
        };
        Ok(Some(pb::LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl,
        }))
    }
}

fn seconds(time: Duration) -> i64 {
    signed(time.as_secs())
}
