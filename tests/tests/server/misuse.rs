//! Watches that ask for what cannot be: a named refusal, or a named end.

use tidewatch_core::WatchSettings;
use tidewatch_proto::v1::watch_client::WatchClient;
use tidewatch_proto::v1::watch_ended::Reason;
use tidewatch_proto::v1::watch_request::Start;
use tidewatch_proto::{error, v1};
use tidewatch_server::{Config, Limits};
use tonic::{Code, Status};

use crate::rig::{TestServer, config, key, put_in, watch, within};

fn between(start: &'static str, before: &'static str) -> v1::KeyRange {
    v1::KeyRange {
        start: start.into(),
        end: Some(v1::key_range::End::Before(before.into())),
    }
}

fn unbounded(start: Vec<u8>, unbounded: bool) -> v1::KeyRange {
    v1::KeyRange {
        start: start.into(),
        end: Some(v1::key_range::End::Unbounded(unbounded)),
    }
}

/// The name of the error that a refusal tells.
fn reason(status: &Status) -> String {
    error::info(status).expect("a refusal of ours").reason
}

/// A watch of a key, and something else.
fn asks(ask: impl Fn(&mut v1::WatchRequest)) -> v1::WatchRequest {
    let mut request = watch(key("/a"));
    ask(&mut request);
    request
}

/// What makes no sense, the name of its error, and what a person is told.
type Nonsense = (v1::WatchRequest, &'static str, &'static str);

fn nonsensical_ranges() -> Vec<Nonsense> {
    let long = vec![b'k'; 4097];
    vec![
        (v1::WatchRequest::default(), "invalid_argument", "it has no range"),
        (
            asks(|request| request.ranges = vec![key("/a"); 65]),
            "invalid_argument",
            "more than 64 ranges",
        ),
        (watch(key("")), "invalid_key", "it is empty"),
        (
            watch(between("/b", "/a")),
            "invalid_range",
            "its end \"/a\" is not after its start \"/b\"",
        ),
        (
            watch(between("/a", "/a")),
            "invalid_range",
            "is not after its start",
        ),
        (watch(between("", "")), "invalid_range", "is not after its start"),
        (
            asks(|request| request.ranges.push(between("/b", "/a"))),
            "invalid_range",
            "is not after its start",
        ),
        (
            watch(unbounded(b"/a".to_vec(), false)),
            "invalid_argument",
            "unbounded is false",
        ),
        (
            watch(unbounded(long.clone(), true)),
            "invalid_key",
            "longer than 4096 bytes",
        ),
        (
            asks(|request| request.ranges[0].start = long.clone().into()),
            "invalid_key",
            "longer than 4096 bytes",
        ),
    ]
}

