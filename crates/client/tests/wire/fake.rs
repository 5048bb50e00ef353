//! A server that says what it is told to, behind a wire that can be cut.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tidewatch_client::{Client, Position, Revision};
use tidewatch_core::KeyspaceId;
use tidewatch_core::watch::{EndReason, Ended};
use tidewatch_proto::v1;
use tidewatch_proto::v1::keyspace_server::KeyspaceServer;
use tidewatch_proto::v1::watch_response::Response as Said;
use tidewatch_proto::v1::watch_server::WatchServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

pub(crate) const KEYSPACE: u64 = 7;

/// Longest wait for anything that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Waits for something that has to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let happened = tokio::time::timeout(SOON, happens).await;
    happened.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// Serves one service, and returns where.
pub(crate) async fn serve<S>(service: S) -> String
where
    S: tonic::codegen::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    endpoint
}

/// What the server does on a stream, one thing after the other; then nothing, and the stream stays
/// open.
pub(crate) enum Act {
    Say(Box<v1::WatchResponse>),
    Fail(Status),
    /// Cuts the wire.
    Cut,
    /// Ends the stream as if all were well.
    EndStream,
}

pub(crate) struct Server {
    pub(crate) endpoint: String,
    wire: Arc<Wire>,
    state: Arc<State>,
    requests: tokio::sync::Mutex<mpsc::UnboundedReceiver<v1::WatchRequest>>,
}

struct State {
    scripts: Mutex<VecDeque<Vec<Act>>>,
    requests: mpsc::UnboundedSender<v1::WatchRequest>,
    said: AtomicUsize,
    open: watch::Sender<usize>,
    wire: Arc<Wire>,
    /// How many of the next calls on the keyspace break.
    breaking: AtomicUsize,
    /// How many of the next ones are never answered, on a wire that works.
    hanging: AtomicUsize,
    calls: AtomicUsize,
    authorization: Mutex<Option<String>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(upstream.local_addr().unwrap()).await;
        let (requests, received) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            scripts: Mutex::new(VecDeque::new()),
            requests,
            said: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            wire: wire.clone(),
            breaking: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            authorization: Mutex::new(None),
        });
        let router = tonic::transport::Server::builder()
            .add_service(WatchServer::new(Face(state.clone())))
            .add_service(KeyspaceServer::new(Face(state.clone())));
        tokio::spawn(router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(upstream)));
        Self {
            endpoint: format!("http://{}", wire.addr),
            wire,
            state,
            requests: tokio::sync::Mutex::new(received),
        }
    }

    /// What to do on the next stream for which nothing has been planned.
    pub(crate) fn plan(&self, acts: impl IntoIterator<Item = Act>) {
        let mut scripts = self.state.scripts.lock().unwrap();
        scripts.push_back(acts.into_iter().collect());
    }

    pub(crate) async fn client(&self) -> Client {
        Client::builder(&self.endpoint).connect().await.unwrap()
    }

    /// What the next stream was asked for.
    pub(crate) async fn request(&self) -> v1::WatchRequest {
        let mut requests = self.requests.lock().await;
        soon("a request", requests.recv()).await.expect("a server")
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.wire.cut();
    }

    /// From now on what is sent on existing connections vanishes.
    pub(crate) fn swallow(&self) {
        self.wire.swallow.send_replace(true);
    }

    /// How many messages the streams have taken.
    pub(crate) fn said(&self) -> usize {
        self.state.said.load(Ordering::SeqCst)
    }

    /// Waits until this many streams are open.
    pub(crate) async fn open_streams(&self, n: usize) {
        let mut open = self.state.open.subscribe();
        soon("streams come and go", open.wait_for(|open| *open == n))
            .await
            .unwrap();
    }

    pub(crate) fn break_calls(&self, n: usize) {
        self.state.breaking.store(n, Ordering::SeqCst);
    }

    pub(crate) fn hang_calls(&self, n: usize) {
        self.state.hanging.store(n, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.state.authorization.lock().unwrap().clone()
    }
}

