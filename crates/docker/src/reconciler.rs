//! One look at a host, and writing what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use tidewatch_core::{Clock, Keyspace, Revision};
use tidewatch_fleet::{Alive, HostName, State, View};

use crate::apply::{Applied, apply};
use crate::builder::ReconcilerBuilder;
use crate::container::Container;
use crate::deadline::{ask, within};
use crate::error::Error;
use crate::event::{DockerEvents, NoEvents};
use crate::host_record::HostRecord;
use crate::inspect::{DockerInspect, Facts, NoInspect};
use crate::label::LabelNames;
use crate::lister::{Daemon, DockerLister, ListError, Listing, OLDEST_API, Scope};
use crate::plan::{Change, Plan, PlanHost, Verdict, plan};
use crate::plugin::WorkloadReconciler;
use crate::presence::{Claim, Hold, Presence};
use crate::settings::ReconcilerSettings;
use crate::status::ReconcilerStatus;
use crate::trigger::Trigger;

/// How often a plan is made anew because the workloads it was made for have changed.
const MAX_ATTEMPTS: usize = 4;

/// After this long the daemon is asked again who it is, though nothing says that it is another one: its version is told, too.
const DAEMON_AGE: Duration = Duration::from_secs(600);

/// Keeps the rows of one Docker host.
///
/// [`run`](Self::run) does so for as long as it is polled; [`reconcile_once`](Self::reconcile_once)
/// looks once.
///
/// ```
/// use tidewatch_core::Keyspace;
/// use tidewatch_docker::{Container, DockerLister, ListError, Listing, Reconciler, Scope};
///
/// struct Mine;
///
/// impl DockerLister for Mine {
///     async fn list(&self, _scope: Scope<'_>) -> Result<Listing, ListError> {
///         Ok(vec![Container::new("4f1c", "web-1")].into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ks = Keyspace::memory();
/// let report = Reconciler::builder("h1".parse()?, Mine).keyspace(ks).build().reconcile_once().await?;
/// assert_eq!(report.untracked[0].name, "web-1"); // it carries no labels
/// # Ok(())
/// # }
/// ```
pub struct Reconciler<L, E = NoEvents, I = NoInspect> {
    pub(crate) lister: L,
    pub(crate) events: E,
    pub(crate) worker: Worker<I>,
    pub(crate) status: ReconcilerStatus,
    pub(crate) presence: Arc<Presence>,
    pub(crate) trigger: Trigger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: ReconcilerSettings,
    pub(crate) seed: u64,
}

/// What one look at a host led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The host.
    pub host: HostName,
    /// The revision of what was written; none if nothing was different.
    pub revision: Option<Revision>,
    /// What was written.
    pub changes: Vec<Change>,
    /// The containers without a row, each with the reason.
    pub untracked: Vec<Verdict>,
    /// Keys of the fleet that could not be read, with what is wrong.
    pub skipped: Vec<(String, String)>,
    /// Elements of the list that could not be told apart; with any, nothing counts as gone.
    pub undecodable: usize,
}

impl<L: DockerLister> Reconciler<L> {
    /// Begins the description of a reconciler of `host`, whose containers `lister` lists.
    pub fn builder(host: HostName, lister: L) -> ReconcilerBuilder<L> {
        ReconcilerBuilder::new(host, lister)
    }
}

impl<L: DockerLister, E: DockerEvents, I: DockerInspect> Reconciler<L, E, I> {
    pub(crate) fn from_parts(parts: ReconcilerBuilder<L, E, I, Keyspace>) -> Self {
        let status = ReconcilerStatus::new(parts.host.clone(), parts.instance.clone());
        let us = Alive {
            instance: parts.instance,
            by: parts.description,
        };
        let presence = Presence::new(
            parts.keyspace.clone(),
            us,
            parts.herald,
            status.clone(),
            parts.clock.clone(),
        );
        let presence = Arc::new(presence);
        let worker = Worker {
            record: HostRecord::new(parts.host.clone(), parts.address),
            host: parts.host,
            keyspace: parts.keyspace,
            inspect: parts.inspect,
            presence: presence.clone(),
            clock: parts.clock.clone(),
            settings: parts.settings.clone(),
            labels: parts.labels,
            plugins: parts.plugins,
            status: status.clone(),
            daemon_asked: None,
            daemon_clock: None,
            view: View::default(),
        };
        Self {
            lister: parts.lister,
            events: parts.events,
            worker,
            status,
            presence,
            trigger: Trigger::default(),
            clock: parts.clock,
            settings: parts.settings,
            seed: parts.seed,
        }
    }

