//! Watching the joined containers.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tidewatch_core::{EndReason, Ended, Error as KeyspaceError, KeyspaceId, Position, Revision};
use tidewatch_proto::v1;
use tidewatch_proto::v1::fleet_client::FleetClient;
use tidewatch_proto::v1::watch_containers_response::Response;
use tonic::Request;
use tonic::transport::Channel;

use crate::client::Client;
use crate::connection::MAX_ANSWER_BYTES;
use crate::error::Error;
use crate::failure::{Failure, Intent};
use crate::fleet::{ContainerFilter, Row};
use crate::resuming::{Conversation, Resuming, Sent, Step, begin};

/// What a [`ContainerWatch`] delivers.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerUpdate {
    /// All containers follow, as of this revision. What was delivered before is void.
    SnapshotBegin(Revision),
    /// A container, new or changed.
    Row(Row),
    /// A row that is gone, or no longer passes the filter.
    Removed {
        /// Its key.
        key: String,
        /// When that happened.
        revision: Revision,
    },
    /// That were all; what follows happened after this revision.
    SnapshotEnd(Revision),
    /// Everything up to this revision was delivered before.
    Progress(Revision),
}

/// A running watch of the joined containers. When its connection breaks it begins anew, with a new
/// snapshot. It ends when it is dropped.
pub struct ContainerWatch {
    stream: Resuming<Containers>,
    over: bool,
}

impl Client {
    /// Watches the containers that [`containers`](Self::containers) lists.
    ///
    /// # Errors
    /// Those of [`workloads`](Self::workloads).
    pub async fn watch_containers(&self, filter: ContainerFilter) -> Result<ContainerWatch, Error> {
        let message = v1::WatchContainersRequest {
            filter: Some(filter.into()),
        };
        let begun = begin::<Containers>(self.connection(), || message.clone()).await;
        let created = begun.and_then(|(open, first)| match first.response {
            Some(Response::Created(created)) => Ok((open, created)),
            other => Err(Failure::Malformed(format!("a watch begins with {other:?}"))),
        });
        let (open, created) =
            created.map_err(|failure| failure.into_error(Intent::Read, self.connection().endpoints()))?;
        let conversation = Containers {
            request: message,
            keyspace: KeyspaceId(created.keyspace_id),
        };
        Ok(ContainerWatch {
            stream: Resuming::new(self.connection().clone(), conversation, open),
            over: false,
        })
    }
}

impl ContainerWatch {
    /// Waits for the next update.
    ///
    /// # Errors
    /// [`Ended`] when the watch is over; from then on always the same.
    ///
    /// # Cancel safety
    /// Safe: an update is either returned or still there for the next call.
    pub async fn next(&mut self) -> Result<ContainerUpdate, Ended> {
        poll_fn(|cx| self.stream.poll_next(cx)).await
    }
}

impl Stream for ContainerWatch {
    type Item = Result<ContainerUpdate, Ended>;

    /// The updates, then the end as the last item.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = self.stream.poll_next(cx);
        self.over = matches!(next, Poll::Ready(Err(_)));
        next.map(Some)
    }
}

impl fmt::Debug for ContainerWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerWatch").finish_non_exhaustive()
    }
}

/// How long a server may say nothing: three times the ten seconds after which it reports progress.
const SILENCE: Duration = Duration::from_secs(30);

struct Containers {
    request: v1::WatchContainersRequest,
    keyspace: KeyspaceId,
}

impl Containers {
    fn over(&self, error: KeyspaceError) -> Step<ContainerUpdate> {
        Step::End(self.ended(EndReason::Failed(error)))
    }
}

impl Conversation for Containers {
    type Request = v1::WatchContainersRequest;
    type Response = v1::WatchContainersResponse;
    type Item = ContainerUpdate;

    fn request(&mut self) -> v1::WatchContainersRequest {
        self.request.clone()
    }

    fn send(channel: Channel, request: Request<Self::Request>) -> Sent<Self::Response> {
        let mut client = FleetClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Box::pin(async move { client.watch_containers(request).await })
    }

    fn take(&mut self, response: v1::WatchContainersResponse) -> Step<ContainerUpdate> {
        let update = match response.response {
            Some(Response::Created(created)) => {
                let actual = KeyspaceId(created.keyspace_id);
                if actual != self.keyspace {
                    return Step::End(self.ended(EndReason::KeyspaceChanged {
                        actual,
                        current: Revision(created.revision),
                    }));
                }
                return Step::Resumed;
            }
            Some(Response::SnapshotBegin(begin)) => ContainerUpdate::SnapshotBegin(Revision(begin.revision)),
            Some(Response::Row(row)) => match Row::read(row) {
                Ok(row) => ContainerUpdate::Row(row),
                Err(failure) => return self.over(failure.into_keyspace_error(Intent::Read)),
            },
            Some(Response::Removed(removed)) => ContainerUpdate::Removed {
                key: removed.key,
                revision: Revision(removed.revision),
            },
            Some(Response::SnapshotEnd(end)) => ContainerUpdate::SnapshotEnd(Revision(end.revision)),
            Some(Response::Progress(progress)) => ContainerUpdate::Progress(Revision(progress.revision)),
            Some(Response::Ended(ended)) => return self.server_ended(Ended::from(ended)),
            None => {
                return self.over(KeyspaceError::Unsupported {
                    what: "an empty response of a watch".into(),
                });
            }
        };
        Step::Deliver(update)
    }

    fn resume(&self) -> Option<Position> {
        None
    }

    fn ended(&self, reason: EndReason) -> Ended {
        Ended {
            reason,
            last_delivered: None,
            resume: None,
        }
    }

    fn silence(&self) -> Option<Duration> {
        Some(SILENCE)
    }
}

impl Containers {
    fn server_ended(&self, ended: Ended) -> Step<ContainerUpdate> {
        match ended.reason {
            EndReason::Draining { retry_after } => {
                Step::Interrupted("the server is shutting down".into(), retry_after)
            }
            // A new snapshot makes up for all of these.
            EndReason::Closed
            | EndReason::Overflow
            | EndReason::Compacted { .. }
            | EndReason::Failed(KeyspaceError::Closed | KeyspaceError::Unavailable(_)) => {
                Step::Interrupted(ended.to_string(), Duration::ZERO)
            }
            reason => Step::End(self.ended(reason)),
        }
    }
}