/// Carries bytes between clients and the server, as long as it is not told otherwise.
struct Wire {
    addr: SocketAddr,
    cuts: watch::Sender<u64>,
    swallow: watch::Sender<bool>,
}

impl Wire {
    async fn to(upstream: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Arc::new(Self {
            addr: listener.local_addr().unwrap(),
            cuts: watch::Sender::new(0),
            swallow: watch::Sender::new(false),
        });
        let carrier = wire.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carrier.clone().carry(client, upstream));
            }
        });
        wire
    }

    async fn carry(self: Arc<Self>, mut client: TcpStream, upstream: SocketAddr) {
        let mut cuts = self.cuts.subscribe();
        let mut swallow = self.swallow.subscribe();
        swallow.mark_unchanged();
        let mut server = TcpStream::connect(upstream).await.unwrap();
        let swallowed = tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
            _ = cuts.changed() => false,
            _ = swallow.changed() => true,
        };
        if swallowed {
            // Neither end hears that the other is out of reach.
            let _ = cuts.changed().await;
        }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

struct Stage {
    acts: std::vec::IntoIter<Act>,
    state: Arc<State>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.state.open.send_modify(|open| *open -= 1);
    }
}

struct Face(Arc<State>);

#[tonic::async_trait]
impl v1::watch_server::Watch for Face {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let _ = self.0.requests.send(request.into_inner());
        let acts = self.0.scripts.lock().unwrap().pop_front();
        let acts = acts.ok_or_else(|| Status::unavailable("nothing is planned"))?;
        self.0.open.send_modify(|open| *open += 1);
        let stage = Stage {
            acts: acts.into_iter(),
            state: self.0.clone(),
        };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(
            stage, perform,
        ))))
    }
}

