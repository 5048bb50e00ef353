//! How a reconciler is, for those who ask.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tidewatch_core::Revision;
use tidewatch_fleet::{HostName, HostReport, Verdicts};

use crate::lister::Daemon;
use crate::plan::{Plan, Verdict};
use crate::presence::Hold;

/// A handle on what a reconciler says about itself. Clones share it; reading it costs a short lock
/// and disturbs nobody.
#[derive(Clone)]
pub struct ReconcilerStatus {
    host: HostName,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    snapshot: StatusSnapshot,
    verdicts: BTreeMap<String, Verdict>,
    /// How often they have become others.
    verdicts_version: u64,
    skipped: Vec<(String, String)>,
}

/// A reconciler at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusSnapshot {
    /// The instance id of this reconciler.
    pub instance: String,
    /// Whether the host is ours to write about. None: not asked yet.
    pub ours: Option<bool>,
    /// The instance that has the host, if it is not ours.
    pub held_by: String,
    /// Whether Docker answers. None: not asked yet.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Option<SystemTime>,
    /// Why it does not answer; empty if it does.
    pub error: String,
    /// What went wrong with the keyspace last, until it goes well again.
    pub store_error: String,
    /// The daemon that answered last.
    pub daemon: Daemon,
    /// When everything was last listed and written.
    pub last_sync: Option<SystemTime>,
    /// The revision of the last write.
    pub last_revision: Option<Revision>,
    /// How long the last full resync took.
    pub last_sync_took: Duration,
    /// From the oldest event of the last drain to the commit of what it led to.
    pub lag: Duration,
    /// Containers in the last full list.
    pub containers: usize,
    /// Full resyncs so far.
    pub resyncs: u64,
    /// Lists of dirty containers so far.
    pub drains: u64,
    /// Events so far.
    pub events: u64,
    /// Keys written or deleted so far.
    pub changes: u64,
    /// Of these, rows that a periodic resync had to repair: events were lost.
    pub drift: u64,
    /// Connections to Docker that failed or were lost so far.
    pub failures: u64,
    /// Elements of the last list that could not be told apart.
    pub undecodable: usize,
}

impl StatusSnapshot {
    /// What keeps the reconciler from its work, the worst first; empty if nothing does.
    pub fn trouble(&self) -> String {
        if !self.held_by.is_empty() {
            return format!(
                "instance {} reconciles this host; give one of the two another --host-name, or stop it",
                self.held_by
            );
        }
        if self.error.is_empty() {
            self.store_error.clone()
        } else {
            self.error.clone()
        }
    }

    /// The same for those who are told about it from afar.
    pub fn report(&self) -> HostReport {
        HostReport {
            reachable: self.reachable,
            since: self.since,
            error: self.trouble(),
            last_sync: self.last_sync,
            lag: self.lag,
            containers: self.containers as u64,
            resyncs: self.resyncs,
            events: self.events,
            changes: self.changes,
            drift: self.drift,
            failures: self.failures,
        }
    }
}

impl ReconcilerStatus {
    pub(crate) fn new(host: HostName, instance: String) -> Self {
        let snapshot = StatusSnapshot {
            instance,
            ..StatusSnapshot::default()
        };
        let shared = Shared {
            snapshot,
            ..Shared::default()
        };
        Self {
            host,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The host it is about.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// How things stand.
    pub fn snapshot(&self) -> StatusSnapshot {
        self.lock().snapshot.clone()
    }

    /// The same for those who are told about it from afar.
    pub fn report(&self) -> HostReport {
        self.lock().snapshot.report()
    }

    /// What became of the containers in words, within bounds, with a number that is another one whenever
    /// that has changed.
    pub fn told(&self) -> (u64, Verdicts) {
        let shared = self.lock();
        let verdicts = Verdicts::bounded(shared.verdicts.values().map(Verdict::told));
        (shared.verdicts_version, verdicts)
    }

    /// That number alone.
    pub fn verdicts_version(&self) -> u64 {
        self.lock().verdicts_version
    }

    /// What became of every container of the host, by id.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.lock().verdicts.values().cloned().collect()
    }

    /// The containers without a row, each with the reason.
    pub fn untracked(&self) -> Vec<Verdict> {
        let shared = self.lock();
        let untracked = shared
            .verdicts
            .values()
            .filter(|verdict| verdict.untracked().is_some());
        untracked.cloned().collect()
    }

    /// What became of the containers with this name, or whose id begins like this.
    pub fn explain(&self, container: &str) -> Vec<Verdict> {
        let wanted = container.trim_start_matches('/');
        if wanted.is_empty() {
            return Vec::new();
        }
        let shared = self.lock();
        let found = shared
            .verdicts
            .values()
            .filter(|verdict| verdict.name == wanted || verdict.container_id.starts_with(wanted));
        found.cloned().collect()
    }

    /// Keys of the fleet that could not be read when it was last looked, with what is wrong.
    pub fn skipped(&self) -> Vec<(String, String)> {
        self.lock().skipped.clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut StatusSnapshot)) {
        change(&mut self.lock().snapshot);
    }

    /// Whether the host is ours, as far as is known.
    pub(crate) fn is_ours(&self) -> bool {
        self.lock().snapshot.ours == Some(true)
    }

    pub(crate) fn note_hold(&self, hold: &Hold) {
        let (ours, held_by) = (hold.is_ours(), hold.held_by());
        let status = &mut self.lock().snapshot;
        if !ours && status.held_by != held_by {
            tracing::warn!(
                host = %self.host,
                instance = %held_by,
                "another instance reconciles this host, and this one waits until that one's lease has expired; give \
                 one of the two another --host-name, or stop it"
            );
        }
        status.ours = Some(ours);
        status.held_by = held_by;
    }

    pub(crate) fn set_skipped(&self, skipped: Vec<(String, String)>) {
        self.lock().skipped = skipped;
    }

    /// Takes over what a plan says about containers: all there are, or only those that were asked for.
    pub(crate) fn set_verdicts(&self, plan: &Plan, asked: Option<&[String]>) {
        let mut shared = self.lock();
        let gone = |id: &String| !plan.verdicts.contains_key(id);
        let is_news = match asked {
            None => shared.verdicts.keys().any(gone),
            Some(ids) => ids.iter().any(|id| gone(id) && shared.verdicts.contains_key(id)),
        };
        let is_news = is_news
            || plan.verdicts.iter().any(|(id, verdict)| {
                let before = shared.verdicts.get(id);
                !before.is_some_and(|before| before.says_the_same(verdict))
            });
        shared.verdicts_version += u64::from(is_news);
        match asked {
            None => shared.verdicts.clone_from(&plan.verdicts),
            Some(ids) => {
                for id in ids {
                    shared.verdicts.remove(id);
                }
                let told = plan.verdicts.iter().map(|(id, each)| (id.clone(), each.clone()));
                shared.verdicts.extend(told);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReconcilerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconcilerStatus")
            .field("host", &self.host)
            .field("snapshot", &self.lock().snapshot)
            .finish_non_exhaustive()
    }
}
