//! Opening an embedded keyspace.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::driver::{Driver, MAX_QUEUED};
use super::embedded::Embedded;
use super::index::Index;
use super::lease::Leases;
use super::replay::{check_version, contradiction, replay_record};
use super::shared::Shared;
use super::state::State;
use crate::clock::{Clock, SystemClock};
use crate::error::{Cause, Error};
use crate::history::History;
use crate::journal::{Journal, Recovered};
use crate::key::KeyRange;
use crate::keyspace::Keyspace;
use crate::revision::{KeyspaceId, Revision};
use crate::settings::Settings;
use crate::watch::WatchRegistry;

impl Keyspace {
    /// An empty keyspace in memory, with default settings. It ends with the process.
    ///
    /// Spawn its [`driver`](Self::driver) to have events delivered, leases expire and the history
    /// bounded.
    pub fn memory() -> Self {
        Self::builder().in_memory()
    }

    /// Opens a keyspace of this process with settings of one's own, or with a journal.
    ///
    /// ```
    /// use tidewatch_core::{HistoryWindow, Keyspace, Settings};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tidewatch_core::Error> {
    /// let history = HistoryWindow { max_revisions: Some(10_000), ..HistoryWindow::default() };
    /// let ks = Keyspace::builder().settings(Settings { history, ..Settings::default() }).open().await?;
    /// tokio::spawn(ks.driver());
    /// ks.put("/config/db", "postgres").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> KeyspaceBuilder {
        KeyspaceBuilder {
            journal: None,
            clock: SystemClock::shared(),
            settings: Settings::default(),
        }
    }
}

/// An embedded keyspace that is being described; see [`Keyspace::builder`].
#[must_use = "a keyspace is opened with `open`"]
pub struct KeyspaceBuilder {
    journal: Option<Box<dyn Journal>>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl KeyspaceBuilder {
    /// Keeps the keyspace in this journal. Without one it is in memory only.
    pub fn journal(mut self, journal: impl Journal) -> Self {
        self.journal = Some(Box::new(journal));
        self
    }

    /// Takes time from this clock instead of the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the bounds.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Reads back what the journal remembers. Leases have their full time to live from now on.
    ///
    /// # Errors
    /// [`Error::Journal`] if the journal cannot be read, or contradicts itself.
    pub async fn open(mut self) -> Result<Keyspace, Error> {
        let Some(mut journal) = self.journal.take() else {
            return Ok(self.in_memory());
        };
        let recovered = journal.recover().await.map_err(Error::Journal)?;
        let (state, history) = replay(recovered, self.clock.as_ref()).map_err(Error::Journal)?;
        let name = journal.name();
        let (writes, queue) = mpsc::channel(MAX_QUEUED);
        let shared = Shared::new(state, history, self.clock, self.settings);
        let registry = registry(&shared);
        let driver = Driver::new(shared.clone(), registry.clone(), Some((journal, queue)));
        let embedded = Embedded::new(shared, registry, name, Some(writes), driver);
        Ok(Keyspace::new(Arc::new(embedded)))
    }

    fn in_memory(self) -> Keyspace {
        let history = History::new(KeyspaceId::random(), Revision::INITIAL, Revision::INITIAL);
        let shared = Shared::new(State::empty(), history, self.clock, self.settings);
        let registry = registry(&shared);
        let driver = Driver::new(shared.clone(), registry.clone(), None);
        Keyspace::new(Arc::new(Embedded::new(shared, registry, "memory", None, driver)))
    }
}

impl fmt::Debug for KeyspaceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyspaceBuilder")
            .field("journal", &self.journal.as_ref().map(|journal| journal.name()))
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn registry(shared: &Arc<Shared>) -> Arc<WatchRegistry> {
    WatchRegistry::new(
        shared.history.clone(),
        Some(shared.clone()),
        shared.clock.clone(),
        shared.settings.watch.clone(),
    )
}

/// Builds index, history and leases anew from what a journal remembers.
///
/// # Errors
/// What the journal remembers cannot have happened.
fn replay(recovered: Recovered, clock: &dyn Clock) -> Result<(State, Arc<History>), Cause> {
    let Recovered {
        keyspace,
        revision: current,
        oldest,
        base,
        records,
        leases: grants,
    } = recovered;
    if oldest > current {
        return Err(contradiction(format!(
            "the oldest revision, {oldest}, is beyond the last one, {current}"
        )));
    }
    let mut index = Index::default();
    for kv in &base {
        check_version(kv)?;
        if kv.mod_revision >= oldest || index.get(&kv.key, current).is_some() {
            return Err(contradiction(format!(
                "its base holds {:?} twice, or as of revision {}, which is not before {oldest}",
                kv.key.escape_ascii().to_string(),
                kv.mod_revision,
            )));
        }
        index.restore(kv);
    }
    let mut last = oldest.prev();
    let mut replayed = Vec::with_capacity(records.len());
    for record in records {
        if record.revision <= last {
            return Err(contradiction(format!(
                "revision {} follows {last}",
                record.revision
            )));
        }
        last = record.revision;
        replayed.push(Arc::new(replay_record(&mut index, record)?));
    }
    if last > current {
        return Err(contradiction(format!(
            "revision {last} is beyond the last one, {current}"
        )));
    }
    let history = History::new(keyspace, oldest, oldest.prev());
    history.append(replayed);
    history.advance(current);

    let mut leases = Leases::default();
    let now = clock.now();
    for grant in grants {
        leases.restore(grant, now);
    }
    for kv in index.entries(&KeyRange::all(), None, current) {
        leases.reattach(&kv.key, None, kv.lease);
    }
    let state = State::recovered(index, leases, current, oldest, &history);
    Ok((state, history))
}
