//! A stream of watches, as a client sees it.

use std::collections::BTreeMap;

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_client::WatchClient;
use tidewatch_proto::etcdserverpb::watch_create_request::FilterType;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tidewatch_proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::rig::{TestServer, bytes, within};

/// The id of no watch, and of answers for all.
pub(crate) const NO_WATCH: i64 = -1;

/// Requests that may wait for the server.
const REQUESTS: usize = 1024;

/// A stream of watches.
pub(crate) struct Watching {
    requests: Option<mpsc::Sender<pb::WatchRequest>>,
    /// A stream is answered with its first message.
    opening: JoinSet<Result<Response<Streaming<pb::WatchResponse>>, Status>>,
    responses: Option<Streaming<pb::WatchResponse>>,
}

impl Watching {
    pub(crate) async fn on(server: &TestServer) -> Self {
        Self::over(WatchClient::new(server.channel().await))
    }

    pub(crate) fn over(mut client: WatchClient<Channel>) -> Self {
        let (requests, sent) = mpsc::channel(REQUESTS);
        let mut opening = JoinSet::new();
        opening.spawn(async move { client.watch(ReceiverStream::new(sent)).await });
        Self {
            requests: Some(requests),
            opening,
            responses: None,
        }
    }

    async fn message(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        if let Some(opened) = self.opening.join_next().await {
            self.responses = Some(opened.unwrap()?.into_inner());
        }
        match &mut self.responses {
            Some(responses) => responses.message().await,
            None => Ok(None),
        }
    }

    /// Whether the head of the answer is here, or the stream was refused.
    pub(crate) fn is_answered(&mut self) -> bool {
        self.responses.is_some() || self.opening.try_join_next().is_some()
    }

    pub(crate) async fn ask(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        let requests = self.requests.as_ref().expect("it has not ended its side");
        within("the request to be taken", requests.send(request))
            .await
            .unwrap();
    }

    /// Asks for a watch and waits for what is said to that.
    pub(crate) async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let response = self.next().await;
        assert!(response.created && response.events.is_empty(), "{response:?}");
        response
    }

    /// Begins a watch and returns its id.
    pub(crate) async fn begin(&mut self, request: pb::WatchCreateRequest) -> i64 {
        let response = self.create(request).await;
        assert!(!response.canceled, "{response:?}");
        response.watch_id
    }

    pub(crate) async fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
            .await;
    }

    pub(crate) async fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
            .await;
    }

    /// The same of a server that may be going away.
    pub(crate) async fn try_ask_progress(&self) {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
        };
        let requests = self.requests.as_ref().expect("it has not ended its side");
        // Who has gone does not answer; that shows where answers are read.
        let _ = within("the request to be taken", requests.send(request)).await;
    }

    /// Ends the client's side.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> pb::WatchResponse {
        let response = within("a response", self.message()).await.unwrap();
        response.expect("the stream goes on")
    }

    /// The next response; none: the stream broke off, as streams do when a server goes away.
    pub(crate) async fn try_next(&mut self) -> Option<pb::WatchResponse> {
        match within("a response", self.message()).await {
            Ok(response) => response,
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                None
            }
        }
    }

    /// The next response, which must be of this watch and have events.
    pub(crate) async fn events(&mut self, watch_id: i64) -> pb::WatchResponse {
        let response = self.next().await;
        assert_eq!(response.watch_id, watch_id, "{response:?}");
        assert!(!response.events.is_empty(), "{response:?}");
        response
    }

    /// So many events of this watch, in as many responses as they come in; each as `PUT /a=1@2`.
    pub(crate) async fn take(&mut self, watch_id: i64, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(shown(&self.events(watch_id).await));
        }
        assert_eq!(taken.len(), count, "{taken:?}");
        taken
    }

    /// So many events of each of several watches, whatever order the watches come in.
    pub(crate) async fn take_each(&mut self, watches: usize, count: usize) -> BTreeMap<i64, Vec<String>> {
        let mut taken: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        while taken.len() < watches || taken.values().any(|events| events.len() < count) {
            let response = self.next().await;
            taken
                .entry(response.watch_id)
                .or_default()
                .extend(shown(&response));
        }
        taken
    }

    /// The end of the stream.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        let end = within("the end of the stream", self.message()).await?;
        assert!(end.is_none(), "something came instead of the end: {end:?}");
        Ok(())
    }

    /// Asserts that nothing is to come for what happened so far. What was asked before is answered in
    /// its turn, so whatever there was would have come before this answer.
    pub(crate) async fn assert_silent(&mut self) {
        let refused = self.create(watch("b", "a")).await;
        assert!(refused.canceled, "{refused:?}");
    }
}

/// A watch of the keys from `key` up to `range_end`, from now on.
pub(crate) fn watch(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..pb::WatchCreateRequest::default()
    }
}

/// The same from a revision on.
pub(crate) fn watch_from(key: &str, range_end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        start_revision,
        ..watch(key, range_end)
    }
}

/// A watch without some events.
pub(crate) fn filtered(key: &str, filter: FilterType) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        filters: vec![filter.into()],
        ..watch(key, "")
    }
}

/// The events of a response, each as `PUT /a=1@2`.
pub(crate) fn shown(response: &pb::WatchResponse) -> Vec<String> {
    let events = response.events.iter().map(|event| {
        let kv = event.kv.as_ref().unwrap();
        let key = String::from_utf8_lossy(&kv.key);
        if event.r#type() == EventType::Delete {
            return format!("DELETE {key}@{}", kv.mod_revision);
        }
        format!(
            "PUT {key}={}@{}",
            String::from_utf8_lossy(&kv.value),
            kv.mod_revision
        )
    });
    events.collect()
}

/// The revision in a response's header.
pub(crate) fn revision(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}
