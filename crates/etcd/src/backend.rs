//! A keyspace in etcd: the whole of it in memory, kept up to date by one watch, and written through to etcd.
//!
//! ```text
//!   etcd ──one watch──▶ Feed ─▶ Follower ─▶ Replica (index, history) ─▶ WatchDispatcher ─▶ any number of watches
//!    ▲ ▲                                      ▲ reads, once it has come to the revision that etcd has
//!    │ └─at most MAX_BACKFILLS watches────────┘ for watches from before its history
//!    └─────writes, leases, compaction, reads of revisions that are not here
//! ```

mod builder;
mod fill;
mod filling;
mod follow;
mod identity;
mod lease;
mod marker;
mod namespace;
mod read;
#[cfg(test)]
mod tests;
mod upstream;
mod write;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tidewatch_core::store::Listing;
use tidewatch_core::txn::{Header, RangeRequest, RangeResponse, Txn, TxnResponse};
use tidewatch_core::watch::{WatchRegistry, WatchRequest};
use tidewatch_core::{
    Backend, BoxFuture, Clock, EndReason, Error as KeyspaceError, LeaseGrant, LeaseId, LeaseInfo, Replica,
    Revision, Status, Watch,
};
use tokio::sync::Notify;

pub use builder::{DEFAULT_HISTORY, EtcdBackendBuilder, OLDEST_SUPPORTED};
pub use fill::MAX_BACKFILLS;
pub use namespace::MAX_NAMESPACE_BYTES;

use crate::client::Access;
use crate::error::Error;
use crate::failure::Failure;
use crate::feed::{Feed, Health, HealthReader};
use crate::machine::Selection;
use crate::phase::Phase;
use crate::transport::Transport;
use fill::Fills;
use filling::Filling;
use follow::{Followed, Follower};
use marker::Marker;
use namespace::Namespace;
use upstream::Upstream;

/// The pause before everything is read anew because it made no sense.
const CONTRADICTION_PAUSE: Duration = Duration::from_secs(1);

/// How often the leases are counted, which nothing but figures for operators needs.
const LEASES_INTERVAL: Duration = Duration::from_secs(30);

/// A [`Backend`] whose keyspace is in etcd; see the [module's documentation](self).
///
/// ```no_run
/// use tidewatch_core::Keyspace;
/// use tidewatch_etcd::EtcdBackend;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = EtcdBackend::builder(["etcd-1:2379", "etcd-2:2379"]).namespace("/fleet/").connect().await?;
/// let ks = Keyspace::new(backend);
/// tokio::spawn(ks.driver());
/// ks.put("/config/db", "postgres").await?;
/// # Ok(())
/// # }
/// ```
///
/// # What is read, and when
/// A read that is not [serializable](RangeRequest::serializable) asks etcd which revision it has come to, which several share,
/// waits until the watch has come there too, and is answered from memory. The watch comes there by its events, or by a report of
/// progress from servers that [tell it truly](crate::Version::tells_progress_truly); where neither is to be had (an older etcd, and
/// somebody writes outside of the namespace) etcd answers the read itself, also through other servers in between. So it does for
/// revisions that are not in memory.
/// A serializable read is as old as [`UpstreamStatus::age`] says.
///
/// # What is written
/// A write is one transaction of etcd's, made at one member. It is acknowledged when the watch has shown it. Without an answer it is
/// [`OutcomeUnknown`](KeyspaceError::OutcomeUnknown); it is made again only where it certainly was not sent or not proposed.
///
/// # Watches
/// All of them together are one watch in etcd, and at most [`MAX_BACKFILLS`] more while some catch up from before the
/// [window](EtcdBackendBuilder::history) that is in memory.
///
/// # Identity
/// A key of the namespace, the prefix itself, holds a random number; with the cluster's id it is the keyspace's. Without a namespace
/// it is a key behind all that a keyspace can have. A cluster that was seen to have been wiped or restored becomes another keyspace,
/// the same one for all servers. A Tidewatch upstream says itself which keyspace it is.
pub struct EtcdBackend {
    inner: Arc<Inner>,
    /// Until somebody runs it.
    driver: Mutex<Option<Driver>>,
}

