//! From a value of the key to the set in force: the part that every store shares.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidewatch_core::Clock;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::directive::DirectiveSet;
use crate::last_good::{self, FileError, Recalled, Save};
use crate::reason::Rejection;
use crate::sight::Sights;
use crate::snapshot::{Origin, Snapshot};
use crate::status::{Confirmed, Connection, RejectedSet, StatusRecord};
use crate::store::{Handle, Shared};

/// Turns values of the key into the set in force, and tells of it. A store feeds it what its source
/// shows and hands out its [`handle`](Self::handle); there is one for each source.
///
/// It knows when each value was first seen, so showing it one again, after a reconnect or a restart,
/// begins no life anew. It keeps the last good set when a value is malformed, and, if it was given a
/// file, across restarts.
///
/// Dropping it stops the store: the set that is in force remains, until its directives end.
///
/// ```
/// use std::sync::Arc;
/// use tidewatch_core::{KeyspaceId, ManualClock, Revision};
/// use tidewatch_directives::{Applier, DirectiveStore, Level, Origin, Subject};
///
/// let mut applier = Applier::new(Arc::new(ManualClock::new()));
/// let store = applier.handle().clone();
/// let origin = Origin { keyspace: KeyspaceId(7), revision: Revision(2) };
/// applier.apply(origin, Some(br#"{"directives":[{"id":"a","level":"debug","ttl_secs":60}]}"#.as_slice().into()));
/// assert_eq!(store.load().level(&Subject::new(), "request-1"), Level::Debug);
/// ```
pub struct Applier {
    handle: Handle,
    file: Option<PathBuf>,
    sights: Sights,
    /// The value that is in force, and whose it is.
    applied: Option<(Origin, Option<Bytes>)>,
    /// What is to be written next: only the newest.
    unsaved: Option<Save>,
    /// What is being written.
    saving: Option<JoinHandle<Result<(), FileError>>>,
}

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// It was in force already.
    Unchanged,
    /// It is malformed. The set before it is still in force.
    Rejected(Rejection),
}

