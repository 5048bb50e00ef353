//! A store over a keyspace: this process's own, or a server's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewatch_core::watch::Batch;
use tidewatch_core::{
    Backoff, BatchKind, Clock, EndReason, EventKind, Keyspace, KeyspaceId, Revision, SystemClock, Watch,
};
use tokio::task::AbortHandle;

use crate::applier::Applier;
use crate::directive::DirectiveSet;
use crate::publisher::{KEY, Publisher};
use crate::snapshot::Origin;
use crate::stamper::{Stamper, Unstamped};
use crate::store::{DirectiveStore, Handle};

/// How often an idle watch reports that it is there.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// After how long without a word the status says so: two reports missed, and time for the third.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// Between attempts to begin a watch: soon at first, since most ends are a server's restart, and in the end often
/// enough that nobody waits for it.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Directives under a key of a [`Keyspace`], followed by a watch. Dropping it stops the watch.
///
/// ```
/// use tidewatch_core::Keyspace;
/// use tidewatch_directives::{DirectiveStore, KeyspaceDirectiveStore, Level, Subject};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ks = Keyspace::memory();
/// tokio::spawn(ks.driver());
/// let store = KeyspaceDirectiveStore::builder(ks.clone()).start();
/// let mut changes = store.changes();
/// store.connected().await;
/// # changes.changed().await?;
/// ks.put("/directives", r#"{"directives":[{"id":"a","level":"debug","ttl_secs":60}]}"#).await?;
/// changes.changed().await?;
/// assert_eq!(store.reader().load().level(&Subject::new(), "request-1"), Level::Debug);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KeyspaceDirectiveStore {
    handle: Handle,
    follower: AbortHandle,
}

/// A [`KeyspaceDirectiveStore`] that is being described.
#[must_use = "a store begins with `start`"]
#[derive(Debug)]
pub struct Builder {
    keyspace: Keyspace,
    key: Bytes,
    clock: Arc<dyn Clock>,
    last_good: Option<std::path::PathBuf>,
    stamp: bool,
    seed: Option<u64>,
}

impl KeyspaceDirectiveStore {
    /// A store over a keyspace.
    pub fn builder(keyspace: Keyspace) -> Builder {
        Builder {
            keyspace,
            key: Bytes::from_static(KEY.as_bytes()),
            clock: SystemClock::shared(),
            last_good: None,
            stamp: false,
            seed: None,
        }
    }

    /// Waits until the store has heard of what is published, or that it cannot.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connected(&self) {
        self.handle.connected().await;
    }
}

impl DirectiveStore for KeyspaceDirectiveStore {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for KeyspaceDirectiveStore {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Builder {
    /// Follows another key than `/directives`.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = key.into();
        self
    }

    /// Takes time from this clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps the last good set in this file, and begins with what is there.
    pub fn last_good(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.last_good = Some(path.into());
        self
    }

    /// Writes sets that others wrote without us down again, with lives that say until when. For servers, which
    /// also keep the watch for [themselves](tidewatch_core::watch::WatchBuilder::internal).
    pub fn stamping(mut self) -> Self {
        self.stamp = true;
        self
    }

    /// Draws the waits between attempts from this seed: equal seeds give equal waits.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the store: reads the file of the last good set, and spawns the task that follows the key. It
    /// never fails; the status says how it is. A key that is none ends it at once.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(self) -> KeyspaceDirectiveStore {
        let mut applier = Applier::new(self.clock.clone());
        if let Some(path) = self.last_good {
            applier = applier.with_last_good(path);
        }
        let handle = applier.handle().clone();
        let (base, max) = BACKOFF;
        let backoff = match self.seed {
            Some(seed) => Backoff::with_seed(base, max, seed),
            None => Backoff::new(base, max),
        };
        let publisher = Publisher::new(self.keyspace.clone(), self.clock.clone()).under(self.key.clone());
        let follow = async move {
            let publisher = match publisher {
                Ok(publisher) => publisher,
                Err(error) => {
                    tracing::error!(error = %error, "directives are not followed");
                    return;
                }
            };
            let stamper = self.stamp.then(|| Stamper::new(publisher, self.clock.clone()));
            let mut follower = Follower {
                work: Work { applier, stamper },
                keyspace: self.keyspace,
                key: self.key,
                clock: self.clock,
                found: None,
                heard: None,
            };
            follower.run(backoff).await;
        };
        KeyspaceDirectiveStore {
            handle,
            follower: tokio::spawn(follow).abort_handle(),
        }
    }
}

/// The task behind a store.
struct Follower {
    work: Work,
    keyspace: Keyspace,
    key: Bytes,
    clock: Arc<dyn Clock>,
    /// What a snapshot has shown so far.
    found: Option<(Revision, Bytes)>,
    /// When the set in force was last known to be the published one.
    heard: Option<Instant>,
}

