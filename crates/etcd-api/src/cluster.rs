//! `etcdserverpb.Cluster`: the one member there is.

use tidewatch_proto::etcdserverpb as pb;
use tonic::{Request, Status};

use crate::api::{Answer, EtcdApi};
use crate::error;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct ClusterService {
    pub(crate) api: EtcdApi,
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_list(&self, _: Request<pb::MemberListRequest>) -> Answer<pb::MemberListResponse> {
        let member = &self.api.member;
        Ok(pb::MemberListResponse {
            header: Some(self.api.current().await?),
            members: vec![pb::Member {
                id: member.id,
                name: member.name.clone(),
                client_ur_ls: member.client_urls.clone(),
                ..pb::Member::default()
            }],
        }
        .into())
    }

    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Answer<pb::MemberAddResponse> {
        Err(no_members())
    }

    async fn member_remove(&self, _: Request<pb::MemberRemoveRequest>) -> Answer<pb::MemberRemoveResponse> {
        Err(no_members())
    }

    async fn member_update(&self, _: Request<pb::MemberUpdateRequest>) -> Answer<pb::MemberUpdateResponse> {
        Err(no_members())
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::MemberPromoteResponse> {
        Err(no_members())
    }
}

fn no_members() -> Status {
    error::unimplemented(
        "this Tidewatch server has no members to change; start further servers on the same etcd instead",
    )
}
