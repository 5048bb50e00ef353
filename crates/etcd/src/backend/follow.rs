//! From the deliveries of a feed to the replica.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tidewatch_core::txn::{Compare, PutRequest, Txn};
use tidewatch_core::{EventKind, KeyValue, KeyspaceId, Record, Revision};

use super::Shared;
use super::identity::{Trouble, create, marker_range};
use super::marker::{Found, Marker};
use crate::calls::CallFailure;
use crate::delivery::{Delivery, SnapshotReason};
use crate::error::Error;
use crate::feed::{Feed, Update};
use crate::header::Identity;
use crate::phase::Phase;

/// How often finding out which keyspace it is is tried at once, before others get to run.
const ATTEMPTS: u32 = 8;

/// The pause before it is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// A snapshot that is not complete.
struct Begun {
    identity: Identity,
    entries: Vec<KeyValue>,
}

/// Everything there is, and which keyspace it is.
pub(super) struct Complete {
    pub(super) keyspace: KeyspaceId,
    pub(super) revision: Revision,
    pub(super) entries: Vec<KeyValue>,
}

/// What comes of an update.
pub(super) enum Followed {
    /// A listing is complete.
    Listed(Complete),
    /// What happened next; nothing of it is missing.
    Record(Record),
    /// Nothing is missing up to here.
    Progress(Revision),
    /// How it is doing has changed.
    Phase(Phase),
    /// Nothing of interest.
    Nothing,
}

/// What comes of looking which keyspace it is.
enum Identified {
    As(KeyspaceId),
    /// Somebody writes the marker right now.
    NotYet,
    /// The calls are answered by another cluster.
    Elsewhere,
}

/// Follows a namespace.
pub(super) struct Follower {
    feed: Feed,
    shared: Arc<Shared>,
    begun: Option<Begun>,
    /// The marker as it was last read, and the cluster.
    marker: Option<(Marker, u64)>,
    /// A marker of another keyspace was written: the next snapshot is one of that.
    has_moved: bool,
    /// The history was found to be another one, and it is not known yet which keyspace that is.
    is_replaced: bool,
    /// What only a person can put right is an error, and not just something to be told.
    is_starting: bool,
    /// The first listing is one of what was there a while ago.
    looks_back: bool,
    /// The namespaces within this one that a start has found, by the keys of their markers. They may be gone by now.
    inner: HashMap<Bytes, String>,
}

impl Follower {
    /// One that begins so many revisions behind the newest.
    pub(super) fn new(shared: Arc<Shared>, history: u64) -> Self {
        Self {
            feed: shared.feed(history),
            shared,
            looks_back: history > 0,
            inner: HashMap::new(),
            begun: None,
            marker: None,
            has_moved: false,
            is_replaced: false,
            is_starting: true,
        }
    }

    /// From now on it goes on whatever happens.
    pub(super) fn started(&mut self) {
        self.is_starting = false;
        self.inner.clear();
        self.shared.note_created(None);
    }

    /// What is next. Whoever wants to know how far it is gets asked about.
    ///
    /// # Errors
    /// Something only a person can put right.
    pub(super) async fn next(&mut self) -> Result<Followed, Error> {
        let update = loop {
            {
                let wanted = pin!(self.shared.progress_wanted.notified());
                let next = pin!(self.feed.next());
                if let Either::Left((update, _)) = select(next, wanted).await {
                    break update;
                }
            }
            self.feed.ask_progress();
        };
        self.shared.set_believes_progress(self.feed.believes_progress());
        match update {
            Some(Update::Delivery(delivery)) => self.take(delivery).await,
            Some(Update::Phase(phase)) => {
                if phase == Phase::Live {
                    self.check_inner()?;
                }
                Ok(Followed::Phase(phase))
            }
            None => Ok(Followed::Phase(Phase::Stopped)),
        }
    }

    /// Begins with a new listing of what there is now.
    pub(super) fn relist(&mut self) {
        self.begun = None;
        self.looks_back = false;
        self.feed = self.shared.feed(0);
    }

