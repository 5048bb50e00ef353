//! The watch behind `ps --watch`: joined rows, as a snapshot and what changes after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_core::Stream;
use tidewatch_core::{Batch, BatchKind, Ended, Event, EventKind, Revision, Watch};
use tidewatch_fleet::{FleetKey, HostName, JoinedChange, JoinedRow, View};
use tidewatch_proto::v1;
use tidewatch_proto::v1::watch_containers_response::{RemovedRow, Response as Message};
use tonic::Status;

use super::fleet::joined_row;
use crate::connection::WatchSlot;
use crate::fleet::ContainerFilter;
use crate::metrics::{Up, WatchMetrics};

/// The joined rows that pass a filter, kept up to date.
///
/// It reads its watch only when everything that follows from what it has read is sent, so that what
/// waits here is bounded by the rows that one revision changes.
pub(crate) struct JoinedStream {
    watch: Watch,
    filter: ContainerFilter,
    view: View,
    /// The keys of the rows that the client has.
    shown: BTreeSet<String>,
    waiting: VecDeque<Message>,
    ended: bool,
    metrics: WatchMetrics,
    _counted: Up,
    _slot: Option<WatchSlot>,
}

impl JoinedStream {
    /// `watch` is one of [`View::ranges`] with a snapshot.
    pub(crate) fn new(
        watch: Watch,
        slot: Option<WatchSlot>,
        filter: ContainerFilter,
        metrics: WatchMetrics,
        absent_since: BTreeMap<HostName, SystemTime>,
    ) -> Self {
        let position = watch.created();
        let created = Message::Created(v1::WatchCreated {
            watch_id: watch.id().0,
            keyspace_id: position.keyspace.0,
            revision: position.revision.0,
            // Whoever comes back begins with a snapshot: rows that have vanished are told by that alone.
            resumable: false,
        });
        Self {
            watch,
            filter,
            view: empty(absent_since),
            shown: BTreeSet::new(),
            waiting: [created].into(),
            ended: false,
            _counted: Up::new(&metrics.streams),
            _slot: slot,
            metrics,
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Poll::Ready(Some(message));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.watch.poll_next_batch(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(batch)) => self.take(&batch),
                Poll::Ready(Err(ended)) => self.end(&ended),
            }
        }
    }

    fn take(&mut self, batch: &Batch) {
        let revision = batch.revision();
        match batch.kind() {
            BatchKind::SnapshotBegin => {
                self.view = empty(std::mem::take(&mut self.view.absent_since));
            }
            BatchKind::Snapshot => batch.iter().for_each(|event| self.view.put(&event.to_owned().kv)),
            BatchKind::SnapshotEnd => self.show_all(revision),
            BatchKind::Events => {
                for event in batch {
                    let event = event.to_owned();
                    self.note_absence(&event, batch.time());
                    for change in self.view.apply(event.kind, &event.kv) {
                        self.show(change, revision);
                    }
                }
            }
            BatchKind::Progress => {
                let revision = revision.0;
                self.waiting
                    .push_back(Message::Progress(v1::WatchProgress { revision }));
            }
        }
    }

    /// Since when a host's rows read as unknown is when its key went.
    fn note_absence(&mut self, event: &Event, time: Option<SystemTime>) {
        if let (EventKind::Delete, Some(time)) = (event.kind, time)
            && let Some(Ok(FleetKey::Alive(host))) = FleetKey::parse(&event.kv.key)
        {
            self.view.absent_since.insert(host, time);
        }
    }

    fn show_all(&mut self, revision: Revision) {
        let Revision(revision) = revision;
        self.shown.clear();
        self.waiting
            .push_back(Message::SnapshotBegin(v1::WatchSnapshotBegin { revision }));
        for joined in self.view.joined() {
            if self.filter.passes(&joined) {
                self.push(&joined);
            }
        }
        self.waiting
            .push_back(Message::SnapshotEnd(v1::WatchSnapshotEnd { revision }));
    }

    fn show(&mut self, change: JoinedChange, revision: Revision) {
        match change {
            JoinedChange::Put(joined) if self.filter.passes(&joined) => self.push(&joined),
            JoinedChange::Put(joined) => self.remove(joined.key, revision),
            JoinedChange::Removed(key) => self.remove(key, revision),
        }
    }

    fn push(&mut self, joined: &JoinedRow) {
        self.shown.insert(joined.key.clone());
        self.metrics.events_sent.inc();
        self.waiting.push_back(Message::Row(joined_row(joined)));
    }

    fn remove(&mut self, key: String, revision: Revision) {
        if self.shown.remove(&key) {
            self.metrics.events_sent.inc();
            let removed = RemovedRow {
                key,
                revision: revision.0,
            };
            self.waiting.push_back(Message::Removed(removed));
        }
    }

    fn end(&mut self, ended: &Ended) {
        self.ended = true;
        self.metrics.ended(ended.reason.name());
        self.waiting.push_back(Message::Ended(ended.into()));
    }
}

/// A view of nothing that knows since when hosts are absent.
fn empty(absent_since: BTreeMap<HostName, SystemTime>) -> View {
    let mut view = View::default();
    view.absent_since = absent_since;
    view
}

impl Stream for JoinedStream {
    type Item = Result<v1::WatchContainersResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.poll_message(cx);
        if let Poll::Ready(Some(_)) = polled {
            self.metrics.messages_sent.inc();
        }
        polled.map(|message| {
            message.map(|message| {
                Ok(v1::WatchContainersResponse {
                    response: Some(message),
                })
            })
        })
    }
}
