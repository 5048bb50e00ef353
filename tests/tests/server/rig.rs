//! A server in this process, and clients of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tidewatch_proto::v1;
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_proto::v1::watch_client::WatchClient;
use tidewatch_proto::v1::watch_response::Response as Said;
use tidewatch_proto::watch::one_by_one;
use tidewatch_server::{Config, DockerEndpoint, Error, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub(crate) const CEILING: Duration = Duration::from_secs(60);

/// How much may be sent ahead of a client with a small window, in bytes.
pub(crate) const SMALL_WINDOW: u32 = 64 << 10;

/// A configuration for tests: any free port, in memory, no Docker.
pub(crate) fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        no_docker: true,
        ..Config::default()
    }
}

/// The same for a host `lonely`, whose Docker would have its socket in `dir` if there were one.
pub(crate) fn without_docker_at(dir: &Path) -> Config {
    Config {
        no_docker: false,
        docker: vec![DockerEndpoint {
            name: Some("lonely".into()),
            url: format!("unix://{}/docker.sock", dir.display()),
        }],
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
    /// A server in memory.
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    /// A server that is ready.
    pub(crate) async fn with(config: Config) -> Self {
        let server = Self::recovering(config).await;
        within("the server to be ready", async {
            while server.get("/readyz").await.0 != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server
    }

    /// A server that may not be ready yet.
    pub(crate) async fn recovering(config: Config) -> Self {
        let server = Server::bind(config).await.unwrap();
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            addr,
            stop: Some(stop),
            run,
        }
    }

    /// Begins the drain.
    pub(crate) fn drain(&mut self) {
        let _ = self.stop.take().expect("it drains once").send(());
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Result<(), Error> {
        within("the server to end", &mut self.run).await.unwrap()
    }

    /// Drains and waits for the end.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        self.drain();
        self.ended().await
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.addr)).unwrap()
    }

    pub(crate) async fn keyspace(&self) -> KeyspaceClient<Channel> {
        KeyspaceClient::new(self.channel().await)
    }

    pub(crate) async fn watch(&self, request: v1::WatchRequest) -> WatchCall {
        let stream = WatchClient::new(self.channel().await)
            .watch(request)
            .await
            .unwrap();
        WatchCall::new(stream.into_inner())
    }

    /// A watch of a client that lets only a little be sent ahead of its reading.
    pub(crate) async fn watch_with_small_window(&self, request: v1::WatchRequest) -> WatchCall {
        let endpoint = self.endpoint().initial_stream_window_size(SMALL_WINDOW);
        let channel = endpoint.connect().await.unwrap();
        let stream = WatchClient::new(channel).watch(request).await.unwrap();
        WatchCall::new(stream.into_inner())
    }

    /// Status, content type and body of a page.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String, String) {
        self.request(Request::get(format!("http://{}{path}", self.addr)))
            .await
    }

    pub(crate) async fn request(
        &self,
        request: hyper::http::request::Builder,
    ) -> (StatusCode, String, String) {
        self.request_with(request, Bytes::new()).await
    }

    pub(crate) async fn request_with(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> (StatusCode, String, String) {
        let (head, body) = self.answer(request, body).await;
        let content_type = head.headers.get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        (head.status, content_type.unwrap_or_default(), body)
    }

    /// The whole head of an answer, and its body.
    pub(crate) async fn answer(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> (hyper::http::response::Parts, String) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client
            .request(request.body(Full::new(body)).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.run.abort();
    }
}

/// A watch, as it arrives.
pub(crate) struct WatchCall {
    stream: Streaming<v1::WatchResponse>,
    /// What came with what was returned last.
    arrived: VecDeque<v1::WatchResponse>,
}

/// What a watch says: something, or what happened at one revision.
#[derive(Debug)]
pub(crate) enum Message {
    Said(Said),
    Events(v1::WatchEvents),
}

impl WatchCall {
    pub(crate) fn new(stream: Streaming<v1::WatchResponse>) -> Self {
        let arrived = VecDeque::new();
        Self { stream, arrived }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        if self.arrived.is_empty() {
            let message = within("a message of the watch", self.stream.message())
                .await
                .unwrap();
            self.arrived
                .extend(one_by_one(message.expect("the stream goes on")));
        }
        let mut message = self.arrived.pop_front().unwrap();
        match message.events.pop() {
            Some(events) => Message::Events(events),
            None => Message::Said(message.response.unwrap()),
        }
    }

    pub(crate) async fn created(&mut self) -> v1::WatchCreated {
        match self.next().await {
            Message::Said(Said::Created(created)) => created,
            other => panic!("expected created, got {other:?}"),
        }
    }

    pub(crate) async fn events(&mut self) -> v1::WatchEvents {
        match self.next().await {
            Message::Events(events) => events,
            other @ Message::Said(_) => panic!("expected events, got {other:?}"),
        }
    }

    /// The last message, after which the stream must be over without an error.
    pub(crate) async fn ended(&mut self) -> v1::WatchEnded {
        match self.next().await {
            Message::Said(Said::Ended(ended)) => {
                let end = within("the end of the stream", self.stream.message())
                    .await
                    .unwrap();
                assert!(end.is_none(), "something came after the end: {end:?}");
                ended
            }
            other => panic!("expected ended, got {other:?}"),
        }
    }
}

/// Waits, but not forever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(CEILING, future).await else {
        panic!("waited {CEILING:?} for {what}");
    };
    value
}

/// The range of one key.
pub(crate) fn key(key: &str) -> v1::KeyRange {
    v1::KeyRange {
        start: key.to_owned().into(),
        end: None,
    }
}

/// The range of a prefix.
pub(crate) fn prefix(prefix: &str) -> v1::KeyRange {
    (&tidewatch_core::prefix(prefix.to_owned()).unwrap()).into()
}

/// A write.
pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> v1::PutRequest {
    v1::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..v1::PutRequest::default()
    }
}

/// Writes a key, and returns the revision.
pub(crate) async fn put_in(client: &mut KeyspaceClient<Channel>, name: &str, value: impl Into<Bytes>) -> u64 {
    let response = client.put(put(name, value)).await.unwrap().into_inner();
    response.header.unwrap().revision
}

/// A watch of a range from now on.
pub(crate) fn watch(range: v1::KeyRange) -> v1::WatchRequest {
    v1::WatchRequest {
        ranges: vec![range],
        ..v1::WatchRequest::default()
    }
}
