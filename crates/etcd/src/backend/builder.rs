//! Setting up a backend.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tidewatch_core::store::Listing;
use tidewatch_core::{Clock, Replica, Settings, SystemClock};
use tokio::sync::Notify;

use super::fill::{Fills, Older};
use super::filling::Filling;
use super::follow::{Complete, Followed, Follower};
use super::namespace::Namespace;
use super::upstream::Upstream;
use super::{Closing, Driver, EtcdBackend, Inner, Shared};
use crate::calls::Callers;
use crate::client::{Access, Tls};
use crate::error::Error;
use crate::failure::Failure;
use crate::phase::Phase;
use crate::start::{DEFAULT_START_BUDGET, Hopeless, LONGEST_START};
use crate::transport::Transport;
use crate::version::Version;

/// How many revisions behind the newest the history in memory begins at a start, unless told otherwise. A fleet of a thousand hosts
/// makes some ten revisions a second; so watches that were away for some minutes resume from memory.
pub const DEFAULT_HISTORY: u64 = 10_000;

/// The oldest etcd: fragments of large revisions, and reports of progress on demand.
pub const OLDEST_SUPPORTED: Version = Version::new(3, 4, 0);

/// A backend that is being set up; see [`EtcdBackend::builder`].
#[derive(Clone, Debug)]
#[must_use = "a backend is made by `connect`"]
pub struct EtcdBackendBuilder {
    access: Access,
    namespace: Bytes,
    history: u64,
    settings: Settings,
    start_budget: Duration,
    clock: Arc<dyn Clock>,
}