    /// A handle on how it is.
    pub fn status(&self) -> ReconcilerStatus {
        self.status.clone()
    }

    /// A handle that has everything listed again.
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    /// Lists everything once and writes what is different.
    ///
    /// # Errors
    /// [`Error`]; no row is changed by a list that failed.
    ///
    /// # Cancel safety
    /// May be dropped. What was already sent to the keyspace may happen; the next look puts right what
    /// is missing.
    pub async fn reconcile_once(&mut self) -> Result<Report, Error> {
        let hold = self.worker.store(self.presence.keep()).await?;
        self.worker.note_hold(&hold)?;
        let mut result = self.worker.resync(&self.lister, &BTreeSet::new()).await;
        for _ in 1..MAX_ATTEMPTS {
            if !matches!(result, Err(Error::ClaimLost { .. })) {
                break;
            }
            result = self.worker.resync(&self.lister, &BTreeSet::new()).await;
        }
        if let Err(Error::Docker(error)) = &result {
            self.worker.note_unreachable(error);
            self.worker.write_host().await?;
        }
        result
    }
}

/// What a look at the host needs besides the lister, and what is remembered between two of them.
pub(crate) struct Worker<I> {
    pub(crate) host: HostName,
    pub(crate) keyspace: Keyspace,
    inspect: I,
    presence: Arc<Presence>,
    clock: Arc<dyn Clock>,
    settings: ReconcilerSettings,
    labels: LabelNames,
    plugins: Vec<Arc<dyn WorkloadReconciler>>,
    status: ReconcilerStatus,
    record: HostRecord,
    /// When the daemon was asked who it is, and what it said. None: it may be another one by now.
    daemon_asked: Option<(Instant, Daemon)>,
    /// What the daemon's clock showed, and when that was.
    daemon_clock: Option<(SystemTime, Instant)>,
    /// What was read last, so that what has not changed is not decoded again.
    view: View,
}

impl<I: DockerInspect> Worker<I> {
    /// Lists everything and writes what is different.
    pub(crate) async fn resync<L: DockerLister>(
        &mut self,
        lister: &L,
        touched: &BTreeSet<String>,
    ) -> Result<Report, Error> {
        let was_known = self.known_daemon().is_some();
        match self.look(lister, touched).await {
            // Another one has taken its place meanwhile.
            Err(Error::Docker(_)) if was_known && self.daemon_asked.is_none() => {
                self.look(lister, touched).await
            }
            done => done,
        }
    }

    async fn look<L: DockerLister>(
        &mut self,
        lister: &L,
        touched: &BTreeSet<String>,
    ) -> Result<Report, Error> {
        let began = self.clock.now();
        let claim = self.claim()?;
        let daemon = self.daemon(lister).await?;
        let mut listing = self
            .ask(self.settings.list_deadline, lister.list(Scope::All))
            .await?;
        self.note_reachable(&daemon);
        self.write_host().await?;
        let (plan, revision) = self
            .write(lister, &claim, &daemon, &mut listing, Scope::All, touched)
            .await?;
        let now = self.clock.system_time();
        let took = self.clock.now() - began;
        self.status.update(|status| {
            status.resyncs += 1;
            status.last_sync = Some(now);
            status.last_sync_took = took;
            status.containers = listing.containers.len();
            status.undecodable = listing.undecodable;
            status.daemon = daemon;
        });
        Ok(Report {
            host: self.host.clone(),
            revision,
            changes: plan.changes,
            untracked: self.status.untracked(),
            skipped: self.status.skipped(),
            undecodable: listing.undecodable,
        })
    }

