//! Since when nobody has reconciled a host: told by the history, when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use tidewatch_core::{Batch, Clock, Keyspace, KeyspaceId, Revision, Status, Watch};
use tidewatch_fleet::{FleetKey, HostName, View, key};

/// The most hosts that are remembered; beyond it those whose names come first are forgotten, and read as absent
/// since nobody knows when.
const MAX_ABSENT: usize = 10_000;

/// How long whoever asks waits for the history at most. It is read at some hundred thousand revisions a second, and only
/// once: whoever asks next goes on where the one before has stopped.
const READ_DEADLINE: Duration = Duration::from_secs(1);

/// How soon a reader that has come to the end of the history is told so, if that was not yet so when it asked; the least
/// that a watch grants.
const PROGRESS: Duration = Duration::from_millis(100);

/// How many watches are begun or gone on with for one who asks: what one that was kept has not read may have been compacted
/// meanwhile, and another begins where the history does.
const READERS: usize = 2;

/// When hosts have lost their reconcilers, as far as the history reaches. Clones share it.
#[derive(Clone)]
pub(crate) struct Absences {
    known: Arc<Mutex<Known>>,
    /// Where the history is read. Locked by whoever reads on.
    reading: Arc<tokio::sync::Mutex<Option<Reading>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Known {
    keyspace: Option<KeyspaceId>,
    /// Up to here the history was read.
    read: Revision,
    /// When each key below `/alive/` was last deleted.
    since: BTreeMap<HostName, SystemTime>,
}

/// A watch that nobody reads while nobody asks: it falls behind, which costs nobody anything.
struct Reading {
    keyspace: KeyspaceId,
    watch: Watch,
}

impl Absences {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            known: Arc::default(),
            reading: Arc::default(),
            clock,
        }
    }

    /// Tells a view since when its hosts are absent. One without absent hosts costs nothing.
    pub(crate) async fn tell(&self, keyspace: &Keyspace, view: &mut View) {
        let hosts = view
            .hosts
            .keys()
            .chain(view.containers.keys().map(|(.., host)| host));
        let absent = hosts.filter(|host| !view.alive.contains_key(*host));
        if absent.clone().next().is_none() {
            return;
        }
        // What cannot be read in time is not known yet; the next one who asks goes on from there.
        let read = Box::pin(self.read_on(keyspace));
        if let Either::Right(_) = select(read, self.clock.sleep(READ_DEADLINE)).await {
            tracing::debug!("the history has not been read to its end in time");
        }
        let known = self.lock();
        let since = absent.filter_map(|host| Some((host.clone(), *known.since.get(host)?)));
        view.absent_since = since.collect();
    }

    /// Since when a host is absent, as far as that was read.
    pub(crate) fn since(&self, host: &HostName) -> Option<SystemTime> {
        self.lock().since.get(host).copied()
    }

    /// Reads what the history has beyond what was read before. None if that cannot be had.
    ///
    /// # Cancel safety
    /// May be dropped; the next one goes on from there.
    async fn read_on(&self, keyspace: &Keyspace) -> Option<()> {
        let now = keyspace.status().await.ok()?;
        if self.has_read(&now) {
            return Some(());
        }
        let mut reading = self.reading.lock().await;
        // Whoever read before us may have come as far.
        if self.has_read(&now) {
            return Some(());
        }
        for _ in 0..READERS {
            let reader = match reading.take() {
                Some(reader) if reader.keyspace == now.keyspace => reader,
                _ => self.begin(keyspace, &now).await?,
            };
            if self.read_to(now.revision, reading.insert(reader)).await.is_some() {
                return Some(());
            }
            *reading = None;
        }
        None
    }

    /// Reads up to a revision. None if this reader cannot go on.
    async fn read_to(&self, revision: Revision, reader: &mut Reading) -> Option<()> {
        reader.watch.request_progress();
        loop {
            let batch = reader.watch.next().await.ok()?;
            self.take(&batch);
            if batch.revision() >= revision && !batch.is_partial() {
                return Some(());
            }
        }
    }

    /// Begins to read where nothing was read yet.
    async fn begin(&self, keyspace: &Keyspace, now: &Status) -> Option<Reading> {
        let read = {
            let mut known = self.lock();
            if known.keyspace != Some(now.keyspace) {
                *known = Known {
                    keyspace: Some(now.keyspace),
                    ..Known::default()
                };
            }
            known.read
        };
        let watch = keyspace
            .watch(key::section(key::ALIVE))
            .from_revision(read.next().max(now.oldest))
            .without_puts()
            .keys_only()
            .progress_every(PROGRESS)
            .internal();
        let watch = watch.start().await.ok()?;
        Some(Reading {
            keyspace: now.keyspace,
            watch,
        })
    }

    fn has_read(&self, now: &Status) -> bool {
        let known = self.lock();
        known.keyspace == Some(now.keyspace) && known.read >= now.revision
    }

    fn take(&self, batch: &Batch) {
        let mut known = self.lock();
        for event in batch {
            if let (Some(Ok(FleetKey::Alive(host))), Some(time)) =
                (FleetKey::parse(event.key()), batch.time())
            {
                known.since.insert(host, time);
            }
        }
        while known.since.len() > MAX_ABSENT {
            known.since.pop_first();
        }
        if !batch.is_partial() {
            known.read = known.read.max(batch.revision());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Absences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Absences").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use futures_util::FutureExt;
    use tidewatch_core::{ManualClock, SystemClock};

    use super::*;

    #[tokio::test]
    async fn a_host_is_absent_since_its_key_went_for_the_last_time() {
        let ks = Keyspace::memory();
        tokio::spawn(ks.driver());
        // However long it takes, whoever asks waits for all of it.
        let absences = Absences::new(Arc::new(ManualClock::new()));
        for host in ["h1", "h2"] {
            ks.put(format!("/hosts/{host}"), "{}").await.unwrap();
            ks.put(format!("/alive/{host}"), r#"{"instance":"i"}"#)
                .await
                .unwrap();
        }
        let told = async || {
            let (_, mut view) = View::read(&ks).await.unwrap();
            absences.tell(&ks, &mut view).await;
            view.absent_since
        };
        assert!(told().await.is_empty());
        for _ in 0..2 {
            let before = SystemClock.system_time();
            ks.delete(tidewatch_core::key("/alive/h1").unwrap())
                .await
                .unwrap();
            let after = SystemClock.system_time();
            ks.put("/elsewhere", "").await.unwrap();
            let told_now = told().await;
            let since = told_now["h1"];
            assert!(before <= since && since <= after, "{told_now:?}");
            assert_eq!((told_now.len(), told().await), (1, told_now.clone()));
            ks.put("/alive/h1", r#"{"instance":"i"}"#).await.unwrap();
            assert!(told().await.is_empty());
        }
    }

    #[tokio::test]
    async fn what_was_read_before_somebody_stopped_waiting_is_not_read_again() {
        let ks = Keyspace::memory();
        tokio::spawn(ks.driver());
        ks.put("/hosts/h1", "{}").await.unwrap();
        ks.put("/alive/h1", r#"{"instance":"i"}"#).await.unwrap();
        ks.delete(tidewatch_core::key("/alive/h1").unwrap())
            .await
            .unwrap();
        // Many times what is read between two moments at which others get to run.
        for _ in 0..30_000 {
            ks.put("/elsewhere", "").await.unwrap();
        }
        let absences = Absences::new(SystemClock::shared());
        let mut waited = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while Box::pin(absences.read_on(&ks)).poll_unpin(&mut cx).is_pending() {
            waited += 1;
            assert!(waited < 100, "each begins anew");
            tokio::task::yield_now().await;
        }
        assert!(waited > 1, "nobody has read it all at once");
        assert!(absences.since(&"h1".parse().unwrap()).is_some());
        assert_eq!(ks.status().await.unwrap().watchers, 0, "it takes nobody's place");
        assert_eq!(
            absences.read_on(&ks).await,
            Some(()),
            "and only what is new is read"
        );
    }

    #[tokio::test]
    async fn what_is_left_is_read_after_the_history_was_compacted_beyond_the_last_reader() {
        let ks = Keyspace::memory();
        tokio::spawn(ks.driver());
        let absences = Absences::new(SystemClock::shared());
        ks.put("/alive/h1", r#"{"instance":"i"}"#).await.unwrap();
        assert_eq!(absences.read_on(&ks).await, Some(()));
        // More than waits for any reader, so that the one that was kept has to go back to the history.
        let mut last = Revision::default();
        for _ in 0..30_000 {
            last = ks.put("/elsewhere", "").await.unwrap();
        }
        ks.compact(last).await.unwrap();
        ks.delete(tidewatch_core::key("/alive/h1").unwrap())
            .await
            .unwrap();
        assert_eq!(absences.read_on(&ks).await, Some(()));
        assert!(absences.since(&"h1".parse().unwrap()).is_some());
    }

    #[tokio::test]
    async fn no_more_hosts_are_remembered_than_may_be_however_many_go_at_once() {
        let ks = Keyspace::memory();
        tokio::spawn(ks.driver());
        let absences = Absences::new(SystemClock::shared());
        for host in 0..MAX_ABSENT + 5 {
            ks.put(format!("/alive/h{host:05}"), r#"{"instance":"i"}"#)
                .await
                .unwrap();
        }
        ks.delete(key::section(key::ALIVE)).await.unwrap();
        assert_eq!(absences.read_on(&ks).await, Some(()));
        assert_eq!(absences.lock().since.len(), MAX_ABSENT);
        let knows = |host: &str| absences.since(&host.parse().unwrap()).is_some();
        assert!(!knows("h00004") && knows("h00005"));
    }
}
