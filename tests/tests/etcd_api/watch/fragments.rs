//! Responses larger than a message should be.

use bytes::Bytes;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_client::WatchClient;
use tonic::Code;

use crate::rig::{Kv, TestServer, bytes, put};
use crate::watching::{Watching, revision, watch};

/// What a gRPC client accepts unless it is told otherwise.
const USUAL_LIMIT: usize = 4 << 20;

const KEYS: usize = 10;

/// Ten entries of nearly a mebibyte, and a deletion of all of them, which carries them once more.
async fn delete_much(kv: &mut Kv) -> i64 {
    for n in 0..KEYS {
        let large = pb::PutRequest {
            value: Bytes::from(vec![b'v'; 1_000_000]),
            ..put(&format!("/large/{n}"), "")
        };
        kv.0.put(large).await.unwrap();
    }
    let delete = pb::DeleteRangeRequest {
        key: bytes("/large/"),
        range_end: bytes("/large0"),
        prev_kv: false,
    };
    let deleted = kv.0.delete_range(delete).await.unwrap().into_inner();
    deleted.header.unwrap().revision
}

fn large_watch(fragment: bool) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        prev_kv: true,
        fragment,
        filters: vec![pb::watch_create_request::FilterType::Noput.into()],
        ..watch("/large/", "/large0")
    }
}

async fn limited_to(server: &TestServer, limit: usize) -> Watching {
    let client = WatchClient::new(server.channel().await).max_decoding_message_size(limit);
    Watching::over(client)
}

/// `TestWatchFragmentDisable`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_accepts_it_gets_a_large_response_whole() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = limited_to(&server, usize::MAX).await;
    let id = stream.begin(large_watch(false)).await;
    delete_much(&mut kv).await;
    let response = stream.events(id).await;
    assert_eq!((response.events.len(), response.fragment), (KEYS, false));
}

/// `TestWatchFragmentDisableWithGRPCLimit`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_accept_it_ends_the_stream_itself() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = limited_to(&server, USUAL_LIMIT).await;
    stream.begin(large_watch(false)).await;
    delete_much(&mut kv).await;
    let refused = stream.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}

/// `TestWatchFragmentEnable`, `TestWatchFragmentEnableWithGRPCLimit`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_agreed_to_that_gets_it_in_pieces() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = limited_to(&server, USUAL_LIMIT).await;
    let id = stream.begin(large_watch(true)).await;
    let deleted = delete_much(&mut kv).await;
    let mut keys = Vec::new();
    loop {
        let piece = stream.events(id).await;
        assert_eq!(revision(&piece), deleted, "every piece has the response's header");
        keys.extend(piece.events.into_iter().map(|event| event.kv.unwrap().key));
        if !piece.fragment {
            break;
        }
        assert!(keys.len() < KEYS, "the last one says so");
    }
    let expected: Vec<_> = (0..KEYS).map(|n| format!("/large/{n}")).collect();
    assert_eq!(keys, expected);
}
