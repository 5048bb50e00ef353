//! `tidewatch.v1.Watch`: the watch contract over gRPC.

use std::time::Duration;

use tidewatch_proto::v1;
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_proto::v1::watch_ended::Reason;
use tidewatch_proto::v1::watch_response::Response as Said;
use tonic::transport::Channel;

use crate::rig::{Message, TestServer, key, prefix, put, put_in, watch, within};

async fn delete(client: &mut KeyspaceClient<Channel>, range: v1::KeyRange) -> u64 {
    let request = v1::DeleteRequest {
        range: Some(range),
        prev_kv: false,
    };
    client
        .delete(request)
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision
}

fn names(events: &[v1::Event]) -> Vec<String> {
    let name = |event: &v1::Event| String::from_utf8(event.kv.as_ref().unwrap().key.to_vec()).unwrap();
    events.iter().map(name).collect()
}

#[tokio::test]
async fn created_comes_first_and_what_was_before_it_never() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let before = put_in(&mut client, "/a", "old").await;
    let mut call = server.watch(watch(key("/a"))).await;
    let created = call.created().await;
    assert_eq!(created.revision, before);
    let revision = put_in(&mut client, "/a", "new").await;
    let events = call.events().await;
    assert_eq!((events.revision, events.partial), (revision, false));
    assert!(events.time.is_some());
    let kv = events.events[0].kv.as_ref().unwrap();
    assert_eq!((kv.value.as_ref(), kv.version), (&b"new"[..], 2));
}

#[tokio::test]
async fn a_snapshot_begins_shows_all_ends_and_is_followed_by_what_happens_next() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    put_in(&mut client, "/a/1", "x").await;
    let boundary = put_in(&mut client, "/a/2", "y").await;
    let request = v1::WatchRequest {
        snapshot: true,
        ..watch(prefix("/a/"))
    };
    let mut call = server.watch(request).await;
    assert_eq!(call.created().await.revision, boundary);
    assert!(
        matches!(call.next().await, Message::Said(Said::SnapshotBegin(begin)) if begin.revision == boundary)
    );
    let mut keys = Vec::new();
    loop {
        match call.next().await {
            Message::Said(Said::Snapshot(part)) => keys.extend(part.kvs.into_iter().map(|kv| kv.key)),
            Message::Said(Said::SnapshotEnd(end)) => {
                assert_eq!(end.revision, boundary);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(keys, ["/a/1", "/a/2"]);
    let next = put_in(&mut client, "/a/3", "z").await;
    assert_eq!(call.events().await.revision, next);
}

#[tokio::test]
async fn prev_kv_tells_not_asked_absent_and_present_apart() {
    use v1::event::Prev;

    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let asked = v1::WatchRequest {
        prev_kv: true,
        ..watch(key("/a"))
    };
    let mut asking = server.watch(asked).await;
    let mut other = server.watch(watch(key("/a"))).await;
    asking.created().await;
    other.created().await;
    put_in(&mut client, "/a", "1").await;
    put_in(&mut client, "/a", "2").await;
    delete(&mut client, key("/a")).await;
    assert_eq!(asking.events().await.events[0].prev, Some(Prev::PrevAbsent(true)));
    for value in ["1", "2"] {
        match asking.events().await.events[0].prev.clone() {
            Some(Prev::PrevKv(kv)) => assert_eq!(kv.value, value),
            prev => panic!("{prev:?}"),
        }
    }
    for _ in 0..3 {
        assert_eq!(other.events().await.events[0].prev, None);
    }
}

#[tokio::test]
async fn filters_hold_back_what_they_name_and_values() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let deletes = v1::WatchRequest {
        no_put: true,
        ..watch(prefix("/a/"))
    };
    let keys = v1::WatchRequest {
        keys_only: true,
        no_delete: true,
        ..watch(prefix("/a/"))
    };
    let (mut deletes, mut keys) = (server.watch(deletes).await, server.watch(keys).await);
    deletes.created().await;
    keys.created().await;
    put_in(&mut client, "/a/1", "x").await;
    put_in(&mut client, "/b", "elsewhere").await;
    let gone_at = delete(&mut client, key("/a/1")).await;
    let last = put_in(&mut client, "/a/2", "y").await;
    let only = deletes.events().await;
    assert_eq!(
        (only.revision, only.events[0].kind()),
        (gone_at, v1::EventKind::Delete)
    );
    let first = keys.events().await;
    assert!(first.events[0].kv.as_ref().unwrap().value.is_empty());
    assert_eq!(keys.events().await.revision, last);
}

#[tokio::test]
async fn several_ranges_deliver_an_event_of_both_once() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let request = v1::WatchRequest {
        ranges: vec![prefix("/a/"), key("/a/1"), key("/b")],
        ..v1::WatchRequest::default()
    };
    let mut call = server.watch(request).await;
    call.created().await;
    put_in(&mut client, "/a/1", "x").await;
    put_in(&mut client, "/b", "y").await;
    assert_eq!(names(&call.events().await.events), ["/a/1"]);
    assert_eq!(names(&call.events().await.events), ["/b"]);
}

#[tokio::test]
async fn a_transaction_is_one_message_in_its_order() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let mut call = server.watch(watch(prefix("/a/"))).await;
    call.created().await;
    let put_op = |name: &str| v1::Op {
        op: Some(v1::op::Op::Put(put(name, "x"))),
    };
    let txn = v1::TxnRequest {
        then: vec![put_op("/a/z"), put_op("/other"), put_op("/a/b")],
        ..v1::TxnRequest::default()
    };
    let revision = client
        .txn(txn)
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap()
        .revision;
    let events = call.events().await;
    assert_eq!((events.revision, events.partial), (revision, false));
    assert_eq!(names(&events.events), ["/a/z", "/a/b"]);
}

