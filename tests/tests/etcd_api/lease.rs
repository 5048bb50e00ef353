//! Leases.

use tidewatch_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::rig::{TestServer, all, put, within};

#[tokio::test]
async fn a_lease_lives_as_long_as_etcd_would_let_it() {
    let (server, _kv) = TestServer::start().await;
    let mut lease = server.lease().await;
    let mut ids = Vec::new();
    for (asked, granted) in [(-1, 2), (0, 2), (1, 2), (3600, 3600)] {
        let answer = lease
            .lease_grant(pb::LeaseGrantRequest { ttl: asked, id: 0 })
            .await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.ttl, granted);
        assert!(answer.id > 0);
        ids.push(answer.id);
    }
    let all = lease
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    // The short ones may be over already.
    let listed: Vec<_> = all.leases.iter().map(|lease| lease.id).collect();
    assert!(listed.contains(&ids[3]), "{listed:?} of {ids:?}");
    assert!(listed.iter().all(|id| ids.contains(id)), "{listed:?} of {ids:?}");
}

#[tokio::test]
async fn a_lease_that_is_not_there_is_a_number_or_an_error_as_with_etcd() {
    let (server, _kv) = TestServer::start().await;
    let mut lease = server.lease().await;
    let info = lease
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 9, keys: true })
        .await;
    let info = info.unwrap().into_inner();
    assert_eq!((info.id, info.ttl, info.header.unwrap().revision), (9, -1, 1));
    let revoked = lease
        .lease_revoke(pb::LeaseRevokeRequest { id: 9 })
        .await
        .unwrap_err();
    assert_eq!(
        (revoked.code(), revoked.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 9 }]);
    let mut answers = lease.lease_keep_alive(requests).await.unwrap().into_inner();
    let answer = within("an answer", answers.message()).await.unwrap().unwrap();
    assert_eq!((answer.id, answer.ttl), (9, 0));
    let end = within("the end", answers.message()).await.unwrap();
    assert!(end.is_none(), "the client had no more: {end:?}");
}

#[tokio::test]
async fn keys_go_with_their_lease() {
    let (server, mut kv) = TestServer::start().await;
    let mut lease = server.lease().await;
    lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 5 })
        .await
        .unwrap();
    for key in ["/a", "/b"] {
        let attached = pb::PutRequest {
            lease: 5,
            ..put(key, "1")
        };
        kv.0.put(attached).await.unwrap();
    }
    let info = lease
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 5, keys: true })
        .await;
    let info = info.unwrap().into_inner();
    assert_eq!(info.keys, ["/a", "/b"]);
    assert!(
        info.granted_ttl == 60 && info.ttl > 0 && info.ttl <= 60,
        "{info:?}"
    );
    let revoked = lease
        .lease_revoke(pb::LeaseRevokeRequest { id: 5 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.header.unwrap().revision, 4, "both at one revision");
    assert_eq!(kv.range(all()).await.count, 0);
}

#[tokio::test]
async fn a_keep_alive_that_waits_for_its_client_ends_when_the_server_drains() {
    let (mut server, _kv) = TestServer::start().await;
    let mut lease = server.lease().await;
    lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 5 })
        .await
        .unwrap();
    let (requests, sent) = mpsc::channel(1);
    requests.send(pb::LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    let answers = lease.lease_keep_alive(ReceiverStream::new(sent)).await;
    let mut answers = answers.unwrap().into_inner();
    let answer = within("an answer", answers.message()).await.unwrap().unwrap();
    assert_eq!(answer.ttl, 60);
    server.drain();
    let end = within("the end", answers.message()).await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    server.stop().await.unwrap();
}
