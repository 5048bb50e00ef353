//! Reads, writes and transactions, where they are etcd's and not the keyspace's own.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tidewatch_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use tidewatch_proto::etcdserverpb::response_op::Response;

use crate::rig::{
    Kv, TestServer, all, bytes, keys, op_delete, op_put, op_range, op_txn, put, range, success,
};

#[tokio::test]
async fn headers_name_the_keyspace_the_server_and_the_current_revision() {
    let (server, mut kv) = TestServer::start().await;
    let written = kv.put("/a", "1").await;
    let last = kv.put("/b", "1").await;
    let old = kv
        .range(pb::RangeRequest {
            revision: written,
            ..all()
        })
        .await;
    let header = old.header.unwrap();
    assert_eq!(keys(&old), ["/a"]);
    assert_eq!(header.revision, last, "also of a read at an older one");
    let mut maintenance = server.maintenance().await;
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let same = status.header.unwrap();
    assert_eq!(same, header);
    assert_eq!(
        (status.leader, status.raft_term),
        (header.member_id, header.raft_term)
    );
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
}

/// A read of everything, changed a little.
fn with(change: impl FnOnce(&mut pb::RangeRequest)) -> pb::RangeRequest {
    let mut request = all();
    change(&mut request);
    request
}

/// A read of everything, in an order.
fn sorted(target: SortTarget, order: SortOrder) -> pb::RangeRequest {
    with(|it| (it.sort_target, it.sort_order) = (target.into(), order.into()))
}

/// `/c` at 2, `/b` at 3, `/a` at 4, `/b` again at 5; values so that they sort as c, a, b.
async fn filled() -> (TestServer, Kv) {
    let (server, mut kv) = TestServer::start().await;
    for (key, value) in [("/c", "1"), ("/b", "0"), ("/a", "2"), ("/b", "3")] {
        kv.put(key, value).await;
    }
    (server, kv)
}

#[tokio::test]
async fn every_option_of_a_range() {
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{Create, Key, Mod, Value, Version};

    let (_server, mut kv) = filled().await;
    let cases: &[(&str, pb::RangeRequest, &[&str])] = &[
        ("all", all(), &["/a", "/b", "/c"]),
        ("one", range("/b", ""), &["/b"]),
        ("between", range("/a", "/c"), &["/a", "/b"]),
        ("from", range("/b", "\0"), &["/b", "/c"]),
        ("inverted", range("/c", "/a"), &[]),
        ("empty", range("/c", "/c"), &[]),
        ("limited", with(|it| it.limit = 2), &["/a", "/b"]),
        ("no limit", with(|it| it.limit = -1), &["/a", "/b", "/c"]),
        ("by key, down", sorted(Key, Descend), &["/c", "/b", "/a"]),
        ("by creation", sorted(Create, Ascend), &["/c", "/b", "/a"]),
        ("by version", sorted(Version, Descend), &["/b", "/a", "/c"]),
        ("by change", sorted(Mod, Ascend), &["/c", "/a", "/b"]),
        ("no order", sorted(Value, None), &["/c", "/a", "/b"]),
        ("changed since", with(|it| it.min_mod_revision = 4), &["/a", "/b"]),
        ("changed by", with(|it| it.max_mod_revision = 4), &["/a", "/c"]),
        ("changed never", with(|it| it.max_mod_revision = -1), &[]),
        (
            "created since",
            with(|it| it.min_create_revision = 3),
            &["/a", "/b"],
        ),
        ("created by", with(|it| it.max_create_revision = 3), &["/b", "/c"]),
        ("at a revision", with(|it| it.revision = 3), &["/b", "/c"]),
        ("cached", with(|it| it.serializable = true), &["/a", "/b", "/c"]),
    ];
    for (name, request, expected) in cases {
        let answer = kv.range(request.clone()).await;
        assert_eq!(keys(&answer), *expected, "{name}");
        assert_eq!(answer.more, request.limit == 2, "{name}");
    }
}

#[tokio::test]
async fn a_range_without_values_or_entries() {
    let (_server, mut kv) = filled().await;
    let count = kv.range(with(|it| it.count_only = true)).await;
    assert_eq!((count.count, count.kvs.len(), count.more), (3, 0, false));
    let names = kv.range(with(|it| it.keys_only = true)).await;
    assert_eq!(names.count, 3);
    assert!(
        names
            .kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.mod_revision > 0)
    );
}

#[tokio::test]
async fn a_write_keeps_what_it_is_told_to_and_returns_what_was_there() {
    let (server, mut kv) = TestServer::start().await;
    let granted = server
        .lease()
        .await
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 })
        .await;
    assert_eq!(granted.unwrap().into_inner().id, 7);
    let with_lease = pb::PutRequest {
        lease: 7,
        ..put("/a", "1")
    };
    kv.0.put(with_lease).await.unwrap();
    let keep_lease = pb::PutRequest {
        ignore_lease: true,
        prev_kv: true,
        ..put("/a", "2")
    };
    let prev = kv.0.put(keep_lease).await.unwrap().into_inner().prev_kv.unwrap();
    assert_eq!((&prev.value[..], prev.lease, prev.version), (&b"1"[..], 7, 1));
    let keep_value = pb::PutRequest {
        ignore_value: true,
        ..put("/a", "")
    };
    kv.0.put(keep_value).await.unwrap();
    let answer = kv.range(range("/a", "")).await;
    let now = &answer.kvs[0];
    assert_eq!((&now.value[..], now.lease, now.version), (&b"2"[..], 0, 3));
    let deleted = kv.0.delete_range(pb::DeleteRangeRequest {
        key: bytes("/"),
        range_end: bytes("\0"),
        prev_kv: true,
    });
    let deleted = deleted.await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (1, 1));
    assert_eq!(deleted.header.unwrap().revision, 5);
}

