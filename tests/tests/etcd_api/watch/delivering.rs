//! Events, and what they carry.

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_create_request::FilterType;

use crate::rig::{Kv, TestServer, bytes, op_put, put, success};
use crate::watching::{Watching, filtered, revision, shown, watch, watch_from};

/// Whether a watch has caught up when what is to be seen happens, or reads it in the history.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Synced,
    Unsynced,
}

const BOTH: [When; 2] = [When::Synced, When::Unsynced];

impl When {
    /// From where a watch starts that is to see revision 2 and on.
    fn start(self) -> i64 {
        if self == Self::Synced { 0 } else { 2 }
    }
}

/// `TestV3WatchMultipleWatchersSynced`, `TestV3WatchMultipleWatchersUnsynced`
#[tokio::test]
async fn each_watch_of_a_stream_gets_its_own() {
    for when in BOTH {
        let (server, mut kv) = TestServer::start().await;
        let mut stream = Watching::on(&server).await;
        if when == When::Unsynced {
            kv.put("foo", "bar").await;
        }
        for id in 0..5 {
            assert_eq!(stream.begin(watch_from("foo", "", when.start())).await, id);
            if when == When::Unsynced {
                assert_eq!(stream.take(id, 1).await, ["PUT foo=bar@2"]);
            }
        }
        let prefix = stream.begin(watch_from("fo", "fp", when.start())).await;
        if when == When::Unsynced {
            assert_eq!(stream.take(prefix, 1).await, ["PUT foo=bar@2"]);
        } else {
            kv.put("foo", "bar").await;
            for events in stream.take_each(6, 1).await.values() {
                assert_eq!(*events, ["PUT foo=bar@2"]);
            }
        }
        kv.put("fo", "bar").await;
        assert_eq!(stream.take(prefix, 1).await, ["PUT fo=bar@3"]);
        stream.assert_silent().await;
    }
}

/// `TestV3WatchMultipleEventsTxnSynced`, `TestV3WatchMultipleEventsTxnUnsynced`
#[tokio::test]
async fn the_events_of_a_transaction_come_together_in_their_order() {
    for when in BOTH {
        let (server, mut kv) = TestServer::start().await;
        let mut stream = Watching::on(&server).await;
        let txn = || {
            success(vec![
                op_put("foo2", "b"),
                op_put("foo0", "a"),
                op_put("foo1", "c"),
            ])
        };
        if when == When::Unsynced {
            kv.txn(txn()).await;
        }
        let id = stream.begin(watch_from("foo", "fop", when.start())).await;
        if when == When::Synced {
            kv.txn(txn()).await;
        }
        let response = stream.events(id).await;
        assert_eq!(shown(&response), ["PUT foo2=b@2", "PUT foo0=a@2", "PUT foo1=c@2"]);
        assert_eq!(revision(&response), 2);
    }
}

/// `TestV3WatchMultipleEventsPutUnsynced`
#[tokio::test]
async fn the_history_is_read_before_what_happens_meanwhile_and_nothing_comes_twice() {
    let (server, mut kv) = TestServer::start().await;
    kv.put("foo0", "bar").await;
    kv.put("foo1", "bar").await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch_from("foo", "fop", 1)).await;
    kv.put("foo0", "bar").await;
    kv.put("foo1", "bar").await;
    let expected = [
        "PUT foo0=bar@2",
        "PUT foo1=bar@3",
        "PUT foo0=bar@4",
        "PUT foo1=bar@5",
    ];
    assert_eq!(stream.take(id, 4).await, expected);
    stream.assert_silent().await;
}

/// `TestV3WatchMultipleStreamsSynced`, `TestV3WatchMultipleStreamsUnsynced`
#[tokio::test]
async fn each_stream_gets_it() {
    for when in BOTH {
        let (server, mut kv) = TestServer::start().await;
        if when == When::Unsynced {
            kv.put("foo", "bar").await;
        }
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut stream = Watching::on(&server).await;
            stream.begin(watch_from("foo", "", when.start())).await;
            streams.push(stream);
        }
        if when == When::Synced {
            kv.put("foo", "bar").await;
        }
        for stream in &mut streams {
            assert_eq!(stream.take(0, 1).await, ["PUT foo=bar@2"]);
        }
    }
}

/// `TestV3WatchWithFilter`
#[tokio::test]
async fn what_is_filtered_out_is_not_said_at_all() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let deletes = stream.begin(filtered("foo", FilterType::Noput)).await;
    kv.put("foo", "bar").await;
    kv.delete("foo").await;
    assert_eq!(stream.take(deletes, 1).await, ["DELETE foo@3"]);
    let puts = stream.begin(filtered("foo", FilterType::Nodelete)).await;
    kv.put("foo", "baz").await;
    kv.delete("foo").await;
    let mut ids =
        [stream.next().await, stream.next().await].map(|response| (response.watch_id, shown(&response)));
    ids.sort();
    let expected = [
        (deletes, vec!["DELETE foo@5".to_owned()]),
        (puts, vec!["PUT foo=baz@4".to_owned()]),
    ];
    assert_eq!(ids, expected);
    stream.assert_silent().await;
}

