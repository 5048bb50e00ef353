//! Bytes that no client sends: random ones, and requests that were damaged on the way.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tidewatch_core::SystemClock;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::rig::{TestServer, all, bytes, op_delete, op_put, op_range, op_txn, put, success, within};
use crate::watching::watch;

/// Requests in an ordinary run. `TIDEWATCH_FUZZ_SECONDS` makes it go on for so long instead.
const REQUESTS: u32 = 4000;

/// The longest request of random bytes.
const MAX_RANDOM_BYTES: usize = 200;

/// A codec that leaves bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// A request in its right form, and the call it belongs to.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let nested = success(vec![op_put("/c", "1"), op_txn(success(vec![op_range(all())]))]);
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: bytes("/a"),
            target_union: Some(pb::compare::TargetUnion::Version(1)),
            ..pb::Compare::default()
        }],
        success: vec![op_put("/a", "1"), op_delete("/b", "/c"), op_txn(nested)],
        failure: vec![op_range(all())],
    };
    let watch = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(watch("/a", "/b"))),
    };
    vec![
        ("/etcdserverpb.KV/Range", all().encode_to_vec()),
        ("/etcdserverpb.KV/Put", put("/a", "1").encode_to_vec()),
        (
            "/etcdserverpb.KV/DeleteRange",
            pb::DeleteRangeRequest {
                key: bytes("/a"),
                range_end: bytes("/b"),
                prev_kv: true,
            }
            .encode_to_vec(),
        ),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        (
            "/etcdserverpb.KV/Compact",
            pb::CompactionRequest {
                revision: 2,
                physical: true,
            }
            .encode_to_vec(),
        ),
        (
            "/etcdserverpb.Lease/LeaseGrant",
            pb::LeaseGrantRequest { ttl: 60, id: 7 }.encode_to_vec(),
        ),
        (
            "/etcdserverpb.Lease/LeaseKeepAlive",
            pb::LeaseKeepAliveRequest { id: 7 }.encode_to_vec(),
        ),
        (
            "/etcdserverpb.Maintenance/HashKV",
            pb::HashKvRequest { revision: 2 }.encode_to_vec(),
        ),
        ("/etcdserverpb.Watch/Watch", watch.encode_to_vec()),
    ]
}

/// Random bytes, or the request with something done to it.
fn damaged(rng: &mut fastrand::Rng, request: &[u8]) -> Bytes {
    let mut damaged = request.to_vec();
    match rng.u8(..5) {
        0 => damaged = (0..rng.usize(..MAX_RANDOM_BYTES)).map(|_| rng.u8(..)).collect(),
        1 => damaged.truncate(rng.usize(..=request.len())),
        2 => {
            let at = rng.usize(..=request.len());
            // A number without end, or a length beyond all bounds.
            damaged.splice(at..at, [0xff; 11]);
        }
        _ => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..damaged.len());
                damaged[at] = rng.u8(..);
            }
        }
    }
    damaged.into()
}

/// Sends one message and waits for what is said to it: the first answer, or the end.
async fn call(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    within("the server", grpc.ready()).await.unwrap();
    let request = Request::new(tokio_stream::once(message));
    let answer = grpc.streaming(request, PathAndQuery::from_static(path), Raw);
    let mut answers = within("an answer", answer).await?.into_inner();
    // A watch of the future has been created, and says no more.
    within("a message", answers.message()).await.map(drop)
}

/// Whether it is an answer, and not what is left of a server that broke down over the request.
fn is_an_answer(answer: &Result<(), Status>) -> bool {
    let Err(status) = answer else {
        return true;
    };
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::NotFound | Code::FailedPrecondition => true,
        // As with etcd, a message that cannot be read is an internal error.
        Code::Internal => status.message().contains("failed to decode"),
        Code::Unavailable | Code::Unknown => false,
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_has_an_answer_to_any_bytes() {
    let clock = SystemClock::shared();
    let seconds = std::env::var("TIDEWATCH_FUZZ_SECONDS").ok();
    let until = seconds.map(|it| clock.now() + Duration::from_secs(it.parse().unwrap()));
    let (server, mut kv) = TestServer::start().await;
    let channel = server.channel().await;
    let requests = requests();
    for seed in 0_u64.. {
        let done = match until {
            Some(until) => clock.now() >= until,
            None => seed >= REQUESTS.into(),
        };
        if done {
            break;
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        let (path, request) = &requests[rng.usize(..requests.len())];
        let message = damaged(&mut rng, request);
        let answer = call(&channel, path, message.clone()).await;
        assert!(
            is_an_answer(&answer),
            "seed {seed}: {path} {message:?}: {answer:?}"
        );
    }
    kv.put("/after", "1").await;
    assert_eq!(
        kv.range(all()).await.header.unwrap().raft_term,
        1,
        "it still serves"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_so_and_the_connection_goes_on() {
    let (server, mut kv) = TestServer::start().await;
    let channel = server.channel().await;
    for (path, _) in requests() {
        let answer = call(&channel, path, Bytes::from_static(&[0xff; 20])).await;
        assert_eq!(answer.unwrap_err().code(), Code::Internal, "{path}");
    }
    kv.put("/a", "1").await;
}

#[tokio::test]
async fn a_transaction_nested_deeper_than_can_be_read_is_refused() {
    let (server, _kv) = TestServer::start().await;
    let channel = server.channel().await;
    let mut deep = success(vec![op_put("/a", "1")]).encode_to_vec();
    for _ in 0..2000 {
        // A transaction in an operation in the list of what to do.
        for field in [4, 2] {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(field, &deep, &mut outer);
            deep = outer;
        }
    }
    let answer = call(&channel, "/etcdserverpb.KV/Txn", deep.into()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Internal);
}
