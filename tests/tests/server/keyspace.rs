//! `tidewatch.v1.Keyspace`: every call, and what becomes of bad input.

use tidewatch_core::Error;
use tidewatch_core::limits::{MAX_KEY_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_proto::{error, v1};
use tidewatch_server::{Config, Limits};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::rig::{TestServer, config, key, prefix, put};

fn range(range: v1::KeyRange) -> v1::RangeRequest {
    v1::RangeRequest {
        range: Some(range),
        ..v1::RangeRequest::default()
    }
}

fn get(key: &str) -> v1::GetRequest {
    v1::GetRequest {
        key: key.to_owned().into(),
        ..v1::GetRequest::default()
    }
}

fn op(op: v1::op::Op) -> v1::Op {
    v1::Op { op: Some(op) }
}

fn keys(response: &v1::RangeResponse) -> Vec<&str> {
    response
        .kvs
        .iter()
        .map(|kv| std::str::from_utf8(&kv.key).unwrap())
        .collect()
}

#[tokio::test]
async fn what_was_put_is_read_back_with_its_revisions() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let first = client
        .put(put("/a", "1"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    let second = v1::PutRequest {
        prev_kv: true,
        ..put("/a", "2")
    };
    let second = client.put(second).await.unwrap().into_inner();
    assert_eq!(second.prev_kv.unwrap().value, "1");
    let second = second.header.unwrap();
    assert_eq!(second.revision, first.revision + 1);
    assert_eq!(second.keyspace_id, first.keyspace_id);

    let kv = client.get(get("/a")).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((kv.value.as_ref(), kv.version), (&b"2"[..], 2));
    assert_eq!(
        (kv.create_revision, kv.mod_revision),
        (first.revision, second.revision)
    );
    let old = v1::GetRequest {
        revision: Some(first.revision),
        ..get("/a")
    };
    assert_eq!(client.get(old).await.unwrap().into_inner().kv.unwrap().value, "1");
    assert!(client.get(get("/b")).await.unwrap().into_inner().kv.is_none());
}

#[tokio::test]
async fn a_range_is_limited_counted_sorted_and_stripped_as_asked() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    for name in ["/a/1", "/a/2", "/a/3", "/b"] {
        client.put(put(name, name)).await.unwrap();
    }
    let all = client.range(range(prefix("/a/"))).await.unwrap().into_inner();
    assert_eq!(
        (keys(&all), all.more, all.count),
        (vec!["/a/1", "/a/2", "/a/3"], false, 3)
    );
    let newest = v1::RangeRequest {
        limit: Some(2),
        sort_by: v1::SortBy::Mod.into(),
        sort_descending: true,
        keys_only: true,
        ..range(prefix("/a/"))
    };
    let newest = client.range(newest).await.unwrap().into_inner();
    assert_eq!(
        (keys(&newest), newest.more, newest.count),
        (vec!["/a/3", "/a/2"], true, 3)
    );
    assert!(newest.kvs.iter().all(|kv| kv.value.is_empty()));
    let count = v1::RangeRequest {
        count_only: true,
        ..range(prefix("/a/"))
    };
    let count = client.range(count).await.unwrap().into_inner();
    assert_eq!((count.kvs.len(), count.count), (0, 3));
}

#[tokio::test]
async fn deleting_tells_how_many_and_what_they_were() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    client.put(put("/a/1", "x")).await.unwrap();
    let before = client
        .put(put("/a/2", "y"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    let request = v1::DeleteRequest {
        range: Some(prefix("/a/")),
        prev_kv: true,
    };
    let deleted = client.delete(request.clone()).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (2, 2));
    assert_eq!(deleted.header.unwrap().revision, before.revision + 1);
    let nothing = client.delete(request).await.unwrap().into_inner();
    assert_eq!((nothing.deleted, nothing.header), (0, deleted.header));
}

#[tokio::test]
async fn a_transaction_takes_the_branch_its_compares_say() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let txn = v1::TxnRequest {
        compares: vec![v1::Compare {
            range: Some(key("/lock")),
            op: v1::CompareOp::Equal.into(),
            target: Some(v1::compare::Target::CreateRevision(0)),
        }],
        then: vec![
            op(v1::op::Op::Put(put("/lock", "mine"))),
            op(v1::op::Op::Range(range(key("/lock")))),
        ],
        otherwise: vec![op(v1::op::Op::Range(range(key("/lock"))))],
    };
    let won = client.txn(txn.clone()).await.unwrap().into_inner();
    assert!(won.succeeded);
    assert_eq!(won.responses.len(), 2);
    let lost = client.txn(txn).await.unwrap().into_inner();
    assert!(!lost.succeeded);
    let Some(v1::op_response::Response::Range(read)) = &lost.responses[0].response else {
        panic!("{lost:?}")
    };
    assert_eq!(read.kvs[0].value, "mine");
    assert_eq!(won.header, lost.header);
}