/// The event of the next response, and the value before it.
async fn with_prev(stream: &mut Watching, id: i64) -> (String, Option<String>) {
    let response = stream.events(id).await;
    let prev = response.events[0].prev_kv.as_ref();
    let value = |prev: &tidewatch_proto::mvccpb::KeyValue| String::from_utf8_lossy(&prev.value).into_owned();
    (shown(&response).remove(0), prev.map(value))
}

/// `TestV3WatchWithPrevKV`, `TestWatchMixedPrevKVOnSameKeySeparateStreams`
#[tokio::test]
async fn the_entry_before_comes_with_the_event_to_who_asked() {
    for exists in [false, true] {
        let (server, mut kv) = TestServer::start().await;
        if exists {
            kv.put("foo", "first").await;
        }
        let (mut asking, mut other) = (Watching::on(&server).await, Watching::on(&server).await);
        let request = pb::WatchCreateRequest {
            prev_kv: true,
            ..watch("foo", "")
        };
        let id = asking.begin(request).await;
        other.begin(watch("foo", "")).await;
        let first = exists.then(|| "first".to_owned());
        let mut at = kv.put("foo", "bar").await;
        let expected = (format!("PUT foo=bar@{at}"), first);
        assert_eq!(with_prev(&mut asking, id).await, expected);
        at = kv.put("foo", "baz").await;
        let expected = (format!("PUT foo=baz@{at}"), Some("bar".to_owned()));
        assert_eq!(with_prev(&mut asking, id).await, expected);
        at = kv.delete("foo").await;
        let expected = (format!("DELETE foo@{at}"), Some("baz".to_owned()));
        assert_eq!(with_prev(&mut asking, id).await, expected);
        for _ in 0..3 {
            assert_eq!(with_prev(&mut other, 0).await.1, None);
        }
    }
}

/// `TestWatchEventType`
#[tokio::test]
async fn creation_change_deletion_and_the_end_of_a_lease_can_be_told_apart() {
    let (server, mut kv) = TestServer::start().await;
    let mut lease = server.lease().await;
    lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 })
        .await
        .unwrap();
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch("/", "0")).await;
    kv.put("/a", "1").await;
    kv.put("/a", "2").await;
    kv.delete("/a").await;
    let leased = pb::PutRequest {
        lease: 7,
        ..put("/b", "1")
    };
    kv.0.put(leased).await.unwrap();
    lease
        .lease_revoke(pb::LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(stream.events(id).await.events);
    }
    let told = seen.iter().map(|event| {
        let kv = event.kv.as_ref().unwrap();
        (kv.create_revision, kv.mod_revision, kv.version, kv.lease)
    });
    let expected = [
        (2, 2, 1, 0),
        (2, 3, 2, 0),
        (0, 4, 0, 0),
        (5, 5, 1, 7),
        (0, 6, 0, 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(seen[4].kv.as_ref().unwrap().key, bytes("/b"));
}

async fn fill(kv: &mut Kv, count: usize) {
    let value = "v".repeat(64 << 10);
    for _ in 0..count {
        kv.put("/busy", &value).await;
    }
}

/// etcd issue 17529: hundreds of watches on one stream, and one of them with much to catch up with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_with_much_to_say_does_not_hold_up_the_others_of_its_stream() {
    const OTHERS: i64 = 200;
    let (server, mut kv) = TestServer::start().await;
    fill(&mut kv, 200).await;
    let mut stream = Watching::on(&server).await;
    for id in 0..OTHERS {
        assert_eq!(stream.begin(watch("/quiet", "")).await, id);
    }
    let request = pb::watch_request::RequestUnion::CreateRequest(watch_from("/busy", "", 2));
    stream.ask(request).await;
    let mut elsewhere = Watching::on(&server).await;
    let told = elsewhere.begin(watch("/quiet", "")).await;
    kv.put("/quiet", "1").await;
    // As long as this stream is not read, the server cannot say all that there is; and it is read when the others have been told.
    elsewhere.events(told).await;
    let (mut quiet, mut busy, mut busy_before_last) = (0, 0, 0);
    while quiet < OTHERS || busy < 200 {
        let response = stream.next().await;
        if response.watch_id < OTHERS {
            quiet += 1;
            busy_before_last = busy;
        } else {
            busy += response.events.len();
        }
    }
    assert!(busy_before_last < 200, "the others came after all of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_of_a_stream_each_get_theirs() {
    const WATCHES: i64 = 10_000;
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    for id in 0..WATCHES {
        let key = if id % 100 == 0 { "/shared" } else { "/idle" };
        assert_eq!(stream.begin(watch(key, "")).await, id);
    }
    kv.put("/shared", "1").await;
    let seen = stream.take_each(100, 1).await;
    assert!(seen.keys().all(|id| id % 100 == 0));
    stream.assert_silent().await;
}