/// What the parts of a backend share before there is anything to serve.
struct Shared {
    access: Access,
    namespace: Namespace,
    upstream: Arc<Upstream>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    /// How many revisions behind the newest a listing is made at the start.
    history: u64,
    /// Somebody waits for a report of progress.
    progress_wanted: Notify,
    /// When somebody last said so.
    asked: Mutex<Option<Instant>>,
    believes_progress: AtomicBool,
    is_tidewatch: AtomicBool,
    /// The cluster that is followed.
    cluster: Arc<AtomicU64>,
    relists: AtomicU64,
    health: Mutex<Option<HealthReader>>,
    /// The marker that this start has written, or may have.
    created: Mutex<Option<Marker>>,
}

/// A backend, as its calls and its driver know it.
struct Inner {
    shared: Arc<Shared>,
    replica: Arc<Replica>,
    fills: Arc<Fills>,
    /// etcd has forgotten what was before this revision; it may have forgotten more.
    compacted: AtomicU64,
    leases: AtomicU64,
    closing: Mutex<Closing>,
    /// The driver is to look whether it is to end.
    closed: Notify,
}

#[derive(Default)]
struct Closing {
    reason: Option<EndReason>,
    /// Writes that are under way.
    writes: usize,
}

/// How the watch of etcd behind a backend is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// How the watch is doing. While it is [`Live`](Phase::Live) what is in memory is what etcd holds, or was a moment ago: the
    /// cache has caught up.
    pub phase: Phase,
    /// When what is in memory was last known to be what etcd holds.
    pub confirmed: Option<Instant>,
    /// How many revisions the newest one that any answer of etcd has shown is ahead of what is in memory. Those of others count.
    pub lag_revisions: u64,
    /// How often everything was read anew since the start.
    pub relists: u64,
    /// How many backfills run.
    pub backfills: usize,
    /// How many there have been.
    pub backfills_begun: u64,
}

impl UpstreamStatus {
    /// How long ago what is in memory was last known to be what etcd holds; none if it never was.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.confirmed?))
    }
}

impl Shared {
    fn is_tidewatch(&self) -> bool {
        self.is_tidewatch.load(Ordering::Relaxed)
    }

    fn believes_progress(&self) -> bool {
        self.believes_progress.load(Ordering::Relaxed)
    }

    /// Whether every revision of the other side is an event here. That of a Tidewatch may be an etcd's, of which it serves a part.
    fn has_every_revision(&self) -> bool {
        self.namespace.is_everything() && !self.is_tidewatch()
    }

    /// Asks the watch how far it is, unless that was asked since then: the answer is for all who wait.
    fn ask_progress(&self, since: Instant) {
        let now = self.clock.now();
        let is_due = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = asked.is_none_or(|asked| asked <= since);
            if is_due {
                *asked = Some(now);
            }
            is_due
        };
        if is_due {
            self.progress_wanted.notify_one();
        }
    }

    fn set_believes_progress(&self, believes: bool) {
        self.believes_progress.store(believes, Ordering::Relaxed);
    }

    fn relisted(&self) {
        self.relists.fetch_add(1, Ordering::Relaxed);
    }

    /// A feed that begins so many revisions behind the newest.
    fn feed(&self, history: u64) -> Feed {
        let selection = Selection {
            range: self.namespace.all(),
            prev_kv: false,
            history,
        };
        let feed = Feed::new(
            selection,
            self.transport.clone(),
            self.access.endpoints(),
            self.access.has_password(),
            self.clock.clone(),
        );
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Some(feed.health());
        feed
    }

    fn health(&self) -> Option<Health> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.as_ref().map(HealthReader::get)
    }

    /// What a failure means for somebody who set this up.
    fn refused(&self, failure: Failure) -> Error {
        let what = if self.namespace.is_everything() {
            "the keyspace".to_owned()
        } else {
            format!("the keyspace below {:?}", self.namespace.shown())
        };
        self.access.refused(&what, failure)
    }
}

