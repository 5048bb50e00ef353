//! `etcdserverpb.Maintenance`: how the server is.

mod hash;

use futures_util::stream::BoxStream;
use tidewatch_core::Revision;
use tidewatch_proto::etcdserverpb as pb;
use tonic::{Request, Status};

use crate::api::{Answer, EtcdApi, signed};
use crate::error;

/// The version of etcd whose behaviour this has. Clients decide by it what they may rely on, above all
/// whether reports of progress can be trusted, which they can from 3.4.31 and 3.5.13 on.
const VERSION: &str = "3.6.0";

/// The same where watches may [never come](tidewatch_core::Backend::tells_progress) to what a read has shown: one
/// with which no client waits for that.
const VERSION_WITHOUT_PROGRESS: &str = "3.5.12";

/// Where etcd tells the version of its storage. By it a Tidewatch whose upstream this is knows that the cluster's id is the
/// keyspace's.
const STORAGE: &str = "tidewatch";

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceService {
    pub(crate) api: EtcdApi,
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        let status = self.api.keyspace.status().await.map_err(error::status)?;
        let header = self.api.header_of(&status);
        let tells_progress = self.api.keyspace.backend().tells_progress();
        let version = if tells_progress {
            VERSION
        } else {
            VERSION_WITHOUT_PROGRESS
        };
        Ok(pb::StatusResponse {
            version: version.into(),
            db_size: signed(status.bytes),
            leader: header.member_id,
            raft_index: status.revision.0,
            raft_term: header.raft_term,
            raft_applied_index: status.dispatched.0,
            db_size_in_use: signed(status.bytes),
            storage_version: STORAGE.into(),
            db_size_quota: signed(status.quota),
            header: Some(header),
            ..pb::StatusResponse::default()
        }
        .into())
    }

    /// A full keyspace refuses what would make it grow and nothing else, so there is no alarm that has
    /// to be raised or put out.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Answer<pb::AlarmResponse> {
        if request.into_inner().action == i32::from(pb::alarm_request::AlarmAction::Activate) {
            return Err(error::unimplemented(
                "Tidewatch has no alarms; a full keyspace says so when it is written to",
            ));
        }
        Ok(pb::AlarmResponse {
            header: Some(self.api.current().await?),
            alarms: Vec::new(),
        }
        .into())
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Answer<pb::HashResponse> {
        let hashed = hash::of(&self.api.keyspace, None).await.map_err(error::status)?;
        Ok(pb::HashResponse {
            header: Some(self.api.header(hashed.header)),
            hash: hashed.hash,
        }
        .into())
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Answer<pb::HashKvResponse> {
        let revision = u64::try_from(request.into_inner().revision).unwrap_or_default();
        let revision = (revision > 0).then_some(Revision(revision));
        let hashed = hash::of(&self.api.keyspace, revision)
            .await
            .map_err(error::status)?;
        let status = self.api.keyspace.status().await.map_err(error::status)?;
        let compacted = status.oldest > Revision::INITIAL;
        Ok(pb::HashKvResponse {
            header: Some(self.api.header(hashed.header)),
            hash: hashed.hash,
            compact_revision: if compacted { signed(status.oldest.0) } else { -1 },
            hash_revision: signed(hashed.revision.0),
        }
        .into())
    }

    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Answer<pb::DefragmentResponse> {
        Err(error::unimplemented(
            "there is nothing to defragment; Tidewatch uses again what compaction sets free",
        ))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Answer<Self::SnapshotStream> {
        Err(error::unimplemented(
            "there is no etcd database to send; use `tidewatch backup FILE` instead",
        ))
    }

    async fn move_leader(&self, _: Request<pb::MoveLeaderRequest>) -> Answer<pb::MoveLeaderResponse> {
        Err(error::unimplemented(
            "there is no leader to move; every Tidewatch server answers for itself",
        ))
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Answer<pb::DowngradeResponse> {
        Err(error::unimplemented(
            "there is no cluster to downgrade; stop the server and start the other version",
        ))
    }
}