fn nonsensical_settings() -> Vec<Nonsense> {
    let position = v1::Position {
        keyspace_id: 1,
        revision: 1,
    };
    vec![
        (
            asks(|request| request.start = Some(Start::StartRevision(0))),
            "invalid_argument",
            "revision 0 does not exist",
        ),
        (
            asks(|request| {
                request.snapshot = true;
                request.start = Some(Start::StartRevision(1));
            }),
            "invalid_argument",
            "cannot be combined",
        ),
        (
            asks(|request| {
                request.snapshot = true;
                request.start = Some(Start::After(position));
            }),
            "invalid_argument",
            "cannot be combined",
        ),
        (
            asks(|request| request.progress_interval_ms = Some(99)),
            "invalid_argument",
            "at least 100 ms",
        ),
        (
            asks(|request| request.progress_interval_ms = Some(0)),
            "invalid_argument",
            "at least 100 ms",
        ),
        (
            asks(|request| request.room = Some(0)),
            "invalid_argument",
            "its room must be at least 1",
        ),
        (
            asks(|request| request.room = Some(1025)),
            "invalid_argument",
            "its room of 1025 batches is more than the 1024 of this keyspace",
        ),
        (
            asks(|request| {
                request.room = Some(u32::MAX);
                request.set_on_overflow(v1::OnOverflow::Cancel);
            }),
            "invalid_argument",
            "batches is more than the 1024 of this keyspace",
        ),
        (
            asks(|request| request.on_overflow = 7),
            "invalid_argument",
            "7 is not a value this server knows",
        ),
    ]
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name_and_leaves_nothing_behind() {
    // One watch more than this, and it would be told by that.
    let server = TestServer::with(Config {
        limits: Limits {
            max_watches_per_connection: 1,
            ..Limits::default()
        },
        ..config()
    })
    .await;
    let mut client = WatchClient::new(server.channel().await);
    for (request, name, says) in nonsensical_ranges().into_iter().chain(nonsensical_settings()) {
        let status = client.watch(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{says}: {status}");
        assert_eq!(reason(&status), name, "{says}");
        assert!(status.message().contains(says), "{says}: {status}");
    }
    client.watch(watch(key("/a"))).await.unwrap();
}

#[tokio::test]
async fn settings_at_their_bounds_are_accepted() {
    let server = TestServer::start().await;
    let at_bounds = v1::WatchRequest {
        ranges: vec![unbounded(Vec::new(), true)],
        progress_interval_ms: Some(u64::MAX),
        room: Some(1024),
        on_overflow: v1::OnOverflow::Cancel.into(),
        start: Some(Start::StartRevision(u64::MAX)),
        ..v1::WatchRequest::default()
    };
    let least = v1::WatchRequest {
        ranges: vec![key("/a"); 64],
        progress_interval_ms: Some(100),
        room: Some(1),
        ..v1::WatchRequest::default()
    };
    for request in [at_bounds, least] {
        server.watch(request).await.created().await;
    }
}

#[tokio::test]
async fn watchers_beyond_the_limit_are_refused_and_a_dropped_one_makes_room_at_once() {
    let mut config = config();
    config.keyspace.watch = WatchSettings {
        max_watchers: 2,
        ..WatchSettings::default()
    };
    let server = TestServer::with(config).await;
    let mut first = server.watch(watch(key("/a"))).await;
    let mut second = server.watch(watch(key("/a"))).await;
    first.created().await;
    second.created().await;
    let mut client = WatchClient::new(server.channel().await);
    let status = client.watch(watch(key("/a"))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(reason(&status), "limit_exceeded");
    assert_eq!(status.message(), "limit of 2 watchers exceeded");
    drop(first);
    within("room for another watch", async {
        while client.watch(watch(key("/a"))).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn watches_beyond_what_one_connection_may_hold_are_refused_on_it_alone() {
    let server = TestServer::with(Config {
        limits: Limits {
            max_watches_per_connection: 1,
            ..Limits::default()
        },
        ..config()
    })
    .await;
    let mut client = WatchClient::new(server.channel().await);
    let first = client.watch(watch(key("/a"))).await.unwrap();
    let status = client.watch(watch(key("/a"))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(reason(&status), "limit_exceeded");
    assert!(
        status.message().contains("limit of 1 watches on one connection"),
        "{status}"
    );
    server.watch(watch(key("/a"))).await.created().await;
    drop(first);
    within("room for another watch", async {
        while client.watch(watch(key("/a"))).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_compacted_start_ends_in_band_with_the_oldest_revision() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    put_in(&mut client, "/a", "1").await;
    let revision = put_in(&mut client, "/a", "2").await;
    client.compact(v1::CompactRequest { revision }).await.unwrap();
    let request = v1::WatchRequest {
        start: Some(Start::StartRevision(revision - 1)),
        ..watch(key("/a"))
    };
    let mut call = server.watch(request).await;
    call.created().await;
    let ended = call.ended().await;
    let Some(Reason::Compacted(compacted)) = ended.reason else {
        panic!("{ended:?}")
    };
    assert_eq!((compacted.requested, compacted.oldest), (revision - 1, revision));
    assert_eq!(ended.resume, None);
}

#[tokio::test]
async fn a_foreign_position_ends_in_band_with_the_keyspace_there_is() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let current = put_in(&mut client, "/a", "1").await;
    let here = client.get(v1::GetRequest {
        key: "/a".into(),
        ..v1::GetRequest::default()
    });
    let keyspace_id = here.await.unwrap().into_inner().header.unwrap().keyspace_id;
    let position = |keyspace_id, revision| v1::WatchRequest {
        start: Some(Start::After(v1::Position {
            keyspace_id,
            revision,
        })),
        ..watch(key("/a"))
    };
    for (what, request) in [
        ("another keyspace", position(keyspace_id ^ 1, current)),
        ("ahead of the keyspace", position(keyspace_id, current + 1)),
    ] {
        let mut call = server.watch(request).await;
        call.created().await;
        let ended = call.ended().await;
        let Some(Reason::KeyspaceChanged(changed)) = ended.reason else {
            panic!("{what}: {ended:?}")
        };
        assert_eq!(
            (changed.actual_keyspace_id, changed.current),
            (keyspace_id, current),
            "{what}"
        );
    }
}