impl Inner {
    fn header(&self, revision: Revision) -> Header {
        Header {
            keyspace: self.replica.position().keyspace,
            revision,
        }
    }

    fn is_closed(&self) -> bool {
        self.closing().reason.is_some()
    }

    fn closing(&self) -> std::sync::MutexGuard<'_, Closing> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what is asked from now on. The first reason counts.
    fn close(&self, reason: EndReason) {
        self.closing().reason.get_or_insert(reason);
        self.closed.notify_one();
    }

    /// Ends what is served.
    fn end(&self) {
        let reason = self.closing().reason.clone().unwrap_or(EndReason::Closed);
        self.fills.close(&reason);
        self.replica.close(reason);
    }

    /// Waits until it is closed and what was accepted is done, and ends.
    async fn wind_down(&self) {
        loop {
            let is_done = {
                let closing = self.closing();
                closing.reason.is_some() && closing.writes == 0
            };
            if is_done {
                self.end();
                return;
            }
            self.closed.notified().await;
        }
    }

    /// Counts the leases now and then, for ever.
    async fn count_leases(&self) {
        loop {
            // The next time may do better.
            let _ = self.lease_list().await;
            self.shared.clock.sleep(LEASES_INTERVAL).await;
        }
    }

    fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Relaxed))
    }

    fn note_compacted(&self, revision: Revision) {
        self.compacted.fetch_max(revision.0, Ordering::Relaxed);
    }
}

/// The one task of a backend.
struct Driver {
    inner: Arc<Inner>,
    follower: Follower,
    filling: Filling,
}

impl Driver {
    async fn run(mut self) {
        let inner = self.inner.clone();
        let follower = &mut self.follower;
        let mut follow = pin!(async {
            loop {
                match follower.next().await {
                    Ok(step) => inner.take(follower, step).await,
                    // Only a start has errors.
                    Err(error) => tracing::error!(%error, "etcd cannot be followed"),
                }
            }
        });
        let mut filling = pin!(self.filling.run());
        let mut serving = pin!(self.inner.replica.run());
        let mut counting = pin!(self.inner.count_leases());
        let mut winding = pin!(self.inner.wind_down());
        let mut is_winding = true;
        poll_fn(|cx| {
            let _endless: Poll<()> = follow.as_mut().poll(cx);
            let _endless: Poll<()> = filling.as_mut().poll(cx);
            let _endless: Poll<()> = counting.as_mut().poll(cx);
            is_winding = is_winding && winding.as_mut().poll(cx).is_pending();
            serving.as_mut().poll(cx)
        })
        .await;
    }
}

impl Inner {
    async fn take(&self, follower: &mut Follower, step: Followed) {
        let done = match step {
            Followed::Record(record) => self.replica.append(record),
            Followed::Progress(revision) => {
                self.replica.advance(revision);
                Ok(())
            }
            Followed::Listed(complete) => {
                let before = self.replica.position().keyspace;
                let done = self.replica.install(Listing {
                    keyspace: complete.keyspace,
                    revision: complete.revision,
                    entries: complete.entries,
                });
                let now = self.replica.position();
                if now.keyspace != before {
                    self.compacted.store(1, Ordering::Relaxed);
                    self.fills.replace(now);
                }
                done
            }
            Followed::Phase(_) | Followed::Nothing => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(%error, "what etcd says makes no sense; everything is read anew");
            self.shared.clock.sleep(CONTRADICTION_PAUSE).await;
            self.shared.relisted();
            follower.relist();
        }
    }
}

impl Drop for Driver {
    /// Without its driver a keyspace is at its end: whoever waits for something is told so.
    fn drop(&mut self) {
        self.inner.close(EndReason::Closed);
        self.inner.end();
    }
}

