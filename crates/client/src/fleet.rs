//! Workloads, containers and hosts, as a server tells them.

use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tidewatch_core::{EventKind, Position, Revision};
use tidewatch_fleet::{Workload, WorkloadId};
use tidewatch_proto::v1::fleet_client::FleetClient;
use tidewatch_proto::{header, v1};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::connection::MAX_ANSWER_BYTES;
use crate::error::Error;
use crate::failure::{Failure, Intent};

/// A thing of the fleet: JSON, of which nobody has to know every field.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key; empty for a container without a row.
    pub key: String,
    /// When it was last written.
    pub mod_revision: Revision,
    /// All its fields.
    pub fields: Map<String, Value>,
}

impl Row {
    /// A field that holds a text; empty if there is none.
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The row as one of the types of `tidewatch-fleet`, or of the caller's own.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(Value::Object(self.fields.clone()))
    }

    pub(crate) fn read(message: v1::FleetRow) -> Result<Self, Failure> {
        let fields = serde_json::from_str(&message.json)
            .map_err(|error| Failure::Malformed(format!("{} is not a JSON object: {error}", message.key)))?;
        Ok(Self {
            key: message.key,
            mod_revision: Revision(message.mod_revision),
            fields,
        })
    }
}

/// Which containers are meant. What is empty does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// Those of this workload.
    pub workload: String,
    /// Those on this host.
    pub host: String,
    /// Those in this state.
    pub state: String,
}

impl From<ContainerFilter> for v1::ContainerFilter {
    fn from(filter: ContainerFilter) -> Self {
        Self {
            workload: filter.workload,
            host: filter.host,
            state: filter.state,
        }
    }
}

/// Why a container has the row it has, or has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Where it runs.
    pub host: String,
    /// Its id.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Its row, if it has one.
    pub row: Option<Row>,
    /// A stable name for why that is so.
    pub reason: String,
    /// The same for people, with what to do about it.
    pub message: String,
}

/// Which part of the log is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only what happened since then.
    pub since: Option<SystemTime>,
    /// Only what had happened by then.
    pub until: Option<SystemTime>,
    /// Only what happened to this workload; empty: to all.
    pub workload: String,
    /// The most entries, the newest ones; none: 1000. More than 10000 are not sent.
    pub limit: Option<u32>,
}

/// What changed in the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetLog {
    /// The changes, oldest first.
    pub entries: Vec<LogEntry>,
    /// Whether the limit left out older ones.
    pub more: bool,
    /// Where the history begins, if it does not reach back as far as was asked.
    pub history_begins: Option<Revision>,
    /// Up to where this is the log.
    pub position: Position,
}

/// A change of one of the fleet's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// The revision of the change.
    pub revision: Revision,
    /// When it was committed, if that is known.
    pub time: Option<SystemTime>,
    /// The key.
    pub key: String,
    /// Whether it was written or deleted.
    pub kind: EventKind,
    /// The workload in the key, if there is one.
    pub workload: String,
    /// The host in the key, if there is one.
    pub host: String,
    /// The row in the key, if there is one.
    pub row: String,
    /// The state before; empty if there is none.
    pub state_before: String,
    /// The state after; empty if there is none.
    pub state_after: String,
    /// What changed, in a few words.
    pub message: String,
    /// The value after the change, if there is one and it is JSON.
    pub value: Option<Value>,
    /// The value before it, likewise.
    pub prev_value: Option<Value>,
}

impl Client {
    /// The workloads, by id.
    ///
    /// # Errors
    /// As for all calls on the fleet: [`Error::Unreachable`], [`Error::Refused`],
    /// [`Error::Keyspace`], [`Error::Protocol`].
    pub async fn workloads(&self) -> Result<Vec<Row>, Error> {
        let send = |mut client: Fleet, request| async move { client.list_workloads(request).await };
        let answer = self
            .fleet(Intent::Read, v1::ListWorkloadsRequest {}, send)
            .await?;
        self.rows(answer.workloads)
    }

    /// Declares a workload, or changes a declared one, and returns it as it is stored then. Fields
    /// that the stored one has and this one does not name are kept.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads), and [`Error::Keyspace`] with `InvalidArgument` for a
    /// workload that makes no sense. With `OutcomeUnknown` it may have been declared; to declare it
    /// again does no harm.
    pub async fn declare_workload(&self, workload: &Workload) -> Result<Row, Error> {
        let json = serde_json::to_string(workload).map_err(|error| Error::Config {
            what: "workload",
            reason: error.to_string(),
        })?;
        let message = v1::DeclareWorkloadRequest { json };
        let send = |mut client: Fleet, request| async move { client.declare_workload(request).await };
        let answer = self.fleet(Intent::Write, message, send).await?;
        let row = answer.workload.ok_or_else(|| Error::Protocol {
            reason: "it does not say what it has stored".into(),
        })?;
        self.read(Row::read(row))
    }

    /// Removes a workload and its rows, and returns how many keys that were, and the revision.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads); [`Error::NotFound`]; [`Error::Refused`] while there
    /// are deploy rows, unless `force` is given.
    pub async fn remove_workload(&self, id: &WorkloadId, force: bool) -> Result<(u64, Revision), Error> {
        let message = v1::RemoveWorkloadRequest {
            id: id.to_string(),
            force,
        };
        let send = |mut client: Fleet, request| async move { client.remove_workload(request).await };
        let answer = self.fleet(Intent::Write, message, send).await?;
        let header = self.read(header(answer.header))?;
        Ok((answer.deleted, header.revision))
    }