impl EtcdBackendBuilder {
    pub(super) fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            access: Access::new(endpoints),
            namespace: Bytes::new(),
            history: DEFAULT_HISTORY,
            settings: Settings::default(),
            start_budget: DEFAULT_START_BUDGET,
            clock: SystemClock::shared(),
        }
    }

    /// Keeps all keys below this prefix of etcd's keys, so that several keyspaces share an etcd. None of them may lie inside another.
    pub fn namespace(mut self, prefix: impl Into<Bytes>) -> Self {
        self.namespace = prefix.into();
        self
    }

    /// Connects over TLS; with [`Tls::identity`] both sides show a certificate.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.access = self.access.tls(tls);
        self
    }

    /// Reads and writes as this user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.access = self.access.user(name, password);
        self
    }

    /// How many revisions behind the newest the history in memory begins at the start; [`DEFAULT_HISTORY`] unless set, fewer where
    /// etcd has compacted them.
    pub fn history(mut self, revisions: u64) -> Self {
        self.history = revisions;
        self
    }

    /// Sets how much history is kept in memory, and the bounds of watches. The quota is etcd's.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How long [`connect`](Self::connect) may take; [`DEFAULT_START_BUDGET`] unless set.
    pub fn start_budget(mut self, budget: Duration) -> Self {
        self.start_budget = budget;
        self
    }

    /// Takes the time from this clock. Pings of connections keep to the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks what can be checked without connecting to anybody.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        self.access.transport()?;
        Namespace::new(self.namespace.clone()).map(drop)
    }

    /// Reads all there is, and has caught up with what etcd holds when this returns. Nothing goes on from there until its
    /// [driver](tidewatch_core::Backend::driver) is run.
    ///
    /// # Errors
    /// [`Error::Config`] at once; [`Error::Tls`], [`Error::Denied`], [`Error::Outdated`] and [`Error::Overlap`] as soon as every
    /// endpoint has been tried, because only a person can mend them; [`Error::Unreachable`] when the start budget is used up.
    pub async fn connect(self) -> Result<Arc<EtcdBackend>, Error> {
        let transport = self.access.transport()?;
        self.connect_over(transport).await
    }

    /// The same, over a transport of one's own.
    pub(crate) async fn connect_over(
        self,
        transport: impl Transport + Callers + Clone,
    ) -> Result<Arc<EtcdBackend>, Error> {
        let namespace = Namespace::new(self.namespace.clone())?;
        let budget = self.clock.sleep(self.start_budget.min(LONGEST_START));
        let last = LastFailure::new(self.clock.clone());
        let place = OnceLock::new();
        let started = {
            let start = pin!(self.start(namespace, transport, &place, &last));
            match select(start, budget).await {
                Either::Left((started, _)) => started,
                Either::Right(_) => {
                    let failure = last.take();
                    let failure = failure.unwrap_or_else(|| Failure::unreachable("no answer yet"));
                    Err(self.access.refused("the keyspace", failure))
                }
            }
        };
        if started.is_err()
            && let Some(shared) = place.get()
        {
            let undone = pin!(shared.undo());
            select(undone, self.clock.sleep(UNDO_TIMEOUT)).await;
        }
        started
    }

    async fn start(
        &self,
        namespace: Namespace,
        transport: impl Transport + Callers + Clone,
        place: &OnceLock<Arc<Shared>>,
        last: &LastFailure,
    ) -> Result<Arc<EtcdBackend>, Error> {
        let upstream = Upstream::new(
            transport.clone(),
            self.access.endpoints(),
            self.access.has_password(),
            self.clock.clone(),
            &namespace,
        );
        let is_tidewatch = self.look(&upstream, last).await?;
        let namespace = if is_tidewatch {
            namespace.without_marker()
        } else {
            namespace
        };
        let shared = Arc::new(Shared {
            access: self.access.clone(),
            namespace,
            upstream,
            transport: Arc::new(transport),
            clock: self.clock.clone(),
            history: self.history,
            progress_wanted: Notify::new(),
            asked: Mutex::new(None),
            believes_progress: AtomicBool::new(false),
            is_tidewatch: AtomicBool::new(is_tidewatch),
            cluster: Arc::default(),
            relists: AtomicU64::new(0),
            health: Mutex::new(None),
            created: Mutex::new(None),
        });
        let _ = place.set(shared.clone());
        // Of a namespace that nobody has used there is no history, and all that is in it now is to be looked at first.
        let history = if shared.is_used().await? {
            shared.history
        } else {
            0
        };
        let mut follower = Follower::new(shared.clone(), history);
        let inner = self.follow(&mut follower, shared, last).await?;
        follower.started();
        inner.find_floor(tidewatch_core::Revision(1)).await;
        let filling = Filling {
            fills: inner.fills.clone(),
            transport: inner.shared.transport.clone(),
            endpoints: self.access.endpoints(),
            namespace: inner.shared.namespace.clone(),
            replica: inner.replica.clone(),
            cluster: inner.shared.cluster.clone(),
            is_tidewatch,
            clock: self.clock.clone(),
        };
        let driver = Driver {
            inner: inner.clone(),
            follower,
            filling,
        };
        Ok(Arc::new(EtcdBackend {
            inner,
            driver: Mutex::new(Some(driver)),
        }))
    }

    /// Reads all there is, and goes on until nothing is missing.
    async fn follow(
        &self,
        follower: &mut Follower,
        shared: Arc<Shared>,
        last: &LastFailure,
    ) -> Result<Arc<Inner>, Error> {
        let first = self.first(follower, last).await?;
        let inner = self.serve(shared, first)?;
        self.catch_up(&inner, follower, last).await?;
        Ok(inner)
    }

    /// Finds somebody who answers, and looks who it is.
    async fn look(&self, upstream: &Arc<Upstream>, last: &LastFailure) -> Result<bool, Error> {
        let mut hopeless = Hopeless::new(self.access.endpoints());
        loop {
            match upstream.member().await {
                Ok((Some(version), _)) if version < OLDEST_SUPPORTED => {
                    return Err(Error::Outdated {
                        endpoints: self.access.shown_endpoints(),
                        version,
                        needed: OLDEST_SUPPORTED,
                    });
                }
                Ok((_, is_tidewatch)) => return Ok(is_tidewatch),
                Err(failure) => {
                    last.note(&failure);
                    if hopeless.failed(&failure) {
                        return Err(self.access.refused("the keyspace", failure));
                    }
                    self.clock.sleep(LOOK_PAUSE).await;
                }
            }
        }
    }

    /// Goes on until there is a listing.
    async fn first(&self, follower: &mut Follower, last: &LastFailure) -> Result<Complete, Error> {
        let mut hopeless = Hopeless::new(self.access.endpoints());
        loop {
            match follower.next().await? {
                Followed::Listed(complete) => return Ok(complete),
                Followed::Phase(phase) => self.heed(&phase, &mut hopeless, last)?,
                Followed::Record(_) | Followed::Progress(_) | Followed::Nothing => {}
            }
        }
    }

    fn serve(&self, shared: Arc<Shared>, first: Complete) -> Result<Arc<Inner>, Error> {
        let fills = Fills::new(tidewatch_core::Position {
            keyspace: first.keyspace,
            revision: first.revision,
        });
        let listing = Listing {
            keyspace: first.keyspace,
            revision: first.revision,
            entries: first.entries,
        };
        let archive = Some(Arc::new(Older(fills.clone())) as Arc<_>);
        let replica = Replica::new(listing, archive, self.clock.clone(), self.settings.clone())
            .map_err(Error::Contradiction)?;
        Ok(Arc::new(Inner {
            shared,
            replica,
            fills,
            compacted: AtomicU64::new(1),
            leases: AtomicU64::new(0),
            closing: Mutex::new(Closing::default()),
            closed: Notify::new(),
        }))
    }

    /// Goes on until what is in memory is what etcd holds.
    async fn catch_up(
        &self,
        inner: &Inner,
        follower: &mut Follower,
        last: &LastFailure,
    ) -> Result<(), Error> {
        let mut hopeless = Hopeless::new(self.access.endpoints());
        loop {
            match follower.next().await? {
                Followed::Phase(Phase::Live) => return Ok(()),
                Followed::Phase(phase) => self.heed(&phase, &mut hopeless, last)?,
                step => inner.take(follower, step).await,
            }
        }
    }

    fn heed(&self, phase: &Phase, hopeless: &mut Hopeless, last: &LastFailure) -> Result<(), Error> {
        if let Phase::Connecting {
            error: Some(failure), ..
        }
        | Phase::Interrupted { error: failure, .. } = phase
        {
            last.note(failure);
            if hopeless.failed(failure) {
                return Err(self.access.refused("the keyspace", failure.clone()));
            }
        }
        Ok(())
    }
}

/// How long a start that comes to nothing may take to say so.
const UNDO_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before the next endpoint is tried at the start.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How often those who look on are told why it takes so long.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Why the last attempt of a start failed.
struct LastFailure {
    clock: Arc<dyn Clock>,
    told: Mutex<(Option<Failure>, Option<Instant>)>,
}

impl LastFailure {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            told: Mutex::default(),
        }
    }

    /// A start may take as long as it is allowed to: it says why, now and then.
    fn note(&self, failure: &Failure) {
        let now = self.clock.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.1.is_none_or(|last| now >= last + TELL_INTERVAL) {
            tracing::warn!(error = %failure, "waiting for etcd");
            told.1 = Some(now);
        }
        told.0 = Some(failure.clone());
    }

    fn take(&self) -> Option<Failure> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }
}
