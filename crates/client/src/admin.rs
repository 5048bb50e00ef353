//! The state of a server, copies of its keyspace, and who watches it.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidewatch_core::watch::WatchId;
use tidewatch_core::{KeyspaceId, Revision};
use tidewatch_proto::v1::admin_client::AdminClient;
use tidewatch_proto::v1::backup_response::Response;
use tidewatch_proto::{WatcherStatus, header, v1};
use tonic::Streaming;

use crate::client::Client;
use crate::connection::MAX_ANSWER_BYTES;
use crate::error::Error;
use crate::failure::{Failure, Intent};

/// How a server and its keyspace are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// The server's version.
    pub version: String,
    /// Which keyspace it has.
    pub keyspace: KeyspaceId,
    /// The current revision.
    pub revision: Revision,
    /// The oldest revision that can be read or watched from.
    pub oldest: Revision,
    /// What the keyspace runs on: `memory`, `sqlite`, `etcd`, `remote`.
    pub backend: String,
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of keys and values, as the quota counts them.
    pub bytes: u64,
    /// The quota, in bytes.
    pub quota: u64,
    /// Bytes of history kept.
    pub history_bytes: u64,
    /// How many leases there are.
    pub leases: u64,
    /// How many watchers there are.
    pub watchers: u64,
    /// Up to which revision events have been handed to watchers.
    pub dispatched: Revision,
    /// Since when the server runs.
    pub started: Option<SystemTime>,
    /// The reconcilers that run in it.
    pub reconcilers: Vec<ReconcilerStatus>,
    /// What is wrong and does not stop the server, for people.
    pub warnings: Vec<String>,
    /// The etcd that the keyspace is in, if it is in one.
    pub upstream: Option<UpstreamStatus>,
}

/// How what a server has follows the etcd, or the other server, that the keyspace is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Where it is, for people.
    pub endpoints: Vec<String>,
    /// How all keys of the keyspace begin there.
    pub namespace: Bytes,
    /// `connecting`, `live`, `interrupted` or `stopped`.
    pub state: String,
    /// How long ago what the server has was last known to be what is there.
    pub age: Option<Duration>,
    /// Why it is not live; empty if it is.
    pub error: String,
    /// How many revisions what the server has is known to be behind.
    pub lag_revisions: u64,
    /// How often everything was read anew since the start.
    pub relists: u64,
    /// How many backfills run, for watches from before the history that the server has.
    pub backfills: u64,
    /// How many there have been.
    pub backfills_begun: u64,
}

/// How the reconciler of one host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcilerStatus {
    /// The host.
    pub host: String,
    /// Where its Docker is.
    pub endpoint: String,
    /// Whether Docker answers.
    pub reachable: bool,
    /// Since when it does, or does not.
    pub since: Option<SystemTime>,
    /// Why it does not; empty if it does.
    pub error: String,
    /// When what Docker shows was last compared in full.
    pub last_sync: Option<SystemTime>,
    /// How often that was done.
    pub syncs: u64,
    /// How many changes periodic syncs found that no event had announced.
    pub drift: u64,
    /// How many containers have a row.
    pub containers: u64,
    /// How many have none.
    pub untracked: u64,
}

/// Some of a server's watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherPage {
    /// In the order of their names.
    pub watchers: Vec<WatcherStatus>,
    /// Whether there are more after the last of these.
    pub more: bool,
}

/// A copy of a server's keyspace that is arriving.
pub struct Backup {
    keyspace: KeyspaceId,
    revision: Revision,
    format: String,
    size: Option<u64>,
    stream: Streaming<v1::BackupResponse>,
    arrived: u64,
    digest: Sha256,
    complete: bool,
}

