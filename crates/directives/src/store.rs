//! Where processes get the set in force from.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tidewatch_core::{BoxFuture, Clock};
use tokio::sync::watch;

use crate::snapshot::Snapshot;
use crate::status::{Connection, Status, StatusRecord};

/// How long one who waits for a change goes without a look at the wall clock while directives live. A
/// clock that is set forward ends them; those who ask see that at once, those who wait after this.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// A store of directives: it follows what is published, and hands out the set in force.
///
/// Object-safe, because which store a program has is often decided when it starts.
pub trait DirectiveStore: fmt::Debug + Send + Sync + 'static {
    /// The handle that everything is read through; it outlives the store.
    fn handle(&self) -> &Handle;

    /// The set in force, to be kept for as long as it is needed. Lock-free.
    fn load(&self) -> Arc<Snapshot> {
        self.handle().shared.current.load_full()
    }

    /// The fastest way to ask again and again; one for each thread or task.
    fn reader(&self) -> Reader {
        self.handle().reader()
    }

    /// How the store is, and how old what it hands out.
    fn status(&self) -> Status {
        self.handle().status()
    }

    /// Tells of changes of the set from now on.
    fn changes(&self) -> Changes {
        self.handle().changes()
    }
}

/// Reads of a store whatever becomes of it: after its end the last set remains, and ends when its
/// directives do. Clones are cheap.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) current: Arc<ArcSwap<Snapshot>>,
    /// Counts the snapshots.
    pub(crate) published: watch::Sender<u64>,
    pub(crate) status: watch::Sender<StatusRecord>,
}

impl DirectiveStore for Handle {
    fn handle(&self) -> &Handle {
        self
    }
}

impl Handle {
    /// See [`DirectiveStore::load`].
    pub fn load(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// See [`DirectiveStore::reader`].
    pub fn reader(&self) -> Reader {
        Reader {
            cache: Cache::new(self.shared.current.clone()),
        }
    }

    /// See [`DirectiveStore::status`].
    pub fn status(&self) -> Status {
        self.shared.status.borrow().at(&*self.shared.clock)
    }

    /// Waits until the store has heard of what is published, or that it cannot.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connected(&self) {
        let mut status = self.shared.status.subscribe();
        // The sending side is held by this handle, so it cannot be closed.
        let _ = status
            .wait_for(|record| record.connection != Connection::Connecting)
            .await;
    }

    /// See [`DirectiveStore::changes`].
    pub fn changes(&self) -> Changes {
        let told = self.load();
        let status = self.shared.status.subscribe();
        let told_of_stop = status.borrow().is_stopped();
        Changes {
            snapshots: self.shared.published.subscribe(),
            status,
            handle: self.clone(),
            live: told.live().count(),
            told,
            told_of_stop,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A cached look at the set in force. [`load`](Self::load) costs about a nanosecond while nothing was
/// published: it compares one pointer. A clone has a cache of its own.
///
/// It holds the snapshot it last loaded, until it loads the next.
#[derive(Clone)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Reader {
    /// The set in force.
    #[inline]
    pub fn load(&mut self) -> &Snapshot {
        self.cache.load()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// The store is gone, so nothing will change but by the end of lives; all of them have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of directives was stopped")]
pub struct Stopped;

/// Tells of changes. Several that come together may be told of once.
pub struct Changes {
    handle: Handle,
    snapshots: watch::Receiver<u64>,
    status: watch::Receiver<StatusRecord>,
    told: Arc<Snapshot>,
    /// How many directives of `told` lived when it was told.
    live: usize,
    told_of_stop: bool,
}

impl Changes {
    /// Waits until the set in force differs from what was told before: by a publish, or because a
    /// directive has ended.
    ///
    /// # Errors
    /// [`Stopped`] when the store is gone and no directive lives that could end.
    ///
    /// # Cancel safety
    /// Safe: what was not told is told by the next call.
    pub async fn changed(&mut self) -> Result<Arc<Snapshot>, Stopped> {
        loop {
            // Before the look, so that what comes after it wakes.
            self.snapshots.mark_unchanged();
            let stopped = self.status.borrow().is_stopped();
            let latest = self.handle.load();
            // Fewer live, or others: none begins to live again.
            let live = latest.live().count();
            if live != self.live || !Arc::ptr_eq(&latest, &self.told) {
                self.told = latest.clone();
                self.live = live;
                return Ok(latest);
            }
            if stopped && live == 0 {
                return Err(Stopped);
            }
            let clock = latest.clock();
            let wake = (live > 0).then(|| {
                let recheck = clock.now() + WALL_CLOCK_INTERVAL;
                clock.sleep_until(latest.next_end().map_or(recheck, |end| end.min(recheck)))
            });
            wait(&mut self.snapshots, wake).await;
        }
    }

    /// Waits until the status differs from what was told before, its age apart.
    ///
    /// # Errors
    /// [`Stopped`] when it was told that the store is stopped, or was stopped before these changes were
    /// asked for.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn status_changed(&mut self) -> Result<Status, Stopped> {
        // The handle holds the sending side, so it cannot be closed.
        if self.told_of_stop || self.status.changed().await.is_err() {
            return Err(Stopped);
        }
        let record = self.status.borrow_and_update().clone();
        self.told_of_stop = record.is_stopped();
        Ok(record.at(&*self.handle.shared.clock))
    }
}

/// Waits for another snapshot, or for a moment.
async fn wait(snapshots: &mut watch::Receiver<u64>, mut wake: Option<BoxFuture<'static, ()>>) {
    let mut published = pin!(snapshots.changed());
    std::future::poll_fn(|cx| {
        let woken = wake
            .as_mut()
            .is_some_and(|wake| wake.as_mut().poll(cx).is_ready());
        if woken || published.as_mut().poll(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