#[tokio::test]
async fn a_revision_larger_than_a_message_travels_in_partial_pieces() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    for n in 0..10 {
        put_in(&mut client, &format!("/big/{n}"), vec![n; 1 << 20]).await;
    }
    let request = v1::WatchRequest {
        prev_kv: true,
        ..watch(prefix("/big/"))
    };
    let mut call = server.watch(request).await;
    call.created().await;
    let revision = delete(&mut client, prefix("/big/")).await;
    let mut pieces = Vec::new();
    loop {
        let events = call.events().await;
        assert_eq!(events.revision, revision);
        let partial = events.partial;
        pieces.push(names(&events.events));
        if !partial {
            break;
        }
    }
    assert!(pieces.len() > 2, "10 MiB went into {} messages", pieces.len());
    assert_eq!(
        pieces.concat(),
        (0..10).map(|n| format!("/big/{n}")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_idle_watch_is_told_how_far_it_is() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let request = v1::WatchRequest {
        progress_interval_ms: Some(100),
        ..watch(key("/a"))
    };
    let mut call = server.watch(request).await;
    call.created().await;
    let elsewhere = put_in(&mut client, "/b", "x").await;
    loop {
        match call.next().await {
            Message::Said(Said::Progress(progress)) if progress.revision == elsewhere => break,
            Message::Said(Said::Progress(progress)) => assert!(progress.revision < elsewhere),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_future_start_is_silent_until_it_is_reached() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let now = put_in(&mut client, "/a", "0").await;
    let request = v1::WatchRequest {
        start: Some(v1::watch_request::Start::StartRevision(now + 3)),
        ..watch(key("/a"))
    };
    let mut call = server.watch(request).await;
    call.created().await;
    for n in 1..=3 {
        put_in(&mut client, "/a", n.to_string()).await;
    }
    assert_eq!(call.events().await.revision, now + 3);
}

#[tokio::test]
async fn a_watch_resumes_after_a_position_with_the_next_event() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let mut call = server.watch(watch(key("/a"))).await;
    let keyspace_id = call.created().await.keyspace_id;
    put_in(&mut client, "/a", "1").await;
    let revision = call.events().await.revision;
    drop(call);
    let missed = put_in(&mut client, "/a", "2").await;
    let request = v1::WatchRequest {
        start: Some(v1::watch_request::Start::After(v1::Position {
            keyspace_id,
            revision,
        })),
        ..watch(key("/a"))
    };
    let mut call = server.watch(request).await;
    assert_eq!(call.created().await.revision, revision);
    assert_eq!(call.events().await.revision, missed);
}

/// What the process holds, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_cost_neither_writers_nor_memory_and_then_get_everything() {
    const STUCK: usize = 50;
    const EVENTS: usize = 1000;
    const VALUE: usize = 8 << 10;

    let server = TestServer::start().await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(server.watch_with_small_window(watch(prefix("/flood/"))).await);
    }
    let mut reading = server.watch(watch(prefix("/flood/"))).await;
    reading.created().await;
    let mut client = server.keyspace().await;
    let before = resident_bytes();
    let mut revisions = Vec::new();
    for n in 0..EVENTS {
        revisions.push(put_in(&mut client, &format!("/flood/{n}"), vec![0; VALUE]).await);
        // Those who read are not held up either.
        assert_eq!(reading.events().await.revision, revisions[n]);
    }
    let grown = resident_bytes().saturating_sub(before);
    // Copies for each of them would be 400 MB. The history is 8 MB; what is on its way to each of
    // them is bounded by windows and buffers on both sides, which this process all holds.
    assert!(
        grown < 100 << 20,
        "{grown} bytes for {STUCK} clients that do not read"
    );

    for mut call in stuck {
        call.created().await;
        for revision in &revisions {
            assert_eq!(call.events().await.revision, *revision);
        }
    }
}

#[tokio::test]
async fn a_stuck_client_whose_history_is_gone_is_told_where_to_go_on() {
    let server = TestServer::start().await;
    let mut call = server.watch_with_small_window(watch(prefix("/flood/"))).await;
    let mut client = server.keyspace().await;
    let mut last = 0;
    for n in 0..500 {
        last = put_in(&mut client, &format!("/flood/{n}"), vec![0; 4 << 10]).await;
    }
    client
        .compact(v1::CompactRequest { revision: last })
        .await
        .unwrap();
    call.created().await;
    let mut delivered = 1;
    let ended = loop {
        match call.next().await {
            Message::Events(events) => {
                assert_eq!(events.revision, delivered + 1, "there is a gap");
                delivered = events.revision;
            }
            Message::Said(Said::Ended(ended)) => break ended,
            other @ Message::Said(_) => panic!("{other:?}"),
        }
    };
    assert!(delivered < last, "the client was never stuck");
    let Some(Reason::Compacted(compacted)) = ended.reason else {
        panic!("{ended:?}")
    };
    assert_eq!((compacted.requested, compacted.oldest), (delivered + 1, last));
    assert_eq!(ended.last_delivered, delivered);
}

#[tokio::test]
async fn the_stream_gauge_returns_to_zero() {
    let server = TestServer::start().await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        let mut call = server.watch(watch(key("/a"))).await;
        call.created().await;
        calls.push(call);
    }
    assert!(
        server
            .get("/metrics")
            .await
            .2
            .contains("tidewatch_watch_streams 5\n")
    );
    drop(calls);
    within("the streams to be gone", async {
        while !server
            .get("/metrics")
            .await
            .2
            .contains("tidewatch_watch_streams 0\n")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
