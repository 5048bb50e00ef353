//! Watches as messages: the request, the deliveries and the end.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidewatch_core::watch::{
    Batch, BatchKind, Batches, EndReason, Ended, EventRef, OnOverflow, Prev, Start, View, Watch, WatchId,
    WatchRequest, WireForm,
};
use tidewatch_core::{Error, KeyValue, KeyspaceId, Position, Revision};

use crate::convert::{Malformed, event, known, millis, needed};
use crate::error;
use crate::v1;
use crate::v1::watch_ended::Reason;
use crate::v1::watch_response::Response;

/// How large a response with events or entries should become, in bytes. A batch that is larger
/// travels in pieces; only a single event may exceed it, by its own size.
pub const MAX_RESPONSE_BYTES: usize = 512 * 1024;

/// What a server says on a watch's stream.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The watch is registered.
    Created(Created),
    /// Something for the reader.
    Batch(Batch),
    /// The end; nothing follows.
    Ended(Ended),
}

/// What a watch is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its name on the server.
    pub id: WatchId,
    /// Its boundary.
    pub boundary: Position,
    /// Whether one can resume after the boundary already.
    pub resumable: bool,
}

/// The first response of a watch that has just been started.
pub fn created(watch: &Watch) -> v1::WatchResponse {
    respond(Response::Created(v1::WatchCreated {
        watch_id: watch.id().0,
        keyspace_id: watch.created().keyspace.0,
        revision: watch.created().revision.0,
        resumable: watch.position().is_some(),
    }))
}

/// The responses that carry a batch: one, or several where it is larger than `max_bytes`
/// ([`MAX_RESPONSE_BYTES`]).
pub fn responses(batch: &Batch, max_bytes: usize) -> Vec<v1::WatchResponse> {
    let revision = batch.revision().0;
    match batch.kind() {
        BatchKind::SnapshotBegin => vec![respond(Response::SnapshotBegin(v1::WatchSnapshotBegin {
            revision,
        }))],
        BatchKind::SnapshotEnd => vec![respond(Response::SnapshotEnd(v1::WatchSnapshotEnd { revision }))],
        BatchKind::Progress => vec![respond(Response::Progress(v1::WatchProgress { revision }))],
        BatchKind::Snapshot => pieces(batch.iter().map(entry), max_bytes)
            .into_iter()
            .map(|kvs| respond(Response::Snapshot(v1::WatchSnapshot { revision, kvs })))
            .collect(),
        BatchKind::Events => events(batch, max_bytes)
            .map(|events| v1::WatchResponse {
                response: None,
                events: vec![events],
            })
            .collect(),
    }
}

/// A batch of events: whole, or in pieces where it is larger than `max_bytes`.
fn events(batch: &Batch, max_bytes: usize) -> impl Iterator<Item = v1::WatchEvents> {
    let (revision, time, unfinished) = (batch.revision().0, batch.time(), batch.is_partial());
    let mut pieces = pieces(batch.iter().map(change), max_bytes);
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
    let last = pieces.len() - 1;
    pieces
        .into_iter()
        .enumerate()
        .map(move |(at, events)| v1::WatchEvents {
            revision,
            time: time.map(Into::into),
            partial: at < last || unfinished,
            events,
        })
}

/// Events as they stand in a [`v1::WatchResponse`]: responses without anything else.
pub struct NativeEvents;

/// A response that was encoded once for many streams.
#[derive(Clone, Debug)]
pub struct EncodedEvents {
    /// The response.
    pub bytes: Bytes,
    /// How many events are in it.
    pub events: usize,
}

impl WireForm for NativeEvents {
    /// As few responses as [`MAX_RESPONSE_BYTES`] allows.
    type Encoded = Vec<EncodedEvents>;

    fn encode(batches: &Batches) -> Vec<EncodedEvents> {
        let all = batches.iter();
        let all = all.flat_map(|batch| events(&batch, MAX_RESPONSE_BYTES).collect::<Vec<_>>());
        pieces(all, MAX_RESPONSE_BYTES)
            .into_iter()
            .map(|revisions| EncodedEvents {
                events: revisions.iter().map(|revision| revision.events.len()).sum(),
                bytes: v1::WatchResponse {
                    response: None,
                    events: revisions,
                }
                .encode_to_vec()
                .into(),
            })
            .collect()
    }
}