    /// Lists these containers and writes what is different. The daemon is the one of the last resync:
    /// another one means another connection, and that means another resync.
    pub(crate) async fn drain<L: DockerLister>(
        &mut self,
        lister: &L,
        ids: &[String],
        touched: &BTreeSet<String>,
    ) -> Result<Plan, Error> {
        let scope = Scope::Ids(ids);
        let claim = self.claim()?;
        let mut listing = self.ask(self.settings.ask_deadline, lister.list(scope)).await?;
        let daemon = self.record.daemon().clone();
        let (plan, _) = self
            .write(lister, &claim, &daemon, &mut listing, scope, touched)
            .await?;
        self.status.update(|status| status.drains += 1);
        Ok(plan)
    }

    /// Plans and applies; again, if the workloads change in between. `claim` is the one that stood before
    /// the list was asked for: what was listed under an earlier one may be older than what somebody else
    /// has written meanwhile.
    async fn write<L: DockerLister>(
        &mut self,
        lister: &L,
        claim: &Claim,
        daemon: &Daemon,
        listing: &mut Listing,
        scope: Scope<'_>,
        touched: &BTreeSet<String>,
    ) -> Result<(Plan, Option<Revision>), Error> {
        let host = PlanHost {
            name: self.host.clone(),
            daemon_id: daemon.id.clone(),
            now: self.clock.system_time(),
            retention: self.settings.retention,
            labels: self.labels.clone(),
            plugins: self.plugins.clone(),
        };
        let mut facts = BTreeMap::new();
        let mut confirmed = false;
        for _ in 0..MAX_ATTEMPTS {
            self.read().await?;
            let mut plan_now = plan(&self.view, listing, scope, &facts, &host);
            let asked = self.inspect(&plan_now, touched, &mut facts).await;
            if asked {
                self.list_again(lister, listing, &facts).await?;
                plan_now = plan(&self.view, listing, scope, &facts, &host);
            }
            if !confirmed && needs_confirming(&plan_now, scope) {
                self.confirm(lister, daemon).await?;
                confirmed = true;
            }
            let applied = apply(&self.keyspace, claim, &plan_now.changes);
            match self.store(applied).await? {
                Applied::Done(revision) => {
                    self.note_written(&plan_now, scope, revision);
                    return Ok((plan_now, revision));
                }
                Applied::Conflict => {}
                Applied::FenceLost => {
                    // Its lease may live: whoever overwrote the key may have left that to it.
                    let hold = self.store(self.presence.replace(claim)).await?;
                    self.note_hold(&hold)?;
                    return Err(self.claim_lost());
                }
            }
        }
        Err(Error::Conflict {
            attempts: MAX_ATTEMPTS,
        })
    }

    async fn read(&mut self) -> Result<(), Error> {
        let limit = self.settings.store_deadline;
        let read = self.view.refresh(&self.keyspace);
        match within(&*self.clock, limit, read).await {
            Some(read) => drop(read?),
            None => return Err(Error::KeyspaceTimeout { after: limit }),
        }
        let stored_at = self.view.hosts.get(&self.host).map(|host| host.mod_revision);
        if self.record.is_overtaken(stored_at) {
            self.write_host().await?;
        }
        let skipped = self.view.skipped.iter().map(|(key, skipped)| {
            let key = String::from_utf8_lossy(key).into_owned();
            (key, skipped.reason.clone())
        });
        self.status.set_skipped(skipped.collect());
        Ok(())
    }