#[tokio::test]
async fn a_lease_lives_lists_its_keys_and_takes_them_along() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let grant = v1::LeaseGrantRequest {
        id: Some(7),
        ttl_ms: 60_000,
    };
    let granted = client.lease_grant(grant).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl_ms), (7, 60_000));
    let attached = v1::PutRequest {
        lease: Some(7),
        ..put("/alive", "")
    };
    client.put(attached).await.unwrap();
    let alive = client
        .lease_keep_alive(v1::LeaseKeepAliveRequest { id: 7 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(alive.ttl_ms, 60_000);
    let info = client
        .lease_time_to_live(v1::LeaseTimeToLiveRequest { id: 7 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.granted_ms, info.keys), (60_000, vec!["/alive".into()]));
    assert!(info.remaining_ms <= 60_000);
    let list = client
        .lease_list(v1::LeaseListRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.ids, [7]);
    client
        .lease_revoke(v1::LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    assert!(client.get(get("/alive")).await.unwrap().into_inner().kv.is_none());
}

#[tokio::test]
async fn compaction_refuses_older_reads_and_tells_the_oldest_one() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    client.put(put("/a", "1")).await.unwrap();
    let revision = client
        .put(put("/a", "2"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision;
    client.compact(v1::CompactRequest { revision }).await.unwrap();
    let old = v1::GetRequest {
        revision: Some(revision - 1),
        ..get("/a")
    };
    let status = client.get(old).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let Some(Error::Compacted { requested, oldest }) = error::from_status(&status) else {
        panic!("{status}")
    };
    assert_eq!((requested.0, oldest.0), (revision - 1, revision));
}

/// The code, and something the message must say.
fn check(result: Result<impl std::fmt::Debug, Status>, code: Code, says: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(
        status.message().contains(says),
        "{:?} does not say {says:?}",
        status.message()
    );
    assert!(error::info(&status).is_some(), "{status} has no details");
}

#[tokio::test]
async fn each_bad_input_has_its_status_and_says_what_is_wrong() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    check(
        client.put(put("", "x")).await,
        Code::InvalidArgument,
        "it is empty",
    );
    check(client.get(get("")).await, Code::InvalidArgument, "it is empty");
    check(
        client.put(put(&long, "x")).await,
        Code::InvalidArgument,
        "longer than 4096 bytes",
    );
    check(
        client.put(put("/a", vec![0; MAX_VALUE_BYTES + 1])).await,
        Code::InvalidArgument,
        "1048577 bytes, at most 1048576",
    );
    let two_large = vec![0_u8; MAX_VALUE_BYTES];
    let txn = |then| v1::TxnRequest {
        then,
        ..v1::TxnRequest::default()
    };
    let put_op = |key: &str, value: Vec<u8>| op(v1::op::Op::Put(put(key, value)));
    check(
        client
            .txn(txn(vec![
                put_op("/a", two_large.clone()),
                put_op("/b", two_large),
            ]))
            .await,
        Code::InvalidArgument,
        "at most 1572864",
    );
    let many = (0..=MAX_TXN_OPS)
        .map(|n| put_op(&format!("/{n}"), vec![]))
        .collect();
    check(
        client.txn(txn(many)).await,
        Code::InvalidArgument,
        "129 operations, at most 128",
    );
    check(
        client
            .txn(txn(vec![put_op("/a", vec![]), put_op("/a", vec![])]))
            .await,
        Code::InvalidArgument,
        "twice",
    );
    check(
        client.range(v1::RangeRequest::default()).await,
        Code::InvalidArgument,
        "it is missing",
    );
    let inverted = v1::KeyRange {
        start: "b".into(),
        end: Some(v1::key_range::End::Before("a".into())),
    };
    check(
        client.range(range(inverted)).await,
        Code::InvalidArgument,
        "is not after",
    );
    check_nothing_was_written(&mut client).await;
}

#[tokio::test]
async fn what_does_not_fit_the_state_has_its_status_too() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let future = v1::GetRequest {
        revision: Some(99),
        ..get("/a")
    };
    check(client.get(future).await, Code::OutOfRange, "is in the future");
    check(
        client.compact(v1::CompactRequest { revision: 99 }).await,
        Code::OutOfRange,
        "future",
    );
    let kept = v1::PutRequest {
        ignore_value: true,
        ..put("/none", "")
    };
    check(client.put(kept).await, Code::NotFound, "not found");
    let leased = v1::PutRequest {
        lease: Some(5),
        ..put("/a", "")
    };
    check(client.put(leased).await, Code::NotFound, "lease 5 not found");
    check(
        client.lease_revoke(v1::LeaseRevokeRequest { id: 5 }).await,
        Code::NotFound,
        "lease 5",
    );
    check(
        client.lease_keep_alive(v1::LeaseKeepAliveRequest { id: 5 }).await,
        Code::NotFound,
        "lease 5",
    );
    check(
        client
            .lease_time_to_live(v1::LeaseTimeToLiveRequest { id: 5 })
            .await,
        Code::NotFound,
        "lease 5",
    );
    let grant = |id, ttl_ms| v1::LeaseGrantRequest { id, ttl_ms };
    check(
        client.lease_grant(grant(None, 10)).await,
        Code::InvalidArgument,
        "",
    );
    check(
        client.lease_grant(grant(Some(-1), 10_000)).await,
        Code::InvalidArgument,
        "",
    );
    client.lease_grant(grant(Some(5), 10_000)).await.unwrap();
    check(
        client.lease_grant(grant(Some(5), 10_000)).await,
        Code::AlreadyExists,
        "exists already",
    );

    check_nothing_was_written(&mut client).await;
}

async fn check_nothing_was_written(client: &mut KeyspaceClient<Channel>) {
    let header = client.get(get("/a")).await.unwrap().into_inner().header.unwrap();
    assert_eq!(header.revision, 1, "something was written");
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_before_it_is_read() {
    let server = TestServer::with(Config {
        limits: Limits {
            max_request_bytes: 1024,
            ..Limits::default()
        },
        ..config()
    })
    .await;
    let mut client = server.keyspace().await;
    let status = client.put(put("/a", vec![0; 2048])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    client.put(put("/a", vec![0; 512])).await.unwrap();
}

#[tokio::test]
async fn a_full_keyspace_refuses_growth_and_takes_deletions() {
    let mut config = config();
    config.keyspace.quota_bytes = 1000;
    let server = TestServer::with(config).await;
    let mut client = server.keyspace().await;
    client.put(put("/a", vec![0; 600])).await.unwrap();
    check(
        client.put(put("/b", vec![0; 600])).await,
        Code::ResourceExhausted,
        "full",
    );
    client.get(get("/a")).await.unwrap();
    let request = v1::DeleteRequest {
        range: Some(key("/a")),
        prev_kv: false,
    };
    client.delete(request).await.unwrap();
    client.put(put("/b", vec![0; 600])).await.unwrap();
}

#[tokio::test]
async fn a_range_larger_than_an_answer_may_be_is_refused_and_its_pages_are_not() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await.max_decoding_message_size(64 << 20);
    for n in 0..64 {
        let value = vec![0; MAX_VALUE_BYTES];
        client.put(put(&format!("/large/{n:02}"), value)).await.unwrap();
    }
    check(
        client.range(range(prefix("/large/"))).await,
        Code::ResourceExhausted,
        "ask for fewer entries at a time",
    );
    let page = v1::RangeRequest {
        limit: Some(63),
        ..range(prefix("/large/"))
    };
    let page = client.range(page).await.unwrap().into_inner();
    assert_eq!((page.kvs.len(), page.more), (63, true));
}
