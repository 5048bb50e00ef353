//! How a watch ends, and a stream.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_client::WatchClient;
use tidewatch_proto::v1;
use tidewatch_proto::v1::admin_client::AdminClient;
use tonic::Code;

use crate::rig::{TestServer, config, within};
use crate::watching::{Watching, revision, watch, watch_from};

/// How many watchers the server has.
async fn watchers(server: &TestServer) -> u64 {
    let mut admin = AdminClient::new(server.channel().await);
    let status = admin.status(v1::StatusRequest {}).await.unwrap().into_inner();
    status.watchers
}

async fn watchers_to_be(server: &TestServer, expected: u64) {
    within("the watchers to go", async {
        while watchers(server).await != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// `TestV3WatchCancelSynced`, `TestV3WatchCancelUnsynced`, `TestV3WatchCancellation`
#[tokio::test]
async fn after_the_answer_to_a_cancellation_nothing_comes() {
    for start in [0, 1] {
        let (server, mut kv) = TestServer::start().await;
        let mut stream = Watching::on(&server).await;
        let id = stream.begin(watch_from("/a", "", start)).await;
        stream.cancel(id).await;
        let canceled = stream.next().await;
        assert_eq!(
            (canceled.watch_id, canceled.canceled, canceled.created),
            (id, true, false)
        );
        assert_eq!(
            (canceled.cancel_reason.as_str(), canceled.compact_revision),
            ("", 0)
        );
        kv.put("/a", "1").await;
        stream.assert_silent().await;
        watchers_to_be(&server, 0).await;
    }
}

#[tokio::test]
async fn nothing_is_said_to_the_cancellation_of_what_is_not_there() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch("/a", "")).await;
    stream.cancel(404).await;
    stream.assert_silent().await;
    stream.cancel(id).await;
    stream.cancel(id).await;
    assert!(stream.next().await.canceled);
    stream.assert_silent().await;
    // And the stream goes on. (Xline ends it.)
    let id = stream.begin(watch("/a", "")).await;
    kv.put("/a", "1").await;
    assert_eq!(stream.take(id, 1).await, ["PUT /a=1@2"]);
}

/// `TestV3WatchClose`, `TestV3WatchCloseCancelRace`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_break_off_take_their_watches_with_them() {
    let (server, mut kv) = TestServer::start().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let client = WatchClient::new(server.channel().await);
        let mut stream = Watching::over(client);
        for _ in 0..16 {
            stream.begin(watch("/a", "")).await;
        }
        streams.push(stream);
    }
    assert_eq!(watchers(&server).await, 128);
    kv.put("/a", "1").await;
    for stream in &streams {
        // Cancellations are on their way when the stream goes.
        stream.cancel(3).await;
        stream.cancel(3).await;
    }
    drop(streams);
    watchers_to_be(&server, 0).await;
    kv.put("/a", "1").await;
}

/// `TestWatchCompactRevision`, `TestStartWatcherFromCompactedRevision`
#[tokio::test]
async fn a_watch_of_what_is_compacted_is_created_and_then_canceled_with_the_oldest_revision() {
    let (server, mut kv) = TestServer::start().await;
    for value in ["1", "2", "3"] {
        kv.put("/a", value).await;
    }
    kv.compact(3).await.unwrap();
    let mut stream = Watching::on(&server).await;
    let created = stream.create(watch_from("/a", "", 2)).await;
    assert!(!created.canceled);
    let canceled = stream.next().await;
    assert_eq!(canceled.watch_id, created.watch_id);
    assert_eq!((canceled.canceled, canceled.compact_revision), (true, 3));
    assert_eq!(canceled.cancel_reason, "", "the revision says it, as with etcd");
    // The oldest revision itself is there.
    let id = stream.begin(watch_from("/a", "", 3)).await;
    assert_eq!(stream.take(id, 2).await, ["PUT /a=2@3", "PUT /a=3@4"]);
}