    /// Inspects the containers the plan wants to know more about, and those that were touched and have
    /// a row. What cannot be inspected is written without. Returns whether anything was learnt.
    async fn inspect(
        &self,
        plan: &Plan,
        touched: &BTreeSet<String>,
        facts: &mut BTreeMap<String, Facts>,
    ) -> bool {
        let has_row = |id: &&String| {
            plan.verdicts
                .get(*id)
                .is_some_and(|verdict| verdict.untracked().is_none())
        };
        // Owned: of a stream of borrows the compiler cannot prove that the future is `Send`.
        let wanted: BTreeSet<String> = plan
            .inspect
            .iter()
            .chain(touched.iter().filter(has_row))
            .filter(|id| !facts.contains_key(*id))
            .cloned()
            .collect();
        let answers: Vec<_> = futures_util::stream::iter(wanted)
            .map(|id| async move {
                let question = self.inspect.inspect(&id);
                let answer = self.ask(self.settings.ask_deadline, question).await;
                (id, answer)
            })
            .buffer_unordered(self.settings.inspect_concurrency)
            .collect()
            .await;
        let before = facts.len();
        for (id, answer) in answers {
            match answer {
                Ok(Some(told)) => drop(facts.insert(id, told)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(host = %self.host, container = %id, %error, "inspection failed");
                }
            }
        }
        facts.len() > before
    }

    /// Docker tells of an end some ten milliseconds before its lists do. An inspection waits until the end is
    /// complete; whom a list from before still shows as running is listed again, instead of waiting for the next event.
    async fn list_again<L: DockerLister>(
        &self,
        lister: &L,
        listing: &mut Listing,
        facts: &BTreeMap<String, Facts>,
    ) -> Result<(), Error> {
        let has_ended = |container: &Container| {
            let facts = facts.get(&container.id);
            container.state == State::Running && facts.is_some_and(|facts| facts.exit_code.is_some())
        };
        let ended = listing.containers.iter().filter(|listed| has_ended(listed));
        let ended: Vec<String> = ended.map(|listed| listed.id.clone()).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let scope = Scope::Ids(&ended);
        let again = self.ask(self.settings.ask_deadline, lister.list(scope)).await?;
        listing.containers.retain(|listed| !scope.contains(&listed.id));
        listing.containers.extend(again.containers);
        Ok(())
    }

    /// It must still be the daemon that the plan was made for, because one that has taken its place in between has other
    /// containers.
    async fn confirm<L: DockerLister>(&mut self, lister: &L, daemon: &Daemon) -> Result<(), Error> {
        let now = self.ask(self.settings.ask_deadline, lister.daemon()).await?;
        if now.id == daemon.id {
            return Ok(());
        }
        self.forget_daemon();
        Err(Error::Docker(ListError::Malformed {
            reason: format!("daemon {} became {} while it was asked", daemon.id, now.id),
        }))
    }

    /// Who the daemon is. It is asked once a session, and now and then where there are none: to answer takes it as long as to
    /// list a hundred containers, and as long as it is the same process it is the same daemon.
    async fn daemon<L: DockerLister>(&mut self, lister: &L) -> Result<Daemon, Error> {
        if let Some((_, daemon)) = self.known_daemon() {
            return Ok(daemon.clone());
        }
        let daemon = self.ask(self.settings.ask_deadline, lister.daemon()).await?;
        let now = self.clock.now();
        self.daemon_asked = Some((now, daemon.clone()));
        self.daemon_clock = daemon.time.map(|time| (time, now));
        Ok(daemon)
    }

    fn known_daemon(&self) -> Option<&(Instant, Daemon)> {
        let is_fresh = |(asked, _): &&(Instant, Daemon)| self.clock.now() - *asked < DAEMON_AGE;
        self.daemon_asked.as_ref().filter(is_fresh)
    }

    /// The daemon has to be asked again who it is.
    pub(crate) fn forget_daemon(&mut self) {
        self.daemon_asked = None;
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, ListError>>,
    ) -> Result<T, ListError> {
        ask(&*self.clock, limit, question).await
    }

    fn claim(&self) -> Result<Claim, Error> {
        self.presence.claim().ok_or_else(|| self.claim_lost())
    }