/// What goes on beside the watch, so that a disk or a write that hangs keeps nothing from being heard.
struct Work {
    applier: Applier,
    /// If sets are to be stamped.
    stamper: Option<Stamper>,
}

impl Work {
    /// Waits for something, and goes on meanwhile.
    async fn beside<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        let mut waited_for = pin!(waited_for);
        poll_fn(|cx| {
            // What is ready of these is done; what is not will wake.
            let _ = self.applier.poll_save(cx);
            if let Some(stamper) = &mut self.stamper {
                stamper.poll(cx);
            }
            waited_for.as_mut().poll(cx)
        })
        .await
    }
}

/// What became of waiting for a batch.
enum Heard {
    Batch(Batch),
    Nothing,
}

impl Follower {
    async fn run(&mut self, mut backoff: Backoff) {
        loop {
            let pause = match self.begin().await {
                Ok(mut watch) => {
                    let reason = self.follow(&mut watch, &mut backoff).await;
                    self.work.applier.interrupted(reason.to_string());
                    match reason {
                        EndReason::Closed => return,
                        EndReason::Draining { retry_after } => retry_after + backoff.next_delay(),
                        _ => backoff.next_delay(),
                    }
                }
                Err(tidewatch_core::Error::Closed) => return,
                Err(error) => {
                    self.work.applier.interrupted(error.to_string());
                    backoff.next_delay()
                }
            };
            self.work.beside(self.clock.sleep(pause)).await;
        }
    }

    async fn begin(&mut self) -> Result<Watch, tidewatch_core::Error> {
        let watch = self.keyspace.watch(tidewatch_core::key(self.key.clone())?);
        let watch = watch.with_snapshot().progress_every(PROGRESS_INTERVAL);
        // A server keeps its own watch to itself: it stamps, and is neither counted nor listed.
        let watch = if self.work.stamper.is_some() {
            watch.internal()
        } else {
            watch
        };
        self.work.beside(watch.start()).await
    }

    /// Follows a watch to its end.
    async fn follow(&mut self, watch: &mut Watch, backoff: &mut Backoff) -> EndReason {
        loop {
            let heard = heard(watch, &*self.clock);
            match self.work.beside(heard).await {
                Ok(Heard::Batch(batch)) => {
                    backoff.reset();
                    self.take(watch.created().keyspace, &batch);
                }
                Ok(Heard::Nothing) => self.note_silence(),
                Err(reason) => return reason,
            }
        }
    }

    /// Says that nothing was heard. The watch goes on: it resumes by itself where that can be.
    fn note_silence(&mut self) {
        let error = format!("nothing was heard for {} s", SILENCE_LIMIT.as_secs());
        match self.heard {
            Some(heard) => self.work.applier.interrupted_since(heard, error),
            None => self.work.applier.interrupted(error),
        }
    }

    fn take(&mut self, keyspace: KeyspaceId, batch: &Batch) {
        match batch.kind() {
            BatchKind::SnapshotBegin => self.found = None,
            BatchKind::Snapshot => {
                let entries = batch.iter();
                self.found = entries
                    .last()
                    .map(|entry| (entry.mod_revision(), entry.value().clone()));
            }
            BatchKind::SnapshotEnd => match self.found.take() {
                Some((revision, value)) => self.apply(keyspace, revision, Some(value)),
                None => self.apply(keyspace, batch.revision(), None),
            },
            BatchKind::Events => {
                // One key has one event in a revision.
                if let Some(event) = batch.iter().last() {
                    let value = (event.kind() == EventKind::Put).then(|| event.value().clone());
                    self.apply(keyspace, batch.revision(), value);
                }
            }
            BatchKind::Progress => self.live(),
        }
    }

    fn apply(&mut self, keyspace: KeyspaceId, revision: Revision, value: Option<Bytes>) {
        let origin = Origin { keyspace, revision };
        self.work.applier.apply(origin, value.clone());
        self.live();
        if let Some(stamper) = &mut self.work.stamper {
            let set = value.and_then(|value| DirectiveSet::decode(&value).ok());
            let first_seen = self.work.applier.first_seen();
            stamper.note(set.filter(DirectiveSet::needs_stamp).map(|set| Unstamped {
                origin,
                set,
                first_seen: first_seen.unwrap_or_else(|| self.clock.system_time()),
            }));
        }
    }

    fn live(&mut self) {
        self.heard = Some(self.clock.now());
        self.work.applier.live();
    }
}

/// Waits for a batch, for as long as a watch may be silent.
async fn heard(watch: &mut Watch, clock: &dyn Clock) -> Result<Heard, EndReason> {
    let mut silence = clock.sleep(SILENCE_LIMIT);
    let mut next = pin!(watch.next());
    poll_fn(|cx| {
        if let Poll::Ready(batch) = next.as_mut().poll(cx) {
            return Poll::Ready(batch.map(Heard::Batch).map_err(|ended| ended.reason));
        }
        silence.as_mut().poll(cx).map(|()| Ok(Heard::Nothing))
    })
    .await
}