/// The responses that carry the same one by one: each has the events of one revision at most.
pub fn one_by_one(message: v1::WatchResponse) -> impl Iterator<Item = v1::WatchResponse> {
    let v1::WatchResponse { response, events } = message;
    let events = events.into_iter().map(|events| v1::WatchResponse {
        response: None,
        events: vec![events],
    });
    let first = (response.is_some() || events.len() == 0).then_some(v1::WatchResponse {
        response,
        events: Vec::new(),
    });
    first.into_iter().chain(events)
}

/// The last response of a watch.
pub fn ended(ended: &Ended) -> v1::WatchResponse {
    respond(Response::Ended(ended.into()))
}

/// Reads a response to a watch that asked for `view`, with the events of [one](one_by_one) revision at
/// most.
///
/// # Errors
/// [`Malformed`] if it is not what any server of this major version sends.
pub fn delivery(mut message: v1::WatchResponse, view: View) -> Result<Delivery, Malformed> {
    if let (None, Some(message)) = (&message.response, message.events.pop()) {
        let events: Result<_, _> = message.events.into_iter().map(|it| event(it, view)).collect();
        // A time that no clock can show is as good as none; it is advisory.
        let time = message.time.and_then(|time| time.try_into().ok());
        let batch = Batch::events(Revision(message.revision), time, events?, view, message.partial);
        return Ok(Delivery::Batch(batch));
    }
    let batch = match needed(message.response, "an empty response of a watch")? {
        Response::Created(created) => {
            let boundary = Position {
                keyspace: KeyspaceId(created.keyspace_id),
                revision: Revision(created.revision),
            };
            return Ok(Delivery::Created(Created {
                id: WatchId(created.watch_id),
                boundary,
                resumable: created.resumable,
            }));
        }
        Response::Ended(ended) => return Ok(Delivery::Ended(ended.into())),
        Response::SnapshotBegin(begin) => Batch::snapshot_begin(Revision(begin.revision)),
        Response::SnapshotEnd(end) => Batch::snapshot_end(Revision(end.revision)),
        Response::Progress(progress) => Batch::progress(Revision(progress.revision)),
        Response::Snapshot(snapshot) => {
            let kvs = snapshot.kvs.into_iter().map(KeyValue::from).collect();
            Batch::snapshot(Revision(snapshot.revision), kvs, view)
        }
    };
    Ok(Delivery::Batch(batch))
}

impl From<&WatchRequest> for v1::WatchRequest {
    fn from(request: &WatchRequest) -> Self {
        let start = match request.start {
            Start::Now => None,
            Start::At(revision) => Some(v1::watch_request::Start::StartRevision(revision.0)),
            Start::After(position) => Some(v1::watch_request::Start::After(position.into())),
        };
        let on_overflow = match request.on_overflow {
            OnOverflow::CatchUp => v1::OnOverflow::CatchUp,
            OnOverflow::Cancel => v1::OnOverflow::Cancel,
        };
        Self {
            ranges: request.ranges.iter().map(Into::into).collect(),
            start,
            snapshot: request.snapshot,
            prev_kv: request.view.prev_kv,
            keys_only: request.view.keys_only,
            no_put: request.view.no_put,
            no_delete: request.view.no_delete,
            progress_interval_ms: request.progress_interval.map(millis),
            on_overflow: on_overflow.into(),
            room: request.room.map(|room| u32::try_from(room).unwrap_or(u32::MAX)),
        }
    }
}

impl TryFrom<v1::WatchRequest> for WatchRequest {
    type Error = Error;

    /// The request, [validated](WatchRequest::validate).
    fn try_from(message: v1::WatchRequest) -> Result<Self, Error> {
        let on_overflow = match known(message.on_overflow, "on_overflow")? {
            v1::OnOverflow::CatchUp => OnOverflow::CatchUp,
            v1::OnOverflow::Cancel => OnOverflow::Cancel,
        };
        let request = Self {
            ranges: message
                .ranges
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            start: match message.start {
                None => Start::Now,
                Some(v1::watch_request::Start::StartRevision(revision)) => Start::At(Revision(revision)),
                Some(v1::watch_request::Start::After(position)) => Start::After(position.into()),
            },
            snapshot: message.snapshot,
            view: View {
                prev_kv: message.prev_kv,
                keys_only: message.keys_only,
                no_put: message.no_put,
                no_delete: message.no_delete,
            },
            progress_interval: message.progress_interval_ms.map(Duration::from_millis),
            on_overflow,
            coalesce: false,
            label: None,
            internal: false,
            room: message
                .room
                .map(|room| usize::try_from(room).unwrap_or(usize::MAX)),
        };
        request.validate()?;
        Ok(request)
    }
}