    fn claim_lost(&self) -> Error {
        Error::ClaimLost {
            host: self.host.clone(),
        }
    }

    /// Waits for the keyspace, but not for ever.
    pub(crate) async fn store<T, F>(&self, future: impl Future<Output = Result<T, F>>) -> Result<T, Error>
    where
        Error: From<F>,
    {
        let limit = self.settings.store_deadline;
        match within(&*self.clock, limit, future).await {
            Some(done) => Ok(done?),
            None => Err(Error::KeyspaceTimeout { after: limit }),
        }
    }

    fn note_written(&self, plan: &Plan, scope: Scope<'_>, revision: Option<Revision>) {
        let asked = match scope {
            Scope::All => None,
            Scope::Ids(ids) => Some(ids),
        };
        self.status.set_verdicts(plan, asked);
        self.status.update(|status| {
            status.changes += plan.changes.len() as u64;
            status.last_revision = revision.or(status.last_revision);
            status.store_error.clear();
        });
        for change in &plan.changes {
            let key = change.key();
            // The names of what it is about, for directives that want just that logged.
            let workload = key.workload().map(tracing::field::display);
            tracing::debug!(host = %self.host, workload, %change, "written");
        }
    }

    pub(crate) fn note_hold(&self, hold: &Hold) -> Result<(), Error> {
        self.status.note_hold(hold);
        match hold {
            Hold::Ours | Hold::Anew => Ok(()),
            Hold::Theirs(..) => Err(Error::NotOurs {
                host: self.host.clone(),
                instance: hold.held_by(),
            }),
        }
    }

    /// What the daemon's clock shows now; ours, if it never said.
    pub(crate) fn daemon_time(&self) -> SystemTime {
        match self.daemon_clock {
            Some((time, at)) => time + (self.clock.now() - at),
            None => self.clock.system_time(),
        }
    }

    fn note_reachable(&mut self, daemon: &Daemon) {
        let now = self.clock.system_time();
        self.record.reachable(daemon, now);
        self.status.update(|status| {
            if status.reachable != Some(true) {
                tracing::info!(host = %self.host, daemon = %daemon.id, "docker answers");
                if daemon.is_older_than_tested() {
                    let (major, minor) = OLDEST_API;
                    tracing::warn!(host = %self.host, versions = ?daemon.versions, "docker's API is older than {major}.{minor}, with which this was tested");
                }
                status.reachable = Some(true);
                status.since = Some(now);
                status.error.clear();
            }
        });
    }

    pub(crate) fn note_unreachable(&mut self, error: &ListError) {
        self.forget_daemon();
        let now = self.clock.system_time();
        let text = chain(error);
        self.record.unreachable(&text, now);
        self.status.update(|status| {
            status.failures += 1;
            if status.reachable != Some(false) {
                tracing::warn!(host = %self.host, error = %text, "docker does not answer; the rows keep their last state");
                status.reachable = Some(false);
                status.since = Some(now);
            }
            status.error = text;
        });
    }

    /// Writes `/hosts/<host>` if it is different, and the host is ours.
    pub(crate) async fn write_host(&mut self) -> Result<(), Error> {
        let Some(claim) = self.presence.claim() else {
            return Ok(());
        };
        let limit = self.settings.store_deadline;
        let write = self.record.write(&self.keyspace, &claim);
        match within(&*self.clock, limit, write).await {
            Some(done) => Ok(done?),
            None => Err(Error::KeyspaceTimeout { after: limit }),
        }
    }
}

/// Whether what is to be written has to be of the daemon that the plan was made for: all that a whole list says, and of some
/// containers that they are gone.
fn needs_confirming(plan: &Plan, scope: Scope<'_>) -> bool {
    match scope {
        Scope::All => !plan.changes.is_empty(),
        Scope::Ids(_) => plan.changes.iter().any(|change| {
            matches!(change, Change::Update(_, row) if row.state == State::Missing || row.gone_since.is_some())
        }),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl<L, E, I> fmt::Debug for Reconciler<L, E, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