impl EtcdBackend {
    /// A backend that is being set up, on these endpoints, which are written like `127.0.0.1:2379`, `http://etcd-1:2379` or
    /// `https://etcd-1:2379`.
    pub fn builder(endpoints: impl IntoIterator<Item = impl Into<String>>) -> EtcdBackendBuilder {
        EtcdBackendBuilder::new(endpoints)
    }

    /// How what is served is doing.
    pub fn upstream(&self) -> UpstreamStatus {
        let Inner {
            shared,
            replica,
            fills,
            ..
        } = &*self.inner;
        let health = shared.health();
        let (phase, confirmed) =
            health.map_or((Phase::Stopped, None), |health| (health.phase, health.confirmed));
        UpstreamStatus {
            phase,
            confirmed,
            lag_revisions: shared
                .upstream
                .shown()
                .0
                .saturating_sub(replica.position().revision.0),
            relists: shared.relists.load(Ordering::Relaxed),
            backfills: fills.running(),
            backfills_begun: fills.begun(),
        }
    }

    /// The prefix of its keys in etcd.
    pub fn namespace(&self) -> &[u8] {
        self.inner.shared.namespace.prefix()
    }

    fn describe(&self) -> Status {
        let (replica, registry) = (&self.inner.replica, self.inner.replica.registry());
        let (position, extent) = (replica.position(), replica.extent());
        Status {
            keyspace: position.keyspace,
            revision: extent.current,
            oldest: self.inner.compacted(),
            backend: "etcd",
            keys: extent.keys,
            bytes: extent.bytes,
            // etcd's own, which it does not tell.
            quota: u64::MAX,
            history_bytes: extent.history_bytes,
            leases: self.inner.leases.load(Ordering::Relaxed),
            watchers: registry.watcher_count() as u64,
            dispatched: registry.dispatched(),
        }
    }
}

impl Backend for EtcdBackend {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<(Header, RangeResponse), KeyspaceError>> {
        Box::pin(self.inner.range(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, KeyspaceError>> {
        Box::pin(self.inner.txn(txn))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<Header, KeyspaceError>> {
        Box::pin(self.inner.compact(revision))
    }

    fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(Header, LeaseGrant), KeyspaceError>> {
        Box::pin(self.inner.lease_grant(id, ttl))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<Header, KeyspaceError>> {
        Box::pin(self.inner.lease_revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, Duration), KeyspaceError>> {
        Box::pin(self.inner.lease_keep_alive(id))
    }

    fn lease_info(&self, id: LeaseId) -> BoxFuture<'_, Result<(Header, LeaseInfo), KeyspaceError>> {
        Box::pin(self.inner.lease_info(id))
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<(Header, Vec<LeaseId>), KeyspaceError>> {
        Box::pin(self.inner.lease_list())
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, KeyspaceError>> {
        Box::pin(self.inner.watch(request))
    }

    fn tells_progress(&self) -> bool {
        let shared = &self.inner.shared;
        shared.believes_progress() || shared.has_every_revision()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, KeyspaceError>> {
        Box::pin(async move { Ok(self.describe()) })
    }

    fn watch_registry(&self) -> Option<Arc<WatchRegistry>> {
        Some(self.inner.replica.registry())
    }

    fn driver(&self) -> BoxFuture<'static, ()> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        match driver {
            Some(driver) => Box::pin(driver.run()),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn close(&self, reason: EndReason) {
        self.inner.close(reason);
        // A driver that nobody runs cannot finish anything: what waits for it ends with it.
        drop(self.driver.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for EtcdBackend {
    fn drop(&mut self) {
        self.close(EndReason::Closed);
    }
}

impl fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBackend")
            .field("access", &self.inner.shared.access)
            .field("namespace", &self.inner.shared.namespace.shown())
            .field("position", &self.inner.replica.position())
            .finish_non_exhaustive()
    }
}