    async fn take(&mut self, delivery: Delivery) -> Result<Followed, Error> {
        match delivery {
            Delivery::SnapshotBegin { identity, reason, .. } => {
                if reason != SnapshotReason::First {
                    self.shared.relisted();
                }
                self.is_replaced |= reason == SnapshotReason::Replaced;
                self.inner.clear();
                self.begun = Some(Begun {
                    identity,
                    entries: Vec::new(),
                });
                Ok(Followed::Nothing)
            }
            Delivery::Snapshot(entries) => {
                let shared = self.shared.clone();
                for entry in entries {
                    self.look_for_inner(EventKind::Put, &entry);
                    if let (Some(begun), Some(entry)) = (&mut self.begun, shared.namespace.entry(entry)) {
                        begun.entries.push(entry);
                    }
                }
                Ok(Followed::Nothing)
            }
            Delivery::SnapshotEnd { revision } => {
                let Some(begun) = self.begun.take() else {
                    return Ok(Followed::Nothing);
                };
                if !self.looks_back {
                    // Before anything is written.
                    self.check_inner()?;
                }
                let Some(keyspace) = self.identify(begun.identity).await? else {
                    self.shared.relisted();
                    self.relist();
                    return Ok(Followed::Nothing);
                };
                Ok(Followed::Listed(Complete {
                    keyspace,
                    revision,
                    entries: begun.entries,
                }))
            }
            Delivery::Record(record) => self.record(record).await,
            Delivery::Progress(revision) => Ok(Followed::Progress(revision)),
        }
    }

    async fn record(&mut self, record: Record) -> Result<Followed, Error> {
        let mut events = Vec::with_capacity(record.events.len());
        for event in record.events {
            self.look_for_inner(event.kind, &event.kv);
            if self.shared.namespace.is_marker(&event.kv.key) {
                self.marker_changed(event.kind, &event.kv).await;
            } else if let Some(event) = self.shared.namespace.event(event) {
                events.push(event);
            }
        }
        if self.has_moved {
            self.has_moved = false;
            self.relist();
            return Ok(Followed::Nothing);
        }
        if events.is_empty() {
            return Ok(Followed::Progress(record.revision));
        }
        Ok(Followed::Record(Record {
            events: events.into(),
            ..record
        }))
    }

    /// Notes what is the marker of a namespace within this one.
    fn look_for_inner(&mut self, kind: EventKind, entry: &KeyValue) {
        let namespace = &self.shared.namespace;
        if self.is_starting {
            self.inner.remove(&entry.key);
        }
        if kind != EventKind::Put || namespace.is_marker(&entry.key) {
            return;
        }
        match Marker::decode(&entry.value) {
            Ok(marker) if marker.namespace == entry.key.escape_ascii().to_string() => {
                if self.is_starting {
                    self.inner.insert(entry.key.clone(), marker.namespace);
                } else {
                    let error = self.overlap(&marker.namespace);
                    tracing::error!(%error, "another keyspace was begun within this one");
                }
            }
            _ => {}
        }
    }

    /// A namespace within this one would be written by others, behind our back.
    fn check_inner(&self) -> Result<(), Error> {
        let inner = self.inner.values().next().filter(|_| self.is_starting);
        inner.map_or(Ok(()), |inner| Err(self.overlap(inner)))
    }

    fn overlap(&self, inner: &str) -> Error {
        Error::Overlap {
            namespace: self.shared.namespace.shown(),
            other: inner.to_owned(),
        }
    }

    /// Somebody has written the marker or deleted it.
    async fn marker_changed(&mut self, kind: EventKind, kv: &KeyValue) {
        let Some((marker, _)) = self.marker.clone() else {
            return;
        };
        match (kind, Marker::decode(&kv.value)) {
            (EventKind::Put, Ok(found)) if found.id == marker.id => {}
            // A history that goes back to before our marker was written tells of those before it.
            (EventKind::Put, Ok(_)) if self.is_outdated(kv.mod_revision).await => {}
            (EventKind::Put, Ok(_)) => {
                tracing::warn!(
                    "another server has found that etcd's history is another one; everything is read anew"
                );
                self.has_moved = true;
            }
            _ => {
                tracing::warn!("the key that says which keyspace this is was deleted; it is written again");
                let txn = create(&self.shared.namespace, &marker);
                if let Err(error) = self.shared.upstream.write(|calls| calls.txn(txn.clone())).await {
                    tracing::warn!(%error, "it could not be written; the next start begins another keyspace");
                }
            }
        }
    }

