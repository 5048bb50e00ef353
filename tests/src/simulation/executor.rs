//! Tasks on one thread, polled one at a time in an order that somebody else chooses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Body = Pin<Box<dyn Future<Output = ()>>>;

/// The name of a task; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

/// The tasks of a run. A task is polled when it has been woken, and only then unless one is polled for nothing on purpose:
/// so a wake-up that is forgotten shows as a task that never ends.
pub(crate) struct Executor {
    tasks: BTreeMap<TaskId, Body>,
    woken: Woken,
    spawner: Spawner,
}

/// Those that want to be polled, in the order of their names: in which order they were woken says nothing here.
type Woken = Arc<Mutex<BTreeSet<TaskId>>>;

/// Adds tasks, also from within one.
#[derive(Clone, Default)]
pub(crate) struct Spawner {
    spawned: Rc<RefCell<Spawned>>,
}

#[derive(Default)]
struct Spawned {
    last: u64,
    bodies: Vec<(TaskId, Body)>,
}

impl Spawner {
    pub(crate) fn spawn(&self, body: impl Future<Output = ()> + 'static) -> TaskId {
        let mut spawned = self.spawned.borrow_mut();
        spawned.last += 1;
        let id = TaskId(spawned.last);
        spawned.bodies.push((id, Box::pin(body)));
        id
    }
}

struct Alarm {
    id: TaskId,
    woken: Woken,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.woken).insert(self.id);
    }
}

impl Executor {
    pub(crate) fn new(spawner: Spawner) -> Self {
        Self {
            tasks: BTreeMap::new(),
            woken: Woken::default(),
            spawner,
        }
    }

    /// The tasks that were woken, in the order of their names.
    pub(crate) fn ready(&mut self) -> Vec<TaskId> {
        self.adopt();
        let mut woken = lock(&self.woken);
        woken.retain(|id| self.tasks.contains_key(id));
        woken.iter().copied().collect()
    }

    /// All tasks, in the order of their names.
    pub(crate) fn all(&mut self) -> Vec<TaskId> {
        self.adopt();
        self.tasks.keys().copied().collect()
    }

    pub(crate) fn poll(&mut self, id: TaskId) {
        let Some(mut body) = self.tasks.remove(&id) else {
            return;
        };
        lock(&self.woken).remove(&id);
        let woken = Arc::clone(&self.woken);
        let waker = Waker::from(Arc::new(Alarm { id, woken }));
        if body.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.insert(id, body);
        }
    }

    /// Drops a task where it stands.
    pub(crate) fn stop(&mut self, id: TaskId) {
        self.adopt();
        self.tasks.remove(&id);
    }

    /// Drops all tasks where they stand, in the order of their names.
    pub(crate) fn stop_all(&mut self) {
        self.adopt();
        while let Some((_, body)) = self.tasks.pop_first() {
            drop(body);
        }
    }

    fn adopt(&mut self) {
        let spawned = std::mem::take(&mut self.spawner.spawned.borrow_mut().bodies);
        for (id, body) in spawned {
            self.tasks.insert(id, body);
            lock(&self.woken).insert(id);
        }
    }
}

fn lock(woken: &Woken) -> MutexGuard<'_, BTreeSet<TaskId>> {
    woken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets others run, so many times.
pub(crate) async fn turns(count: u64) {
    let mut left = count;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
