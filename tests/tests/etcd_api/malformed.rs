//! What makes no sense gets etcd's answer to it.

use bytes::Bytes;
use tidewatch_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use crate::rig::{TestServer, all, op_delete, op_put, op_range, op_txn, put, range, success};

#[track_caller]
fn assert_says<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn writes_and_reads() {
    let (_server, mut kv) = TestServer::start().await;
    let kv = &mut kv.0;
    let empty = "etcdserver: key is not provided";
    assert_says(kv.put(put("", "1")).await, Code::InvalidArgument, empty);
    assert_says(kv.range(range("", "/b")).await, Code::InvalidArgument, empty);
    let delete = pb::DeleteRangeRequest::default();
    assert_says(kv.delete_range(delete).await, Code::InvalidArgument, empty);
    let large = pb::PutRequest {
        value: Bytes::from(vec![b'x'; 2 << 20]),
        ..put("/a", "")
    };
    assert_says(
        kv.put(large).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let beyond = pb::PutRequest {
        value: Bytes::from(vec![b'x'; 5 << 20]),
        ..put("/a", "")
    };
    let refused = kv.put(beyond.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let nested = success(vec![pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(beyond)),
    }]);
    let refused = kv.txn(nested).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let leased = pb::PutRequest {
        lease: 404,
        ..put("/a", "1")
    };
    assert_says(
        kv.put(leased).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    for (request, text) in [
        (
            pb::PutRequest {
                ignore_value: true,
                ..put("/a", "1")
            },
            "etcdserver: value is provided",
        ),
        (
            pb::PutRequest {
                ignore_lease: true,
                lease: 1,
                ..put("/a", "1")
            },
            "etcdserver: lease is provided",
        ),
        (
            pb::PutRequest {
                ignore_value: true,
                ..put("/a", "")
            },
            "etcdserver: key not found",
        ),
    ] {
        assert_says(kv.put(request).await, Code::InvalidArgument, text);
    }
    for request in [
        pb::RangeRequest {
            sort_order: 9,
            ..all()
        },
        pb::RangeRequest {
            sort_target: -1,
            ..all()
        },
    ] {
        assert_says(
            kv.range(request).await,
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        );
    }
    let future = pb::RangeRequest {
        revision: 99,
        ..all()
    };
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_says(kv.range(future).await, Code::OutOfRange, text);
    let after_all = kv.range(all()).await.unwrap().into_inner();
    assert_eq!(after_all.header.unwrap().revision, 1, "nothing of it was written");
}

#[tokio::test]
async fn transactions() {
    let (_server, mut kv) = TestServer::start().await;
    let kv = &mut kv.0;
    let many = success((0..129).map(|n| op_put(&format!("/{n}"), "1")).collect());
    let text = "etcdserver: too many operations in txn request";
    assert_says(kv.txn(many).await, Code::InvalidArgument, text);
    let twice = "etcdserver: duplicate key given in txn request";
    for ops in [
        vec![op_put("/a", "1"), op_put("/a", "2")],
        vec![op_put("/a", "1"), op_delete("/", "0")],
        vec![op_put("/a", "1"), op_txn(success(vec![op_put("/a", "2")]))],
    ] {
        assert_says(kv.txn(success(ops)).await, Code::InvalidArgument, twice);
    }
    let mut alike = success(vec![op_put("/a", "1")]);
    alike.failure = vec![op_put("/a", "2")];
    kv.txn(alike).await.unwrap();
    let nothing = success(vec![pb::RequestOp::default()]);
    assert_says(
        kv.txn(nothing).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let unnamed = pb::TxnRequest {
        compare: vec![pb::Compare::default()],
        ..pb::TxnRequest::default()
    };
    assert_says(
        kv.txn(unnamed).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let inverted = success(vec![op_delete("/b", "/a"), op_range(range("/b", "/a"))]);
    assert!(kv.txn(inverted).await.is_ok(), "an inverted range holds nothing");
}

#[tokio::test]
async fn compactions_and_leases() {
    let (server, mut kv) = TestServer::start().await;
    kv.put("/a", "1").await;
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_says(kv.compact(99).await, Code::OutOfRange, future);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_says(kv.compact(-1).await, Code::OutOfRange, compacted);
    kv.compact(2).await.unwrap();
    assert_says(kv.compact(2).await, Code::OutOfRange, compacted);
    let mut lease = server.lease().await;
    let grant = |ttl, id| pb::LeaseGrantRequest { ttl, id };
    let text = "etcdserver: too large lease TTL";
    assert_says(
        lease.lease_grant(grant(i64::MAX, 0)).await,
        Code::OutOfRange,
        text,
    );
    lease.lease_grant(grant(60, 7)).await.unwrap();
    let text = "etcdserver: lease already exists";
    assert_says(
        lease.lease_grant(grant(60, 7)).await,
        Code::FailedPrecondition,
        text,
    );
}
