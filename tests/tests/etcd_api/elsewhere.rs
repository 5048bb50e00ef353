//! What is looked at, and what is not there.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::auth_client::AuthClient;
use tonic::{Code, Status};

use crate::rig::{TestServer, durable};

#[tokio::test]
async fn the_only_member_is_the_server_and_is_where_it_listens() {
    let (server, _kv) = TestServer::start().await;
    let list = server
        .cluster()
        .await
        .member_list(pb::MemberListRequest::default())
        .await;
    let list = list.unwrap().into_inner();
    let [member] = &list.members[..] else {
        panic!("{list:?}");
    };
    assert_eq!(member.id, list.header.unwrap().member_id);
    assert_eq!(member.client_ur_ls, [format!("http://{}", server.addr)]);
}

#[tokio::test]
async fn ids_survive_a_restart_and_the_hash_is_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut kv) = TestServer::with(durable(dir.path())).await;
    kv.put("/a", "1").await;
    kv.put("/b", "1").await;
    let hash_at = |revision| pb::HashKvRequest { revision };
    let first = server
        .maintenance()
        .await
        .hash_kv(hash_at(0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((first.hash_revision, first.compact_revision), (3, -1));
    let older = server
        .maintenance()
        .await
        .hash_kv(hash_at(2))
        .await
        .unwrap()
        .into_inner();
    assert_ne!(older.hash, first.hash);
    server.stop().await.unwrap();

    let (server, mut kv) = TestServer::with(durable(dir.path())).await;
    let again = server
        .maintenance()
        .await
        .hash_kv(hash_at(0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first, "ids, revision and hash");
    kv.put("/b", "2").await;
    kv.compact(4).await.unwrap();
    let changed = server
        .maintenance()
        .await
        .hash(pb::HashRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_ne!(changed.hash, first.hash);
    let gone = server.maintenance().await.hash_kv(hash_at(2)).await.unwrap_err();
    assert_eq!(
        gone.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
}

#[tokio::test]
async fn what_is_not_there_says_what_to_do_instead() {
    let (server, _kv) = TestServer::start().await;
    let channel = server.channel().await;
    let mut auth = AuthClient::new(channel);
    let mut maintenance = server.maintenance().await;
    let mut cluster = server.cluster().await;
    let said = |status: Status| {
        assert_eq!(status.code(), Code::Unimplemented);
        status.message().to_owned()
    };
    let snapshot = said(maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap_err());
    assert!(snapshot.contains("tidewatch backup"), "{snapshot}");
    for message in [
        said(
            maintenance
                .defragment(pb::DefragmentRequest {})
                .await
                .unwrap_err(),
        ),
        said(
            maintenance
                .move_leader(pb::MoveLeaderRequest::default())
                .await
                .unwrap_err(),
        ),
        said(
            maintenance
                .downgrade(pb::DowngradeRequest::default())
                .await
                .unwrap_err(),
        ),
        said(
            cluster
                .member_add(pb::MemberAddRequest::default())
                .await
                .unwrap_err(),
        ),
        said(
            auth.user_add(pb::AuthUserAddRequest::default())
                .await
                .unwrap_err(),
        ),
        said(auth.role_list(pb::AuthRoleListRequest {}).await.unwrap_err()),
    ] {
        assert!(
            message.starts_with("etcdserver: ") && message.len() > 40,
            "{message}"
        );
    }
    let alarms = maintenance.alarm(pb::AlarmRequest::default()).await.unwrap();
    assert!(alarms.into_inner().alarms.is_empty());
    assert!(
        !auth
            .auth_status(pb::AuthStatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .enabled
    );
    // Clients that were given a user ask this first, and go on without one when they hear it.
    let login = auth
        .authenticate(pb::AuthenticateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(login.message(), "etcdserver: authentication is not enabled");
}