impl From<&Ended> for v1::WatchEnded {
    fn from(ended: &Ended) -> Self {
        let reason = match &ended.reason {
            EndReason::Canceled => Reason::Canceled(v1::watch_ended::Canceled {}),
            EndReason::Overflow => Reason::Overflow(v1::watch_ended::Overflow {}),
            EndReason::Compacted { requested, oldest } => Reason::Compacted(v1::watch_ended::Compacted {
                requested: requested.0,
                oldest: oldest.0,
            }),
            EndReason::KeyspaceChanged { actual, current } => {
                Reason::KeyspaceChanged(v1::watch_ended::KeyspaceChanged {
                    actual_keyspace_id: actual.0,
                    current: current.0,
                })
            }
            EndReason::Draining { retry_after } => Reason::Draining(v1::watch_ended::Draining {
                retry_after_ms: millis(*retry_after),
            }),
            EndReason::Closed => Reason::Closed(v1::watch_ended::Closed {}),
            EndReason::Failed(error) => Reason::Failed(error.into()),
            other => Reason::Failed(
                (&Error::Unsupported {
                    what: other.to_string(),
                })
                    .into(),
            ),
        };
        Self {
            last_delivered: ended.last_delivered.map_or(0, |revision| revision.0),
            resume: ended.resume.map(Into::into),
            reason: Some(reason),
        }
    }
}

impl From<v1::WatchEnded> for Ended {
    fn from(message: v1::WatchEnded) -> Self {
        let reason = match message.reason {
            Some(Reason::Canceled(_)) => EndReason::Canceled,
            Some(Reason::Overflow(_)) => EndReason::Overflow,
            Some(Reason::Compacted(compacted)) => EndReason::Compacted {
                requested: Revision(compacted.requested),
                oldest: Revision(compacted.oldest),
            },
            Some(Reason::KeyspaceChanged(changed)) => EndReason::KeyspaceChanged {
                actual: KeyspaceId(changed.actual_keyspace_id),
                current: Revision(changed.current),
            },
            Some(Reason::Draining(draining)) => EndReason::Draining {
                retry_after: Duration::from_millis(draining.retry_after_ms),
            },
            Some(Reason::Closed(_)) => EndReason::Closed,
            Some(Reason::Failed(info)) => EndReason::Failed(
                error::from_info(&info).unwrap_or(Error::Unsupported { what: info.message }),
            ),
            None => EndReason::Failed(Error::Unsupported {
                what: "the reason for which a newer server ended the watch".into(),
            }),
        };
        Self {
            reason,
            last_delivered: (message.last_delivered != 0).then_some(Revision(message.last_delivered)),
            resume: message.resume.map(Into::into),
        }
    }
}

fn respond(response: Response) -> v1::WatchResponse {
    v1::WatchResponse {
        response: Some(response),
        events: Vec::new(),
    }
}

fn entry(event: EventRef<'_>) -> v1::KeyValue {
    v1::KeyValue {
        key: event.key().clone(),
        create_revision: event.create_revision().0,
        mod_revision: event.mod_revision().0,
        version: event.version(),
        value: event.value().clone(),
        lease: event.lease().map_or(0, |lease| lease.0),
    }
}

fn change(event: EventRef<'_>) -> v1::Event {
    let prev = match event.prev() {
        Prev::NotRequested => None,
        Prev::Absent => Some(v1::event::Prev::PrevAbsent(true)),
        // The owned event is the one without values where none were asked for.
        Prev::Entry(_) => {
            let prev = event.to_owned().prev;
            prev.map(|prev| v1::event::Prev::PrevKv((&prev).into()))
        }
    };
    v1::Event {
        kind: v1::EventKind::from(event.kind()).into(),
        kv: Some(entry(event)),
        prev,
    }
}

/// Cuts items into runs of at most `max_bytes`, each of at least one item.
fn pieces<M: prost::Message>(items: impl Iterator<Item = M>, max_bytes: usize) -> Vec<Vec<M>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len();
        if !piece.is_empty() && bytes + size > max_bytes {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += size;
        piece.push(item);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}