async fn perform(mut stage: Stage) -> Option<(Result<v1::WatchResponse, Status>, Stage)> {
    match stage.acts.next() {
        Some(Act::Say(response)) => {
            stage.state.said.fetch_add(1, Ordering::SeqCst);
            Some((Ok(*response), stage))
        }
        Some(Act::Fail(status)) => Some((Err(status), stage)),
        Some(Act::EndStream) => None,
        Some(Act::Cut) => {
            stage.state.wire.cut();
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

impl Face {
    /// Counts a call, and breaks the wire under it if that was wanted.
    async fn called<T>(&self, request: Request<T>) {
        let state = &self.0;
        state.calls.fetch_add(1, Ordering::SeqCst);
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        *state.authorization.lock().unwrap() = authorization;
        let takes_one = |of: &AtomicUsize| {
            let one_less = |left: usize| left.checked_sub(1);
            of.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                .is_ok()
        };
        if takes_one(&state.breaking) {
            state.wire.cut();
            std::future::pending::<()>().await;
        }
        if takes_one(&state.hanging) {
            std::future::pending::<()>().await;
        }
    }
}

fn header() -> v1::ResponseHeader {
    v1::ResponseHeader {
        keyspace_id: KEYSPACE,
        revision: 5,
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::keyspace_server::Keyspace for Face {
    async fn get(&self, _: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        Err(Status::unimplemented("get"))
    }

    async fn range(&self, request: Request<v1::RangeRequest>) -> Answer<v1::RangeResponse> {
        self.called(request).await;
        Ok(Response::new(v1::RangeResponse {
            header: Some(header()),
            count: 3,
            ..Default::default()
        }))
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Answer<v1::PutResponse> {
        Err(Status::unimplemented("put"))
    }

    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        Err(Status::unimplemented("delete"))
    }

    async fn txn(&self, request: Request<v1::TxnRequest>) -> Answer<v1::TxnResponse> {
        self.called(request).await;
        Ok(Response::new(v1::TxnResponse {
            header: Some(header()),
            succeeded: true,
            responses: Vec::new(),
        }))
    }

    async fn compact(&self, _: Request<v1::CompactRequest>) -> Answer<v1::CompactResponse> {
        Err(tidewatch_proto::error::to_status(
            &tidewatch_core::Error::Compacted {
                requested: Revision(3),
                oldest: Revision(4),
            },
        ))
    }

    async fn lease_grant(&self, _: Request<v1::LeaseGrantRequest>) -> Answer<v1::LeaseGrantResponse> {
        // A server of another kind: an answer without a header.
        Ok(Response::new(v1::LeaseGrantResponse::default()))
    }

    async fn lease_revoke(&self, _: Request<v1::LeaseRevokeRequest>) -> Answer<v1::LeaseRevokeResponse> {
        Err(Status::unimplemented("lease_revoke"))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<v1::LeaseKeepAliveRequest>,
    ) -> Answer<v1::LeaseKeepAliveResponse> {
        self.called(request).await;
        Ok(Response::new(v1::LeaseKeepAliveResponse {
            header: Some(header()),
            ttl_ms: 10_000,
        }))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<v1::LeaseTimeToLiveRequest>,
    ) -> Answer<v1::LeaseTimeToLiveResponse> {
        Err(Status::unimplemented("lease_time_to_live"))
    }

    async fn lease_list(&self, _: Request<v1::LeaseListRequest>) -> Answer<v1::LeaseListResponse> {
        Ok(Response::new(v1::LeaseListResponse::default()))
    }
}

/// What servers say.
pub(crate) mod say {
    use super::*;

    fn say(response: Said) -> Act {
        respond(v1::WatchResponse {
            response: Some(response),
            events: Vec::new(),
        })
    }

    fn respond(response: v1::WatchResponse) -> Act {
        Act::Say(Box::new(response))
    }

    pub(crate) fn created(revision: u64) -> Act {
        created_in(KEYSPACE, revision, true)
    }

    pub(crate) fn created_for_snapshot(revision: u64) -> Act {
        created_in(KEYSPACE, revision, false)
    }

    pub(crate) fn created_in(keyspace_id: u64, revision: u64, resumable: bool) -> Act {
        say(Said::Created(v1::WatchCreated {
            watch_id: 1,
            keyspace_id,
            revision,
            resumable,
        }))
    }

    fn entry(key: &str, revision: u64, value: &Bytes) -> v1::KeyValue {
        v1::KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }
    }

    pub(crate) fn events(revision: u64, keys: &[&str], partial: bool) -> Act {
        large_events(revision, keys, partial, &Bytes::from_static(b"v"))
    }

    pub(crate) fn large_events(revision: u64, keys: &[&str], partial: bool, value: &Bytes) -> Act {
        let event = |key: &&str| v1::Event {
            kv: Some(entry(key, revision, value)),
            ..Default::default()
        };
        let events = v1::WatchEvents {
            revision,
            time: None,
            partial,
            events: keys.iter().map(event).collect(),
        };
        respond(v1::WatchResponse {
            response: None,
            events: vec![events],
        })
    }

    pub(crate) fn snapshot_begin(revision: u64) -> Act {
        say(Said::SnapshotBegin(v1::WatchSnapshotBegin { revision }))
    }

    pub(crate) fn snapshot(revision: u64, keys: &[&str]) -> Act {
        let kvs = keys.iter().map(|key| entry(key, 2, &Bytes::new())).collect();
        say(Said::Snapshot(v1::WatchSnapshot { revision, kvs }))
    }

    pub(crate) fn snapshot_end(revision: u64) -> Act {
        say(Said::SnapshotEnd(v1::WatchSnapshotEnd { revision }))
    }

    pub(crate) fn progress(revision: u64) -> Act {
        say(Said::Progress(v1::WatchProgress { revision }))
    }

    pub(crate) fn ended(reason: EndReason) -> Act {
        let ended = Ended {
            reason,
            last_delivered: None,
            resume: None,
        };
        Act::Say(Box::new(tidewatch_proto::watch::ended(&ended)))
    }
}

pub(crate) fn at(revision: u64) -> Position {
    Position {
        keyspace: KeyspaceId(KEYSPACE),
        revision: Revision(revision),
    }
}
