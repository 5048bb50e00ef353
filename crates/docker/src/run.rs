//! Keeping at it: one task per host, which hears, looks, writes, and survives whatever fails.
//!
//! Within the task the parts run side by side and never wait for each other: a reader that only marks
//! containers as dirty, a worker that lists and writes, a prober that pings, a keeper of the lease, and
//! a watcher of the fleet's declarations. They meet at the [`Agenda`].

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tidewatch_core::watch::EventRef;
use tidewatch_core::{Backoff, Clock, EventKind, Keyspace};
use tidewatch_fleet::{DeployRow, FleetKey, HostName, Workload, key};
use tokio::sync::Notify;

use crate::agenda::{Agenda, Cause, Work};
use crate::deadline::{ask, within};
use crate::error::Error;
use crate::event::{DockerEvent, DockerEvents};
use crate::inspect::DockerInspect;
use crate::lister::{DockerLister, ListError};
use crate::plan::Change;
use crate::presence::{Hold, LEASE_TTL, Presence, RENEW_INTERVAL};
use crate::reconciler::{Reconciler, Worker, chain};
use crate::settings::ReconcilerSettings;
use crate::status::ReconcilerStatus;
use crate::trigger::Trigger;

/// A connection that lasted this long was a good one: the next attempt waits as the first one did.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// How often a host that another instance has is asked for again, though nothing has happened to its key.
/// That is heard of; this is for a watch that cannot be had.
const CLAIM_INTERVAL: Duration = LEASE_TTL;

/// How long a keyspace may take to take a host back when the reconciler ends. What it does not take back
/// expires, and whoever stops us waits.
const RELEASE_DEADLINE: Duration = Duration::from_secs(3);

impl<L: DockerLister, E: DockerEvents, I: DockerInspect> Reconciler<L, E, I> {
    /// Keeps the rows of the host until `shutdown` is ready; then gives the host up, so that its rows
    /// read as unknown at once, and returns.
    ///
    /// Whatever fails is tried again, with growing waits; [`status`](Self::status) tells how it is.
    ///
    /// # Cancel safety
    /// May be dropped. Then the host is given up when its lease expires.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let keyspace = self.worker.keyspace.clone();
        let host = self.worker.host.clone();
        let parts = Parts {
            agenda: Mutex::new(Agenda::new(&self.settings, self.seed, self.clock.now())),
            bell: Notify::new(),
            news: Notify::new(),
            status: self.status,
            clock: self.clock,
            settings: self.settings,
            seed: self.seed,
        };
        let never = tokio::select! {
            () = shutdown => None,
            never = parts.keep_presence(&self.presence) => Some(never),
            never = parts.watch_declarations(&keyspace, &host) => Some(never),
            never = parts.hear(&self.trigger) => Some(never),
            never = parts.sessions(&self.lister, &self.events, &mut self.worker) => Some(never),
        };
        debug_assert!(never.is_none());
        // A keyspace that does not answer now is none to wait for; the lease expires.
        let deadline = parts.settings.store_deadline.min(RELEASE_DEADLINE);
        let _ = within(&*parts.clock, deadline, self.presence.release()).await;
    }
}

/// What ended a connection to Docker.
enum SessionEnd {
    /// The events did. Docker may answer all the same.
    Events(ListError),
    /// It did not answer.
    Docker(ListError),
}

/// What the parts of the task share.
struct Parts {
    agenda: Mutex<Agenda>,
    /// Rung whenever something was put on the agenda.
    bell: Notify,
    /// Rung whenever those who are told how it is should not wait for the next renewal.
    news: Notify,
    status: ReconcilerStatus,
    clock: Arc<dyn Clock>,
    settings: ReconcilerSettings,
    seed: u64,
}

