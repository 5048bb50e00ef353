//! What is said to a request for a watch, and from where on it delivers.

use std::collections::BTreeMap;

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;

use crate::rig::TestServer;
use crate::watching::{NO_WATCH, Watching, revision, watch, watch_from};

/// `TestV3WatchFromCurrentRevision`
#[tokio::test]
async fn a_watch_from_now_on_gets_what_matches_after_its_answer() {
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("foo", "", &["foo"], &["PUT foo=bar@2"]),
        ("foo", "", &["helloworld"], &[]),
        ("foo", "fop", &["fooLong"], &["PUT fooLong=bar@2"]),
        ("foo", "fop", &["helloworld"], &[]),
        (
            "foo",
            "",
            &["foo", "foo", "foo"],
            &["PUT foo=bar@2", "PUT foo=bar@3", "PUT foo=bar@4"],
        ),
        (
            "foo",
            "fop",
            &["foo1", "x", "foo2"],
            &["PUT foo1=bar@2", "PUT foo2=bar@4"],
        ),
        ("foo", "\0", &["a", "goo"], &["PUT goo=bar@3"]),
        ("", "\0", &["a"], &["PUT a=bar@2"]),
    ];
    for (key, range_end, puts, expected) in cases {
        let (server, mut kv) = TestServer::start().await;
        let mut stream = Watching::on(&server).await;
        let created = stream.create(watch(key, range_end)).await;
        assert_eq!(
            (created.watch_id, created.canceled, revision(&created)),
            (0, false, 1)
        );
        for key in *puts {
            kv.put(key, "bar").await;
        }
        let case = format!("{key:?} {range_end:?} {puts:?}");
        assert_eq!(stream.take(0, expected.len()).await, *expected, "{case}");
        stream.assert_silent().await;
    }
}

/// `TestV3WatchFutureRevision`
#[tokio::test]
async fn a_watch_from_the_future_is_silent_until_then() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let created = stream.create(watch_from("/a", "", 10)).await;
    assert_eq!(
        revision(&created),
        1,
        "the revision there is, not the one that will be"
    );
    while kv.put("/a", "1").await < 10 {}
    let first = stream.events(created.watch_id).await;
    assert_eq!(first.events[0].kv.as_ref().unwrap().mod_revision, 10);
    assert_eq!(revision(&first), 10);
}

/// `TestV3WatchWrongRange`
#[tokio::test]
async fn a_range_that_holds_nothing_is_refused_and_one_without_end_is_not() {
    let (server, _kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    for (key, range_end) in [("a", "a"), ("b", "a")] {
        let refused = stream.create(watch(key, range_end)).await;
        assert_eq!((refused.canceled, refused.watch_id), (true, NO_WATCH));
        assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
        assert_eq!(revision(&refused), 1);
    }
    assert_eq!(stream.begin(watch("foo", "\0")).await, 0);
}

#[tokio::test]
async fn a_revision_before_the_first_is_refused_as_compacted() {
    let (server, _kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let refused = stream.create(watch_from("/a", "", -1)).await;
    assert_eq!((refused.canceled, refused.watch_id), (true, NO_WATCH));
    assert_eq!(
        refused.cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
}

/// `TestWatcherRequestsCustomID`
#[tokio::test]
async fn ids_are_the_client_s_or_the_next_ones_and_none_is_given_twice() {
    let named = |watch_id| pb::WatchCreateRequest {
        watch_id,
        ..watch("/a", "")
    };
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    assert_eq!(stream.begin(named(1)).await, 1);
    for duplicate in [1, NO_WATCH] {
        let refused = stream.create(named(duplicate)).await;
        assert_eq!((refused.canceled, refused.watch_id), (true, NO_WATCH));
        assert_eq!(
            refused.cancel_reason,
            "mvcc: duplicate watch ID provided on the WatchStream"
        );
    }
    assert_eq!(stream.begin(named(0)).await, 0);
    assert_eq!(stream.begin(named(0)).await, 2, "1 is taken");
    stream.cancel(1).await;
    assert!(stream.next().await.canceled);
    assert_eq!(stream.begin(named(1)).await, 1, "it is free again");
    // Ids are of a stream: another one may have the same. (Xline panics.)
    let mut other = Watching::on(&server).await;
    assert_eq!(other.begin(named(1)).await, 1);
    kv.put("/a", "1").await;
    let events = stream.take_each(3, 1).await;
    assert_eq!(events.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(other.take(1, 1).await, ["PUT /a=1@2"]);
}

/// `TestV3WatchEmptyKey`
#[tokio::test]
async fn an_empty_value_is_a_write() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch("foo", "")).await;
    kv.put("foo", "").await;
    assert_eq!(stream.take(id, 1).await, ["PUT foo=@2"]);
}

/// `TestV3WatchCurrentPutOverlap`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_begins_among_writes_misses_none_after_the_revision_it_is_told() {
    const WRITES: i64 = 60;
    let (server, kv) = TestServer::start().await;
    let writers = (0..WRITES).map(|_| {
        let mut kv = kv.clone();
        tokio::spawn(async move { kv.put("foo", "bar").await })
    });
    let writers: Vec<_> = writers.collect();
    let mut stream = Watching::on(&server).await;
    // For each watch the revision it is to see next; a new watch with every one that is created, until
    // there is nothing left to see.
    let mut next = BTreeMap::new();
    let last = WRITES + 1;
    let named = |watch_id| {
        RequestUnion::CreateRequest(pb::WatchCreateRequest {
            watch_id,
            ..watch("foo", "")
        })
    };
    stream.ask(named(1)).await;
    while next.is_empty() || next.values().any(|next| *next <= last) {
        let response = stream.next().await;
        let id = response.watch_id;
        if response.created {
            next.insert(id, revision(&response) + 1);
            if revision(&response) < last {
                stream.ask(named(id + 1)).await;
            }
            continue;
        }
        for event in &response.events {
            let expected = next.get_mut(&id).unwrap();
            assert_eq!(event.kv.as_ref().unwrap().mod_revision, *expected, "{response:?}");
            *expected += 1;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn watches_beyond_what_a_connection_may_have_are_refused_and_the_others_go_on() {
    let mut config = crate::rig::config();
    config.limits.max_watches_per_connection = 2;
    let (server, mut kv) = TestServer::with(config).await;
    let mut stream = Watching::on(&server).await;
    for id in 0..2 {
        assert_eq!(stream.begin(watch("/a", "")).await, id);
    }
    let refused = stream.create(watch("/a", "")).await;
    assert_eq!((refused.canceled, refused.watch_id), (true, NO_WATCH));
    assert!(refused.cancel_reason.contains("limit of 2"), "{refused:?}");
    kv.put("/a", "1").await;
    assert_eq!(stream.take_each(2, 1).await.len(), 2);
    stream.cancel(0).await;
    assert!(stream.next().await.canceled);
    assert_eq!(stream.begin(watch("/a", "")).await, 2, "there is room again");
}

#[tokio::test]
async fn a_request_that_is_larger_than_is_read_ends_the_stream_in_etcds_words() {
    let (server, _kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    let request = watch(&"a".repeat(5 << 20), "");
    stream.ask(RequestUnion::CreateRequest(request)).await;
    let refused = stream.end().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
}
