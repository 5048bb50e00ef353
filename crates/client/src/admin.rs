//! The state of a server, and copies of its keyspace.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidewatch_core::{KeyspaceId, Revision};
use tidewatch_proto::v1::admin_client::AdminClient;
use tidewatch_proto::v1::backup_response::Response;
use tidewatch_proto::{header, v1};
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
    })
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
