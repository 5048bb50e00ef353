//! A server in this process, and clients of its etcd API.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::cluster_client::ClusterClient;
use tidewatch_proto::etcdserverpb::kv_client::KvClient;
use tidewatch_proto::etcdserverpb::lease_client::LeaseClient;
use tidewatch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tidewatch_server::{Config, Error, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub(crate) const CEILING: Duration = Duration::from_secs(60);

/// A configuration for tests: any free port, in memory, no Docker.
pub(crate) fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        no_docker: true,
        ..Config::default()
    }
}

/// The same with a data directory.
pub(crate) fn durable(dir: &Path) -> Config {
    Config {
        data_dir: Some(dir.to_path_buf()),
        ..config()
    }
}

/// A running server. It is stopped, without a drain, when this is dropped.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), Error>>,
}

impl TestServer {
    /// A server in memory, and a client of its keys.
    pub(crate) async fn start() -> (Self, Kv) {
        Self::with(config()).await
    }

    /// A server that is ready, and a client of its keys.
    pub(crate) async fn with(config: Config) -> (Self, Kv) {
        let server = Server::bind(config).await.unwrap();
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let run = tokio::spawn(server.run_with(move || ready.send(()).unwrap(), async {
            let _ = stopped.await;
        }));
        within("the server to be ready", is_ready).await.unwrap();
        let server = Self {
            addr,
            stop: Some(stop),
            run,
        };
        let kv = server.kv().await;
        (server, kv)
    }

    /// Begins the drain.
    pub(crate) fn drain(&mut self) {
        let _ = self.stop.take().expect("it drains once").send(());
    }

    /// Drains and waits for the end.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        if self.stop.is_some() {
            self.drain();
        }
        within("the server to end", &mut self.run).await.unwrap()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.addr)).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub(crate) async fn kv(&self) -> Kv {
        Kv(KvClient::new(self.channel().await))
    }

    pub(crate) async fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel().await)
    }

    pub(crate) async fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel().await)
    }

    pub(crate) async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel().await)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.run.abort();
    }
}

/// A client of the keys.
#[derive(Clone)]
pub(crate) struct Kv(pub(crate) KvClient<Channel>);

impl Kv {
    /// Writes a key and returns the revision of that.
    pub(crate) async fn put(&mut self, key: &str, value: &str) -> i64 {
        let answer = self.0.put(put(key, value)).await.unwrap().into_inner();
        answer.header.unwrap().revision
    }

    /// Deletes a key and returns the revision of that.
    pub(crate) async fn delete(&mut self, key: &str) -> i64 {
        let request = pb::DeleteRangeRequest {
            key: bytes(key),
            ..pb::DeleteRangeRequest::default()
        };
        let answer = self.0.delete_range(request).await.unwrap().into_inner();
        answer.header.unwrap().revision
    }

    pub(crate) async fn range(&mut self, request: pb::RangeRequest) -> pb::RangeResponse {
        self.0.range(request).await.unwrap().into_inner()
    }

    pub(crate) async fn txn(&mut self, request: pb::TxnRequest) -> pb::TxnResponse {
        self.0.txn(request).await.unwrap().into_inner()
    }

    pub(crate) async fn compact(&mut self, revision: i64) -> Result<(), Status> {
        let request = pb::CompactionRequest {
            revision,
            physical: true,
        };
        self.0.compact(request).await.map(drop)
    }
}

/// Waits, but not forever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(CEILING, future).await else {
        panic!("waited {CEILING:?} for {what}");
    };
    value
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..pb::PutRequest::default()
    }
}

/// A read of the keys from `key` up to `range_end`.
pub(crate) fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..pb::RangeRequest::default()
    }
}

/// A read of everything.
pub(crate) fn all() -> pb::RangeRequest {
    range("\0", "\0")
}

/// The keys of an answer.
pub(crate) fn keys(answer: &pb::RangeResponse) -> Vec<&str> {
    let text = |kv| -> &str { std::str::from_utf8(kv).unwrap() };
    answer.kvs.iter().map(|kv| text(&kv.key[..])).collect()
}

pub(crate) fn op_put(key: &str, value: &str) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(key, value))),
    }
}

pub(crate) fn op_range(request: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(request)),
    }
}

pub(crate) fn op_delete(key: &str, range_end: &str) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestDeleteRange(
            pb::DeleteRangeRequest {
                key: bytes(key),
                range_end: bytes(range_end),
                prev_kv: false,
            },
        )),
    }
}

pub(crate) fn op_txn(txn: pb::TxnRequest) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestTxn(txn)),
    }
}

/// A transaction without compares.
pub(crate) fn success(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success,
        ..pb::TxnRequest::default()
    }
}