/// `TestV3NoEventsLostOnCompact`; etcd issues 17529, 17555, 18089.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_compaction_overtakes_is_told_and_has_no_gap_before() {
    const WRITES: i64 = 400;
    let (server, mut kv) = TestServer::start().await;
    let mut endpoint = server.endpoint();
    endpoint = endpoint.initial_stream_window_size(64 << 10);
    let channel = endpoint.connect().await.unwrap();
    let mut stream = Watching::over(WatchClient::new(channel));
    let id = stream.begin(watch("/a", "")).await;
    let value = "v".repeat(16 << 10);
    for n in 0..WRITES {
        if n % 7 == 3 {
            kv.delete("/a").await;
        } else {
            kv.put("/a", &value).await;
        }
    }
    // It has not read meanwhile, so what it needs is gone.
    let last = WRITES + 1;
    kv.compact(last).await.unwrap();
    let mut next = 2;
    let canceled = loop {
        let response = stream.next().await;
        assert_eq!(response.watch_id, id);
        if response.canceled {
            break response;
        }
        for event in &response.events {
            assert_eq!(event.kv.as_ref().unwrap().mod_revision, next);
            next += 1;
        }
    };
    assert_eq!(canceled.compact_revision, last);
    assert!(next < last, "it was to fall behind");
}

#[tokio::test]
async fn who_ends_its_side_goes_on_receiving_and_the_stream_ends_with_the_last_watch() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch("/a", "")).await;
    stream.half_close();
    kv.put("/a", "1").await;
    assert_eq!(stream.take(id, 1).await, ["PUT /a=1@2"]);
    let mut idle = Watching::on(&server).await;
    let id = idle.begin(watch("/a", "")).await;
    idle.cancel(id).await;
    idle.half_close();
    assert!(idle.next().await.canceled);
    idle.end().await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_streams_as_unavailable_after_what_was_committed() {
    let (mut server, mut kv) = TestServer::with(config()).await;
    let mut stream = Watching::on(&server).await;
    let mut idle = Watching::on(&server).await;
    let id = stream.begin(watch("/a", "")).await;
    idle.assert_silent().await;
    let last = kv.put("/a", "1").await;
    let response = stream.events(id).await;
    assert_eq!(revision(&response), last);
    server.drain();
    for stream in [&mut stream, &mut idle] {
        let end = stream.end().await.unwrap_err();
        assert_eq!(
            (end.code(), end.message()),
            (Code::Unavailable, "etcdserver: server stopped")
        );
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_watch_that_an_operator_ends_is_told_so_and_its_stream_goes_on() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let ended = stream.begin(watch("/a", "")).await;
    let other = stream.begin(watch("/b", "")).await;
    let mut admin = AdminClient::new(server.channel().await);
    let list = admin.list_watchers(v1::ListWatchersRequest::default()).await;
    let list = list.unwrap().into_inner().watchers;
    assert!(list.iter().all(|watcher| watcher.peer.starts_with("127.0.0.1:")));
    let of_a = |watcher: &&v1::Watcher| watcher.ranges[0].start == "/a";
    let id = list.iter().find(of_a).unwrap().id;
    admin
        .cancel_watcher(v1::CancelWatcherRequest { id })
        .await
        .unwrap();
    let canceled = stream.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (ended, true));
    assert_eq!(canceled.cancel_reason, "etcdserver: watch canceled");
    kv.put("/b", "1").await;
    assert_eq!(stream.take(other, 1).await, ["PUT /b=1@2"]);
}

/// As etcd does it: clients open a stream with a request for a watch, take the head of the answer to mean that it has begun, and
/// put what they want to see.
#[tokio::test]
async fn a_stream_is_answered_with_its_first_message() {
    let (server, mut kv) = TestServer::start().await;
    let channel = server.channel().await;
    let mut stream = Watching::over(WatchClient::new(channel.clone()));
    let mut admin = AdminClient::new(channel);
    for _ in 0..50 {
        admin.status(v1::StatusRequest {}).await.unwrap();
        assert!(!stream.is_answered(), "nothing was asked for");
    }
    let id = stream.begin(watch("/a", "")).await;
    kv.put("/a", "1").await;
    assert_eq!(stream.take(id, 1).await, ["PUT /a=1@2"]);
}

#[tokio::test]
async fn requests_of_another_version_are_passed_over() {
    let (server, mut kv) = TestServer::start().await;
    let requests = [
        pb::WatchRequest::default(),
        pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
                pb::WatchCreateRequest {
                    filters: vec![77],
                    ..watch("/a", "")
                },
            )),
        },
    ];
    let mut client = WatchClient::new(server.channel().await);
    let responses = client.watch(tokio_stream::iter(requests)).await.unwrap();
    let mut responses = responses.into_inner();
    let created = within("created", responses.message()).await.unwrap().unwrap();
    assert!(created.created && !created.canceled);
    kv.put("/a", "1").await;
    let event = within("an event", responses.message()).await.unwrap().unwrap();
    assert_eq!(event.events.len(), 1);
}