impl Applier {
    /// An applier whose set is empty, and whose store is connecting.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let empty = Snapshot::new(clock.clone(), None, false, Vec::new());
        let record = StatusRecord {
            connection: Connection::Connecting,
            confirmed: None,
            serving: None,
            stale: false,
            rejected: None,
            file_problem: None,
        };
        let shared = Shared {
            clock,
            current: Arc::new(ArcSwap::from_pointee(empty)),
            published: watch::Sender::new(0),
            status: watch::Sender::new(record),
        };
        Self {
            handle: Handle {
                shared: Arc::new(shared),
            },
            file: None,
            sights: Sights::default(),
            applied: None,
            unsaved: None,
            saving: None,
        }
    }

    /// Keeps the last good set in a file, and starts with the one that is there, marked stale. Reads the
    /// file at once; one that cannot be read, or is damaged, is reported and ignored.
    #[must_use]
    pub fn with_last_good(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let found = last_good::read(&path, &*self.clock());
        self.begin_with(path, found);
        self
    }

    /// The same, read on a thread for such work. A file that has not been read within `limit`, as on a disk that
    /// hangs, is reported and ignored.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe, but the applier is gone.
    #[must_use]
    pub async fn with_last_good_within(mut self, path: impl Into<PathBuf>, limit: Duration) -> Self {
        let path = path.into();
        let clock = self.clock();
        let mut late = clock.sleep(limit);
        let mut reading = spawn_blocking({
            let path = path.clone();
            move || last_good::read(&path, &*clock)
        });
        let read = poll_fn(|cx| match Pin::new(&mut reading).poll(cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(io::Error::other)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| {
                let reason = format!("it was not read within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, reason))
            }),
        })
        .await;
        let found = read.unwrap_or_else(|source| {
            let path = path.clone();
            Err(FileError::Read { path, source })
        });
        self.begin_with(path, found);
        self
    }

    fn begin_with(&mut self, file: PathBuf, found: Result<Option<Recalled>, FileError>) {
        match found {
            Ok(Some(recalled)) => self.recall(recalled),
            Ok(None) => {}
            Err(error) => self.note_file(Err(error)),
        }
        self.file = Some(file);
    }

    fn recall(&mut self, recalled: Recalled) {
        let Recalled {
            mut sight,
            value,
            set,
        } = recalled;
        let clock = self.clock();
        let origin = sight.origin;
        let in_force = sight.enforce(&set, &self.handle.load());
        let confirmed = sight.age(&*clock).map(|age| Confirmed { at: clock.now(), age });
        self.sights.recall(sight);
        self.applied = Some((origin, value));
        self.publish(Snapshot::new(clock, Some(origin), true, in_force));
        self.note(|record| {
            record.confirmed = confirmed;
            record.serving = Some(origin);
            record.stale = true;
        });
    }

    /// Through which the set in force is read.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether there is a set from this source, or from the file: whether something better than nothing
    /// is in force.
    pub fn has_set(&self) -> bool {
        self.applied.is_some()
    }

    /// Takes what the key holds as of `origin`; without a value, that it does not exist. Whether that is the
    /// latest, so that the connection [lives](Self::live), is for the store to say.
    ///
    /// With a file, [`save`](Self::save) or [`poll_save`](Self::poll_save) is to follow.
    ///
    /// A life counts from the first sight of the value per keyspace and revision. The same value at the same
    /// revision of another keyspace, as that of a cluster which was restored, goes on with the lives it had
    /// there as long as one of them lasts; when all are over it is another publish.
    pub fn apply(&mut self, origin: Origin, value: Option<Bytes>) -> Outcome {
        let clock = self.clock();
        let current = self.handle.load();
        let known = self
            .applied
            .as_ref()
            .is_some_and(|(applied, bytes)| *applied == origin && *bytes == value);
        if known && !current.is_stale() {
            self.note(|record| record.rejected = None);
            return Outcome::Unchanged;
        }
        let set = match value
            .as_deref()
            .map_or_else(|| Ok(DirectiveSet::new()), DirectiveSet::decode)
        {
            Ok(set) => set,
            Err(rejection) => {
                self.reject(origin, rejection.clone());
                return Outcome::Rejected(rejection);
            }
        };
        let sight = self.sights.of(&*clock, origin, value.as_ref());
        let in_force = sight.enforce(&set, &current);
        self.unsaved = self
            .file
            .as_deref()
            .map(|path| Save::new(path, sight, value.as_ref()));
        self.applied = Some((origin, value));
        self.publish(Snapshot::new(clock, Some(origin), false, in_force));
        self.note(|record| {
            record.serving = Some(origin);
            record.stale = false;
            record.rejected = None;
        });
        Outcome::Applied
    }

    /// Notes that a value is malformed or cannot be had, for instance because it is too large to be
    /// sent. The set before it is still in force. Said in the log once.
    pub fn reject(&mut self, origin: Origin, rejection: Rejection) {
        let rejected = Some(RejectedSet { origin, rejection });
        if self.handle.shared.status.borrow().rejected == rejected {
            return;
        }
        if let Some(RejectedSet { rejection, .. }) = &rejected {
            let revision = origin.revision;
            tracing::warn!(%revision, %rejection, "what was published is malformed; the directives before it stay in force");
        }
        self.note(|record| record.rejected = rejected);
    }

    /// Writes the file, if there is one and something to write; on a thread for such work. What goes
    /// wrong is reported in the status, and is no reason to stop.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe: what is being written is written to its end, and the next call goes on with what is left.
    pub async fn save(&mut self) {
        poll_fn(|cx| self.poll_save(cx)).await;
    }

    /// The same, for who has something else to wait for: a disk that hangs keeps nobody waiting. One value is written at
    /// a time, and of those that come meanwhile the newest. Ready when there is nothing left to write.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn poll_save(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(saving) = &mut self.saving {
                let outcome = ready!(Pin::new(saving).poll(cx));
                self.saving = None;
                if let Ok(outcome) = outcome {
                    self.note_file(outcome);
                }
            }
            let Some(save) = self.unsaved.take() else {
                return Poll::Ready(());
            };
            self.saving = Some(spawn_blocking(move || save.write()));
        }
    }

    /// When the set in force was first seen here, or by an earlier process: from when its lives count.
    pub fn first_seen(&self) -> Option<SystemTime> {
        let (origin, _) = self.applied.as_ref()?;
        Some(self.sights.get(*origin)?.wall)
    }

    /// Notes that the source is heard of: what is published is known, and will be.
    pub fn live(&mut self) {
        let confirmed = Confirmed {
            at: self.clock().now(),
            age: Duration::ZERO,
        };
        self.note(|record| {
            record.connection = Connection::Live;
            record.confirmed = Some(confirmed);
        });
    }

    /// Notes that the source is not heard of. Said again, it is still since the first time.
    pub fn interrupted(&mut self, error: impl Into<Arc<str>>) {
        let clock = self.clock();
        let error = error.into();
        self.note(|record| {
            let since = match &record.connection {
                Connection::Interrupted { since, .. } => *since,
                _ => clock.system_time(),
            };
            // Until now it was known; from here on it ages.
            if record.connection == Connection::Live {
                record.confirmed = Some(Confirmed {
                    at: clock.now(),
                    age: Duration::ZERO,
                });
            }
            record.connection = Connection::Interrupted { since, error };
        });
    }

    /// The same, where it is known when the source was last heard of: from then on what is in force may be
    /// out of date.
    pub fn interrupted_since(&mut self, heard: Instant, error: impl Into<Arc<str>>) {
        let clock = self.clock();
        let age = clock.now().saturating_duration_since(heard);
        let error = error.into();
        self.note(|record| {
            let since = match &record.connection {
                Connection::Interrupted { since, .. } => *since,
                _ => clock
                    .system_time()
                    .checked_sub(age)
                    .unwrap_or(SystemTime::UNIX_EPOCH),
            };
            record.confirmed = Some(Confirmed { at: clock.now(), age });
            record.connection = Connection::Interrupted { since, error };
        });
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.handle.shared.clock.clone()
    }

    fn publish(&self, snapshot: Snapshot) {
        self.handle.shared.current.store(Arc::new(snapshot));
        self.handle.shared.published.send_modify(|count| *count += 1);
    }

    /// Changes the status, and tells of it if that is one.
    fn note(&self, change: impl FnOnce(&mut StatusRecord)) {
        self.handle.shared.status.send_if_modified(|record| {
            let before = record.clone();
            change(record);
            record.differs_from(&before)
        });
    }

    fn note_file(&self, outcome: Result<(), FileError>) {
        let problem = outcome.err().map(|error| {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            Arc::from(format!("{error}{cause}"))
        });
        if let Some(problem) = &problem {
            tracing::warn!(problem = %problem, "the last good directives are not kept");
        }
        self.note(|record| record.file_problem = problem);
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        let now = self.clock().now();
        self.note(|record| {
            if record.connection == Connection::Live {
                record.confirmed = record
                    .confirmed
                    .map(|confirmed| Confirmed { at: now, ..confirmed });
            }
            record.connection = Connection::Stopped;
        });
        // Those who wait for a change look whether there can be one.
        self.handle.shared.published.send_modify(|count| *count += 1);
    }
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier")
            .field("handle", &self.handle)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