    async fn is_outdated(&mut self, written: Revision) -> bool {
        match self.read_marker().await {
            Ok((_, Some(found))) => {
                found.written > written
                    || self
                        .marker
                        .as_ref()
                        .is_some_and(|(marker, _)| *marker == found.marker)
            }
            _ => false,
        }
    }

    /// Finds out which keyspace this is. If its history is another one than before, it becomes another keyspace: by whoever writes
    /// the marker first. None: what was listed is of another cluster than the one that answers.
    async fn identify(&mut self, identity: Identity) -> Result<Option<KeyspaceId>, Error> {
        // A Tidewatch says itself which keyspace it is; what a part of it is needs no other name, but may be in the way of others.
        let is_tidewatch = self.shared.is_tidewatch();
        if is_tidewatch && self.shared.namespace.is_everything() {
            self.shared.cluster.store(identity.cluster, Ordering::Relaxed);
            return Ok(Some(identity.keyspace()));
        }
        loop {
            for _ in 0..ATTEMPTS {
                match self.try_identify(identity).await {
                    Ok(Identified::As(id)) => {
                        self.is_replaced = false;
                        self.shared.cluster.store(identity.cluster, Ordering::Relaxed);
                        return Ok(Some(if is_tidewatch { identity.keyspace() } else { id }));
                    }
                    Ok(Identified::NotYet) => {}
                    Ok(Identified::Elsewhere) => {
                        tracing::warn!("another cluster answers than was listed; everything is read anew");
                        self.shared.clock.sleep(PAUSE).await;
                        return Ok(None);
                    }
                    Err(Trouble::Hopeless(error)) if self.is_starting => return Err(error),
                    Err(Trouble::Hopeless(error)) => {
                        tracing::error!(%error, "which keyspace this is cannot be found out");
                        break;
                    }
                    Err(Trouble::Call(failure)) => {
                        if self.is_starting {
                            self.shared.check_hopeless(&failure)?;
                        }
                        tracing::warn!(error = %failure, "which keyspace this is cannot be read from etcd");
                        break;
                    }
                }
            }
            self.shared.clock.sleep(PAUSE).await;
        }
    }

    async fn try_identify(&mut self, identity: Identity) -> Result<Identified, Trouble> {
        let namespace = self.shared.namespace.clone();
        let (cluster, found) = self.read_marker().await?;
        if cluster != identity.cluster {
            return Ok(Identified::Elsewhere);
        }
        let is_as_before = |found: &Found| {
            self.is_replaced
                && self
                    .marker
                    .as_ref()
                    .is_some_and(|(before, _)| before.id == found.marker.id)
        };
        let (txn, marker) = match found {
            Some(found) if !is_as_before(&found) => {
                let id = found.marker.keyspace(cluster);
                self.marker = Some((found.marker, cluster));
                return Ok(Identified::As(id));
            }
            Some(found) => {
                let marker = Marker::fresh(&namespace);
                let txn = Txn::new()
                    .when(Compare::mod_revision(marker_range(&namespace), found.written))
                    .put(PutRequest::new(namespace.marker(), marker.encode()));
                (txn, marker)
            }
            None => {
                self.shared.check_outer().await?;
                let marker = Marker::fresh(&namespace);
                (create(&namespace, &marker), marker)
            }
        };
        if self.is_starting {
            self.shared.note_created(Some(marker.clone()));
        }
        let written = self.shared.upstream.write(|calls| calls.txn(txn.clone())).await;
        match written {
            Ok((_, (true, _))) => {
                // Somebody may have begun one around this at the same time: then at least one of the two sees the other.
                if let Err(trouble) = self.shared.check_outer().await {
                    self.shared.delete_marker(&marker).await;
                    return Err(trouble);
                }
                let id = marker.keyspace(cluster);
                self.marker = Some((marker, cluster));
                Ok(Identified::As(id))
            }
            // Somebody else was first, or nobody knows: it is read again.
            Ok((_, (false, _))) | Err(CallFailure::Lost(_)) => Ok(Identified::NotYet),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn read_marker(&mut self) -> Result<(u64, Option<Found>), Trouble> {
        self.shared.read_marker(&self.shared.namespace).await
    }
}