    /// The containers: what deployers know joined with what Docker shows.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn containers(&self, filter: ContainerFilter) -> Result<Vec<Row>, Error> {
        Ok(self.list_containers(filter, false).await?.0)
    }

    /// The containers without a row, each with a `reason`, and what the server does not know, for people.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn untracked(&self, filter: ContainerFilter) -> Result<(Vec<Row>, Vec<String>), Error> {
        self.list_containers(filter, true).await
    }

    async fn list_containers(
        &self,
        filter: ContainerFilter,
        untracked: bool,
    ) -> Result<(Vec<Row>, Vec<String>), Error> {
        let message = v1::ListContainersRequest {
            filter: Some(filter.into()),
            untracked,
        };
        let send = |mut client: Fleet, request| async move { client.list_containers(request).await };
        let answer = self.fleet(Intent::Read, message, send).await?;
        Ok((self.rows(answer.containers)?, answer.unknown))
    }

    /// The hosts, by name.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn hosts(&self) -> Result<Vec<Row>, Error> {
        let send = |mut client: Fleet, request| async move { client.list_hosts(request).await };
        let answer = self.fleet(Intent::Read, v1::ListHostsRequest {}, send).await?;
        self.rows(answer.hosts)
    }

    /// Why a container, named by its id, the beginning of it, or its name, has the row it has, or has
    /// none. One explanation for each container that is meant.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads), and [`Error::NotFound`] if nobody knows it.
    pub async fn explain(&self, container: &str, host: Option<&str>) -> Result<Vec<Explanation>, Error> {
        let message = v1::ExplainRequest {
            container: container.to_owned(),
            host: host.unwrap_or_default().to_owned(),
        };
        let send = |mut client: Fleet, request| async move { client.explain(request).await };
        let answer = self.fleet(Intent::Read, message, send).await?;
        if answer.explanations.is_empty() {
            return Err(Error::NotFound {
                message: format!("no host knows a container {container:?}"),
            });
        }
        let explanations = answer.explanations.into_iter().map(explanation);
        self.read(explanations.collect::<Result<_, _>>())
    }

    /// What changed in the fleet.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn log(&self, query: LogQuery) -> Result<FleetLog, Error> {
        let message = v1::LogRequest {
            since: query.since.map(Into::into),
            until: query.until.map(Into::into),
            workload: query.workload,
            limit: query.limit.unwrap_or(0),
        };
        let send = |mut client: Fleet, request| async move { client.log(request).await };
        let answer = self.fleet(Intent::Read, message, send).await?;
        let header = self.read(header(answer.header))?;
        Ok(FleetLog {
            entries: self.read(
                answer
                    .entries
                    .into_iter()
                    .map(log_entry)
                    .collect::<Result<_, _>>(),
            )?,
            more: answer.more,
            history_begins: (answer.history_begins != 0).then_some(Revision(answer.history_begins)),
            position: Position {
                keyspace: header.keyspace,
                revision: header.revision,
            },
        })
    }

    async fn fleet<T, R, F>(
        &self,
        intent: Intent,
        message: T,
        send: impl Fn(Fleet, Request<T>) -> F,
    ) -> Result<R, Error>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let send = |channel, request| {
            let client = FleetClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            send(client, request)
        };
        let answer = self.connection().call(intent, message, send).await;
        answer.map_err(|failure| failure.into_error(intent, self.connection().endpoints()))
    }

    fn rows(&self, messages: Vec<v1::FleetRow>) -> Result<Vec<Row>, Error> {
        self.read(messages.into_iter().map(Row::read).collect::<Result<_, _>>())
    }

    pub(crate) fn read<T>(&self, read: Result<T, impl Into<Failure>>) -> Result<T, Error> {
        let endpoints = || self.connection().endpoints();
        read.map_err(|failure| failure.into().into_error(Intent::Read, endpoints()))
    }
}

type Fleet = FleetClient<Channel>;

fn explanation(message: v1::Explanation) -> Result<Explanation, Failure> {
    let row = message.row.filter(|row| !row.key.is_empty()).map(Row::read);
    Ok(Explanation {
        host: message.host,
        container_id: message.container_id,
        name: message.name,
        row: row.transpose()?,
        reason: message.reason,
        message: message.message,
    })
}

fn log_entry(message: v1::LogEntry) -> Result<LogEntry, Failure> {
    let kind = v1::EventKind::try_from(message.kind)
        .map_err(|_| Failure::Malformed("an event of an unknown kind".into()))?;
    Ok(LogEntry {
        revision: Revision(message.revision),
        time: message.time.and_then(|time| time.try_into().ok()),
        key: message.key,
        kind: kind.into(),
        workload: message.workload,
        host: message.host,
        row: message.row,
        state_before: message.state_before,
        state_after: message.state_after,
        message: message.message,
        value: serde_json::from_str(&message.json).ok(),
        prev_value: serde_json::from_str(&message.prev_json).ok(),
    })
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.revision, self.key, self.message)
    }
}