impl Client {
    /// How the server is.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn status(&self) -> Result<ServerStatus, Error> {
        let send = |channel, request| async move {
            let mut client = AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.status(request).await
        };
        let answer = self
            .connection()
            .call(Intent::Read, v1::StatusRequest {}, send)
            .await;
        self.read(answer.and_then(server_status))
    }

    /// The watchers that the server serves, its own included: the first ones, or those after one.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads); [`Error::Keyspace`] with `Unsupported` if the server
    /// watches a keyspace elsewhere.
    pub async fn watchers(&self, after: Option<WatchId>) -> Result<WatcherPage, Error> {
        let message = v1::ListWatchersRequest {
            after_id: after.map_or(0, |id| id.0),
            limit: 0,
        };
        let send = |channel, request| async move {
            let mut client = AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.list_watchers(request).await
        };
        let answer = self.connection().call(Intent::Read, message, send).await;
        let answer = self.read(answer)?;
        let watchers = answer.watchers.into_iter().map(WatcherStatus::try_from);
        Ok(WatcherPage {
            watchers: self.read(watchers.collect::<Result<_, _>>())?,
            more: answer.more,
        })
    }

    /// Ends a watch of the server's, whoever reads it, with [`Canceled`](tidewatch_core::EndReason::Canceled)
    /// and a place to resume from. Watches of this client do not resume by themselves after that.
    ///
    /// # Errors
    /// Those of [`watchers`](Self::watchers), and [`Error::NotFound`] if there is no such watch.
    pub async fn cancel_watcher(&self, id: WatchId) -> Result<(), Error> {
        let send = |channel, request| async move { AdminClient::new(channel).cancel_watcher(request).await };
        let message = v1::CancelWatcherRequest { id: id.0 };
        // Done twice it fails the second time, so it is not a read.
        let answer = self.connection().call(Intent::Write, message, send).await;
        let endpoints = || self.connection().endpoints();
        answer.map_err(|failure| failure.into_error(Intent::Write, endpoints()))?;
        Ok(())
    }

    /// Asks for a copy of the keyspace, while everything goes on. It is not begun again by itself.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads); [`Error::Keyspace`] with `Unsupported` if the server
    /// cannot make one.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let send = |channel, request| async move { AdminClient::new(channel).backup(request).await };
        let answer = self
            .connection()
            .call(Intent::Read, v1::BackupRequest {}, send)
            .await;
        let mut stream: Streaming<v1::BackupResponse> = self.read(answer)?;
        let first = self.read(stream.message().await.map_err(Failure::from))?;
        let Some(Response::Begin(begin)) = first.and_then(|first| first.response) else {
            return Err(incomplete("it does not begin with what it is of"));
        };
        Ok(Backup {
            keyspace: KeyspaceId(begin.keyspace_id),
            revision: Revision(begin.revision),
            format: begin.format,
            size: (begin.size_bytes != 0).then_some(begin.size_bytes),
            stream,
            arrived: 0,
            digest: Sha256::new(),
            complete: false,
        })
    }
}

impl Backup {
    /// Which keyspace it is of.
    pub fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The revision up to which it holds everything.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The form of the data: `sqlite`.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// How many bytes will come, if the server knows.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next piece of the data. None when all of it has arrived as it was sent; without that, what
    /// has arrived is of no use.
    ///
    /// # Errors
    /// [`Error::IncompleteBackup`] if the stream broke off, or what arrived is not what was sent.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.complete {
            return Ok(None);
        }
        match self.stream.message().await {
            Ok(Some(v1::BackupResponse {
                response: Some(Response::Data(data)),
            })) => {
                self.arrived += data.len() as u64;
                self.digest.update(&data);
                Ok(Some(data))
            }
            Ok(Some(v1::BackupResponse {
                response: Some(Response::End(end)),
            })) => {
                self.check(&end)?;
                self.complete = true;
                Ok(None)
            }
            Ok(Some(_)) => Err(incomplete("it holds what this version does not know")),
            Ok(None) => Err(incomplete("the server ended it early")),
            Err(status) => Err(incomplete(&Failure::from(status).text())),
        }
    }

    fn check(&mut self, end: &v1::backup_response::End) -> Result<(), Error> {
        if end.size_bytes != self.arrived {
            return Err(incomplete(&format!(
                "{} bytes were sent, {} arrived",
                end.size_bytes, self.arrived
            )));
        }
        let digest = std::mem::take(&mut self.digest).finalize();
        if digest[..] != end.sha256[..] {
            return Err(incomplete("its checksum is wrong"));
        }
        Ok(())
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("keyspace", &self.keyspace)
            .field("revision", &self.revision)
            .field("format", &self.format)
            .field("arrived", &self.arrived)
            .finish_non_exhaustive()
    }
}

fn incomplete(reason: &str) -> Error {
    Error::IncompleteBackup {
        reason: reason.to_owned(),
    }
}

fn server_status(message: v1::StatusResponse) -> Result<ServerStatus, Failure> {
    let header = header(message.header)?;
    Ok(ServerStatus {
        version: message.version,
        keyspace: header.keyspace,
        revision: header.revision,
        oldest: Revision(message.oldest_revision),
        backend: message.backend,
        keys: message.keys,
        bytes: message.bytes,
        quota: message.quota_bytes,
        history_bytes: message.history_bytes,
        leases: message.leases,
        watchers: message.watchers,
        dispatched: Revision(message.dispatched_revision),
        started: message.started.and_then(|time| time.try_into().ok()),
        reconcilers: message.reconcilers.into_iter().map(reconciler_status).collect(),
        warnings: message.warnings,
        upstream: message.upstream.map(upstream_status),
    })
}

fn upstream_status(message: v1::UpstreamStatus) -> UpstreamStatus {
    UpstreamStatus {
        endpoints: message.endpoints,
        namespace: message.namespace,
        state: message.state,
        age: message.age_ms.map(Duration::from_millis),
        error: message.error,
        lag_revisions: message.lag_revisions,
        relists: message.relists,
        backfills: message.backfills,
        backfills_begun: message.backfills_begun,
    }
}

fn reconciler_status(message: v1::ReconcilerStatus) -> ReconcilerStatus {
    ReconcilerStatus {
        host: message.host,
        endpoint: message.endpoint,
        reachable: message.reachable,
        since: message.since.and_then(|time| time.try_into().ok()),
        error: message.error,
        last_sync: message.last_sync.and_then(|time| time.try_into().ok()),
        syncs: message.syncs,
        drift: message.drift,
        containers: message.containers,
        untracked: message.untracked,
    }
}
