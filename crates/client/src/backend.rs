//! A server's keyspace as a backend.

use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{
    Backend, BoxFuture, EndReason, Error, LeaseGrant, LeaseId, LeaseInfo, Revision, Status, Watch,
};
use tidewatch_proto::v1::admin_client::AdminClient;
use tidewatch_proto::v1::keyspace_client::KeyspaceClient;
use tidewatch_proto::{MAX_TXN_DEPTH, header, txn_depth, v1};
use tonic::Request;
use tonic::transport::Channel;

use crate::connection::{Connection, MAX_ANSWER_BYTES};
use crate::failure::{Failure, Intent};
use crate::watch;

/// A [`Backend`] whose keyspace is on a server.
#[derive(Debug)]
pub(crate) struct RemoteBackend {
    connection: Arc<Connection>,
}

impl RemoteBackend {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    /// Makes a call, and reads its answer.
    async fn call<T, R, A, F>(
        &self,
        intent: Intent,
        message: T,
        send: impl Fn(KeyspaceClient<Channel>, Request<T>) -> F,
        read: impl FnOnce(R) -> Result<A, Failure>,
    ) -> Result<A, Error>
    where
        T: Clone,
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        if self.connection.is_closed() {
            return Err(Error::Closed);
        }
        let send = |channel, request| send(keyspace(channel), request);
        let answer = self.connection.call(intent, message, send).await;
        answer
            .and_then(read)
            .map_err(|failure| failure.into_keyspace_error(intent))
    }
}

fn keyspace(channel: Channel) -> KeyspaceClient<Channel> {
    KeyspaceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}

impl Backend for RemoteBackend {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), Error>> {
        let message = v1::RangeRequest::from(&request);
        Box::pin(self.call(
            Intent::Read,
            message,
            |mut client, request| async move { client.range(request).await },
            |answer| Ok((header(answer.header)?, answer.into())),
        ))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(async move {
            txn.validate()?;
            if txn_depth(&txn) > MAX_TXN_DEPTH {
                return Err(Error::InvalidArgument {
                    what: "transaction",
                    reason: format!("it nests more than {MAX_TXN_DEPTH} deep"),
                });
            }
            let intent = if txn.is_read_only() {
                Intent::Read
            } else {
                Intent::Write
            };
            let answer: Result<TxnResponse, Error> = self
                .call(
                    intent,
                    v1::TxnRequest::from(&txn),
                    |mut client, request| async move { client.txn(request).await },
                    |answer| Ok(answer.try_into()?),
                )
                .await;
            if let Ok(answer) = &answer {
                self.connection.acknowledge(answer.header.revision);
            }
            answer
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, Error>> {
        // Done twice it fails the second time, so it is not a read.
        Box::pin(self.call(
            Intent::Write,
            v1::CompactRequest { revision: revision.0 },
            |mut client, request| async move { client.compact(request).await },
            |answer| Ok(header(answer.header)?),
        ))
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), Error>> {
        let message = v1::LeaseGrantRequest {
            id: id.map(|id| id.0),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        };
        Box::pin(self.call(
            Intent::Write,
            message,
            |mut client, request| async move { client.lease_grant(request).await },
            |answer| Ok((header(answer.header)?, answer.into())),
        ))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, Error>> {
        Box::pin(self.call(
            Intent::Write,
            v1::LeaseRevokeRequest { id: id.0 },
            |mut client, request| async move { client.lease_revoke(request).await },
            |answer| Ok(header(answer.header)?),
        ))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), Error>> {
        Box::pin(async move {
            if self.connection.is_closed() {
                return Err(Error::Closed);
            }
            let send = |channel, request| async move { keyspace(channel).lease_keep_alive(request).await };
            let message = v1::LeaseKeepAliveRequest { id: id.0 };
            let answer = self.connection.keep_alive(message, send).await;
            answer
                .and_then(|answer| Ok((header(answer.header)?, Duration::from_millis(answer.ttl_ms))))
                .map_err(|failure| failure.into_keyspace_error(Intent::Read))
        })
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), Error>> {
        Box::pin(self.call(
            Intent::Read,
            v1::LeaseTimeToLiveRequest { id: id.0 },
            |mut client, request| async move { client.lease_time_to_live(request).await },
            |answer| Ok((header(answer.header)?, answer.into())),
        ))
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), Error>> {
        Box::pin(self.call(
            Intent::Read,
            v1::LeaseListRequest {},
            |mut client, request| async move { client.lease_list(request).await },
            |answer| {
                let leases = answer.ids.into_iter().map(LeaseId).collect();
                Ok((header(answer.header)?, leases))
            },
        ))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move {
            request.validate()?;
            if self.connection.is_closed() {
                return Err(Error::Closed);
            }
            let started = watch::start(self.connection.clone(), request).await;
            started.map_err(|failure| failure.into_keyspace_error(Intent::Read))
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        Box::pin(async move {
            if self.connection.is_closed() {
                return Err(Error::Closed);
            }
            let send = |channel, request| async move { AdminClient::new(channel).status(request).await };
            let answer = self
                .connection
                .call(Intent::Read, v1::StatusRequest {}, send)
                .await;
            answer
                .and_then(|answer| Ok(Status::try_from(&answer)?))
                .map_err(|failure| failure.into_keyspace_error(Intent::Read))
        })
    }

    /// Nothing: the connections run on tokio by themselves.
    fn driver(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn close(&self, reason: EndReason) {
        self.connection.close(reason);
    }
}