/// The revisions in the headers of a transaction's answers, nested ones in their place.
fn revisions(responses: &[pb::ResponseOp]) -> Vec<i64> {
    let of = |header: &Option<pb::ResponseHeader>| header.as_ref().unwrap().revision;
    let mut found = Vec::new();
    for response in responses {
        match response.response.as_ref().unwrap() {
            Response::ResponseRange(range) => found.push(of(&range.header)),
            Response::ResponsePut(put) => found.push(of(&put.header)),
            Response::ResponseDeleteRange(delete) => found.push(of(&delete.header)),
            Response::ResponseTxn(txn) => {
                found.push(of(&txn.header));
                found.extend(revisions(&txn.responses));
            }
        }
    }
    found
}

#[tokio::test]
async fn operations_of_a_transaction_tell_the_revision_they_saw() {
    let (_server, mut kv) = TestServer::start().await;
    kv.put("/a", "1").await;
    let nested = success(vec![op_range(all()), op_delete("/a", "")]);
    let answer = kv
        .txn(success(vec![
            op_range(all()),
            op_delete("/none", ""),
            op_txn(nested),
            op_range(all()),
            op_put("/b", "1"),
        ]))
        .await;
    assert_eq!(answer.header.unwrap().revision, 3);
    assert_eq!(revisions(&answer.responses), [2, 2, 0, 2, 3, 3, 3]);
    let reads = kv.txn(success(vec![op_range(all())])).await;
    assert_eq!(revisions(&reads.responses), [3]);
}

fn compare(
    key: &str,
    range_end: &str,
    result: CompareResult,
    target: CompareTarget,
    union: Option<TargetUnion>,
) -> pb::Compare {
    pb::Compare {
        key: bytes(key),
        range_end: bytes(range_end),
        result: result.into(),
        target: target.into(),
        target_union: union,
    }
}

#[tokio::test]
async fn compares_mean_what_they_mean_with_etcd() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};

    let (_server, mut kv) = TestServer::start().await;
    kv.put("/a", "m").await;
    kv.put("/b", "m").await;
    kv.put("/b", "n").await;
    let version = |n| Some(TargetUnion::Version(n));
    let value = |text: &str| Some(TargetUnion::Value(bytes(text)));
    let cases = [
        ("equal", compare("/a", "", Equal, Version, version(1)), true),
        (
            "a range, each",
            compare("/a", "/c", Greater, Version, version(0)),
            true,
        ),
        (
            "a range, not each",
            compare("/a", "/c", Equal, Version, version(1)),
            false,
        ),
        (
            "from a key on",
            compare("/b", "\0", Equal, Value, value("n")),
            true,
        ),
        ("an absent key", compare("/x", "", Equal, Create, None), true),
        (
            "an absent key's value",
            compare("/x", "", NotEqual, Value, value("m")),
            false,
        ),
        (
            "an inverted range is absent",
            compare("/b", "/a", Equal, Version, version(0)),
            true,
        ),
        (
            "an inverted range's value",
            compare("/b", "/a", Equal, Value, value("")),
            false,
        ),
        (
            "less than a constant below zero",
            compare("/a", "", Less, Mod, Some(TargetUnion::ModRevision(-1))),
            false,
        ),
        (
            "more than a constant below zero",
            compare("/x", "", Greater, Mod, Some(TargetUnion::ModRevision(-1))),
            true,
        ),
        (
            "not a lease below zero",
            compare("/a", "", NotEqual, Lease, Some(TargetUnion::Lease(-5))),
            true,
        ),
        (
            "without a lease",
            compare("/a", "", Equal, Lease, Some(TargetUnion::Lease(0))),
            true,
        ),
        (
            "a constant of another kind counts as 0",
            compare("/a", "", Greater, Mod, version(99)),
            true,
        ),
    ];
    for (name, compare, holds) in cases {
        let txn = pb::TxnRequest {
            compare: vec![compare],
            ..pb::TxnRequest::default()
        };
        assert_eq!(kv.txn(txn).await.succeeded, holds, "{name}");
    }
}

#[tokio::test]
async fn a_compaction_is_told_as_etcd_tells_it() {
    let (_server, mut kv) = TestServer::start().await;
    for value in ["1", "2", "3"] {
        kv.put("/a", value).await;
    }
    kv.compact(3).await.unwrap();
    let old = pb::RangeRequest { revision: 2, ..all() };
    let refused = kv.0.range(old.clone()).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
    let nested = kv.0.txn(success(vec![op_range(old)])).await.unwrap_err();
    assert_eq!(
        (nested.code(), nested.message()),
        (refused.code(), refused.message())
    );
    let kept = pb::RangeRequest { revision: 3, ..all() };
    assert_eq!(kv.range(kept).await.kvs[0].value, bytes("2"));
}