impl Parts {
    fn agenda<T>(&self, change: impl FnOnce(&mut Agenda) -> T) -> T {
        change(&mut self.agenda.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, change: impl FnOnce(&mut Agenda)) {
        self.agenda(change);
        self.bell.notify_one();
    }

    fn backoff(&self) -> Backoff {
        let (base, max) = self.settings.backoff;
        Backoff::with_seed(base, max, self.seed)
    }

    /// Claims the host, and keeps the lease alive.
    async fn keep_presence(&self, presence: &Presence) -> Infallible {
        let mut backoff = self.backoff();
        let mut failed = false;
        let mut was_anew = false;
        loop {
            let began = self.clock.now();
            let limit = self.settings.store_deadline;
            let hold = within(&*self.clock, limit, presence.keep()).await;
            let hold = match hold.unwrap_or(Err(Error::KeyspaceTimeout { after: limit })) {
                Ok(hold) => hold,
                Err(error) => {
                    failed = true;
                    self.note_store_error(&chain(&error));
                    self.clock.sleep(backoff.next_delay()).await;
                    continue;
                }
            };
            backoff.reset();
            let is_anew = hold == Hold::Anew;
            if is_anew && !was_anew {
                // One that is lost again at once waits for its turn, so that two who fight keep nobody busy.
                self.news.notify_one();
            }
            was_anew = is_anew;
            let regained = is_anew || !self.status.is_ours();
            self.status.note_hold(&hold);
            let is_back = std::mem::take(&mut failed);
            if is_back {
                tracing::info!(host = %self.status.host(), "the keyspace can be used again");
                self.status.update(|status| status.store_error.clear());
            }
            if let Hold::Theirs(_, seen) = hold {
                tokio::select! {
                    () = presence.change_after(seen) => {}
                    () = self.clock.sleep(CLAIM_INTERVAL) => {}
                }
                continue;
            }
            if regained || is_back {
                // Whatever happened while nobody, or somebody else, looked after the host, or while the
                // keyspace was away: another one may have taken its place.
                self.put(|agenda| agenda.doubt(Cause::Connected));
            }
            tokio::select! {
                () = self.clock.sleep_until(began + RENEW_INTERVAL) => {}
                () = self.news.notified(), if presence.is_told() => {}
            }
        }
    }

    /// Hears of those who want everything listed.
    async fn hear(&self, trigger: &Trigger) -> Infallible {
        loop {
            trigger.asked().await;
            self.put(|agenda| agenda.doubt(Cause::Connected));
        }
    }

    /// Hears of workloads and deploy rows: a container that waits for one gets its row at once.
    async fn watch_declarations(&self, keyspace: &Keyspace, host: &HostName) -> Infallible {
        let mut backoff = self.backoff();
        loop {
            let watch = keyspace
                .watch(key::section(key::WORKLOADS))
                .and(key::section(key::DEPLOY))
                .start();
            if let Some(Ok(mut watch)) = within(&*self.clock, self.settings.store_deadline, watch).await {
                self.put(Agenda::watching);
                while let Ok(batch) = watch.next().await {
                    backoff.reset();
                    if batch.iter().any(|event| concerns(host, event)) {
                        self.put(|agenda| agenda.doubt(Cause::Fleet));
                    }
                }
            }
            // Resuming would gain nothing: the next watch begins with a look at everything.
            self.clock.sleep(backoff.next_delay()).await;
        }
    }

    /// One connection to Docker after another.
    async fn sessions<L: DockerLister, E: DockerEvents, I: DockerInspect>(
        &self,
        lister: &L,
        events: &E,
        worker: &mut Worker<I>,
    ) -> Infallible {
        let mut backoff = self.backoff();
        loop {
            let began = self.clock.now();
            let lost = match self.session(lister, events, worker).await {
                SessionEnd::Events(error) => self.verdict(lister, &error).await,
                SessionEnd::Docker(error) => Some(error),
            };
            if let Some(error) = lost {
                let is_news = self.status.snapshot().reachable != Some(false);
                worker.note_unreachable(&error);
                if is_news {
                    self.news.notify_one();
                }
                if let Err(error) = worker.write_host().await {
                    self.note_store_error(&chain(&error));
                }
            }
            if self.clock.now() - began >= GOOD_CONNECTION {
                backoff.reset();
            }
            self.clock.sleep(backoff.next_delay()).await;
        }
    }

    /// The events have come to an end: whether that is Docker's end too. A proxy that cuts what lasts long is no outage; that
    /// everything is listed again is enough.
    async fn verdict<L: DockerLister>(&self, lister: &L, error: &ListError) -> Option<ListError> {
        if let Err(error) = self.ping(lister).await {
            return Some(error);
        }
        tracing::info!(host = %self.status.host(), error = %chain(error), "the events ended, and docker answers; subscribing anew");
        self.status.update(|status| status.failures += 1);
        None
    }

    async fn ping<L: DockerLister>(&self, lister: &L) -> Result<(), ListError> {
        ask(&*self.clock, self.settings.ping_deadline, lister.ping()).await
    }

    /// Subscribes, then lists, then acts on what it hears, until something fails. Returns what.
    async fn session<L: DockerLister, E: DockerEvents, I: DockerInspect>(
        &self,
        lister: &L,
        events: &E,
        worker: &mut Worker<I>,
    ) -> SessionEnd {
        // A daemon that still hangs costs a ping's patience then, and not a subscription's.
        if let Err(error) = self.ping(lister).await {
            return SessionEnd::Docker(error);
        }
        let since = worker.daemon_time().checked_sub(self.settings.overlap);
        let subscribe = events.subscribe(since);
        let subscription = match ask(&*self.clock, self.settings.ask_deadline, subscribe).await {
            Ok(subscription) => subscription,
            Err(error) => return SessionEnd::Docker(error),
        };
        worker.forget_daemon();
        // Only now: what happens from here on is heard, what happened before is listed.
        self.put(|agenda| agenda.doubt(Cause::Connected));
        tokio::select! {
            error = self.read::<E>(subscription) => SessionEnd::Events(error),
            error = self.probe(lister) => SessionEnd::Docker(error),
            error = self.work(lister, worker) => SessionEnd::Docker(error),
        }
    }

    /// Reads events and only marks what they are about, so that Docker never waits for us.
    async fn read<E: DockerEvents>(&self, mut subscription: E::Subscription) -> ListError {
        loop {
            match subscription.next().await {
                Some(Ok(DockerEvent::Container { id, action, .. })) => {
                    let now = self.clock.now();
                    self.status.update(|status| status.events += 1);
                    self.put(|agenda| agenda.mark(id, is_lifecycle(&action), now));
                }
                Some(Ok(DockerEvent::Doubt { reason })) => {
                    tracing::info!(host = %self.status.host(), reason, "events may be lost; everything is listed");
                    self.put(|agenda| agenda.doubt(Cause::Doubt));
                }
                Some(Err(error)) => return error,
                None => {
                    return ListError::Malformed {
                        reason: "the events ended".to_owned(),
                    };
                }
            }
        }
    }

    /// Pings, so that a daemon that hangs shows though nothing happens on it.
    async fn probe<L: DockerLister>(&self, lister: &L) -> ListError {
        loop {
            self.clock.sleep(self.settings.ping_interval).await;
            if let Err(error) = self.ping(lister).await {
                return error;
            }
        }
    }

    /// Does what is on the agenda, one thing after the other, so that no list is overtaken by a later
    /// one.
    async fn work<L: DockerLister, I: DockerInspect>(&self, lister: &L, worker: &mut Worker<I>) -> ListError {
        let mut backoff = self.backoff();
        loop {
            if !self.status.is_ours() {
                self.bell.notified().await;
                continue;
            }
            let now = self.clock.now();
            let done = match self.agenda(|agenda| agenda.next(now)) {
                Work::Wait(until) => {
                    tokio::select! {
                        () = self.bell.notified() => {}
                        () = self.clock.sleep_until(until) => {}
                    }
                    continue;
                }
                Work::Resync { cause, touched } => {
                    let report = worker.resync(lister, &touched).await;
                    report.map(|report| self.note_resync(cause, &report.changes))
                }
                Work::Drain { ids, touched, since } => {
                    let plan = worker.drain(lister, &ids, &touched).await;
                    plan.map(|_| self.note_lag(since))
                }
            };
            match done {
                Ok(()) => backoff.reset(),
                Err(Error::Docker(error)) => return error,
                Err(error) => {
                    match &error {
                        // The keeper has told.
                        Error::NotOurs { .. } => {}
                        Error::ClaimLost { .. } => {
                            tracing::info!(host = %self.status.host(), %error, "listing again");
                        }
                        _ => self.note_store_error(&chain(&error)),
                    }
                    let at = self.clock.now() + backoff.next_delay();
                    self.agenda(|agenda| agenda.retry_at(at));
                }
            }
        }
    }

    fn note_resync(&self, cause: Cause, changes: &[Change]) {
        let now = self.clock.now();
        self.agenda(|agenda| agenda.resynced(now));
        if cause == Cause::Connected {
            self.news.notify_one();
        }
        let repaired = changes
            .iter()
            .filter(|change| matches!(change, Change::Insert(..) | Change::Update(..)))
            .count();
        if cause == Cause::Periodic && repaired > 0 {
            tracing::warn!(host = %self.status.host(), repaired, "the periodic resync found what no event had told");
            self.status.update(|status| status.drift += repaired as u64);
        }
    }

    fn note_lag(&self, since: Instant) {
        let lag = self.clock.now() - since;
        self.status.update(|status| status.lag = lag);
    }

    fn note_store_error(&self, error: &str) {
        self.status.update(|status| {
            if status.store_error.is_empty() {
                tracing::warn!(host = %self.status.host(), error, "the keyspace cannot be used; trying again");
            }
            error.clone_into(&mut status.store_error);
        });
    }
}

/// Whether an event began or ended a run of the container, so that what only an inspection tells is
/// different, whatever the state is when it is listed.
///
/// Of a start that failed Docker tells nothing but that the container has left its networks; it is listed as `created`
/// before and after, and only an inspection says why.
fn is_lifecycle(action: &str) -> bool {
    matches!(action, "start" | "die" | "oom" | "restart" | "network disconnect")
}

/// Whether a change of a declaration can change the rows of this host.
fn concerns(host: &HostName, event: EventRef<'_>) -> bool {
    match FleetKey::parse(event.key()) {
        // These follow from what hosts run, not the other way round.
        Some(Ok(FleetKey::Workload(id))) => !Workload::is_adopted(&id),
        Some(Ok(FleetKey::Deploy(..))) if event.kind() == EventKind::Put => {
            let deploy = serde_json::from_slice::<DeployRow>(event.value());
            deploy.map_or(true, |deploy| deploy.host.is_none_or(|of| of == *host))
        }
        Some(Ok(_)) => true,
        Some(Err(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lister::{Listing, Scope};

    struct Nothing;

    impl DockerLister for Nothing {
        async fn list(&self, _scope: Scope<'_>) -> Result<Listing, ListError> {
            Ok(Listing::default())
        }
    }

    /// Nobody runs it: that it compiles is the test.
    #[test]
    fn a_running_reconciler_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        let host = "h1".parse().unwrap();
        let reconciler = Reconciler::builder(host, Nothing)
            .keyspace(Keyspace::memory())
            .build();
        is_send(reconciler.run(std::future::pending()));
    }
}
