//! A Docker that does what it is told: for tests, also other people's.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_core::Stream;
use tidewatch_fleet::State;
use tokio::sync::{Notify, mpsc};

use crate::container::Container;
use crate::event::{DockerEvent, DockerEvents};
use crate::inspect::{DockerInspect, Facts};
use crate::lister::{Daemon, DockerLister, ListError, Listing, Scope};

/// A scripted daemon: lister, events and inspect in one. Clones are the same daemon.
///
/// [`put`](Self::put) and [`remove`](Self::remove) change what it runs and tell the subscribers;
/// [`put_silently`](Self::put_silently) and [`remove_silently`](Self::remove_silently) lose the event.
/// [`fail_next`](Self::fail_next) and [`set_down`](Self::set_down) make calls fail or hang, and
/// [`calls`](Self::calls) says what it was asked.
///
/// ```
/// use tidewatch_docker::fake::FakeDocker;
/// use tidewatch_docker::{Container, DockerLister, Scope};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let docker = FakeDocker::new("daemon-1");
/// docker.put(Container::new("c1", "web"));
/// assert_eq!(docker.list(Scope::All).await.unwrap().containers.len(), 1);
/// assert_eq!(docker.calls().lists, 1);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct FakeDocker {
    shared: Arc<Mutex<Shared>>,
    /// Told whenever a list begins to wait or may go on.
    gate: Arc<Notify>,
}

#[derive(Default)]
struct Shared {
    daemon: Daemon,
    containers: BTreeMap<String, Container>,
    facts: BTreeMap<String, Facts>,
    undecodable: usize,
    faults: BTreeMap<Call, VecDeque<Fault>>,
    down: Option<Fault>,
    subscribers: Vec<mpsc::UnboundedSender<Result<DockerEvent, ListError>>>,
    calls: Calls,
    since: Option<SystemTime>,
    held: bool,
    waiting: usize,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A list of everything.
    List,
    /// A list of some ids.
    ListIds,
    /// The question who it is.
    Daemon,
    /// A ping.
    Ping,
    /// An inspection.
    Inspect,
    /// A subscription.
    Subscribe,
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails.
    Error(ListError),
    /// It never answers.
    Hang,
}

impl Fault {
    /// Nobody is there.
    pub fn unreachable() -> Self {
        Self::Error(ListError::Unreachable {
            address: "fake".to_owned(),
            source: Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused)),
        })
    }
}

/// What a daemon was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Lists of everything.
    pub lists: usize,
    /// Lists of some ids.
    pub id_lists: usize,
    /// Questions who it is.
    pub daemons: usize,
    /// Pings.
    pub pings: usize,
    /// Inspections.
    pub inspects: usize,
    /// Subscriptions.
    pub subscriptions: usize,
}

impl FakeDocker {
    /// A daemon with this id that runs nothing.
    pub fn new(daemon_id: &str) -> Self {
        let docker = Self::default();
        docker.become_daemon(daemon_id);
        docker
    }

    /// From now on another daemon answers, with the same containers; see
    /// [`clear`](Self::clear) for one without any.
    pub fn become_daemon(&self, id: &str) {
        let versions = BTreeMap::from([("engine".to_owned(), "1.0".to_owned())]);
        self.lock().daemon = Daemon {
            id: id.to_owned(),
            versions,
            time: None,
        };
    }

    /// What it runs now, by id.
    pub fn containers(&self) -> BTreeMap<String, Container> {
        self.lock().containers.clone()
    }

    /// Removes all containers, and tells nobody.
    pub fn clear(&self) {
        self.lock().containers.clear();
    }

    /// Makes or changes a container, and tells the subscribers.
    pub fn put(&self, container: Container) {
        let id = container.id.clone();
        let action = match container.state {
            State::Running => "start",
            State::Created => "create",
            State::Paused => "pause",
            State::Stopped | State::Restarting | State::Dead => "die",
            _ => "update",
        };
        self.put_silently(container);
        self.emit(&id, action);
    }

    /// Makes or changes a container; the event is lost.
    pub fn put_silently(&self, container: Container) {
        self.lock().containers.insert(container.id.clone(), container);
    }

    /// Changes a container that is there, and tells the subscribers that it was this.
    pub fn change(&self, id: &str, action: &str, change: impl FnOnce(&mut Container)) {
        if let Some(container) = self.lock().containers.get_mut(id) {
            change(container);
        }
        self.emit(id, action);
    }

    /// Removes a container, and tells the subscribers.
    pub fn remove(&self, id: &str) {
        self.remove_silently(id);
        self.emit(id, "destroy");
    }

    /// Removes a container; the event is lost.
    pub fn remove_silently(&self, id: &str) {
        self.lock().containers.remove(id);
    }

    /// Tells the subscribers about a container, whether or not anything happened to it.
    pub fn emit(&self, id: &str, action: &str) {
        self.tell(&Ok(DockerEvent::Container {
            id: id.to_owned(),
            action: action.to_owned(),
            time: None,
        }));
    }

    /// Tells the subscribers that events may have been lost.
    pub fn emit_doubt(&self) {
        self.tell(&Ok(DockerEvent::Doubt {
            reason: "told to".to_owned(),
        }));
    }

    /// Ends every subscription, as a daemon does that goes away: with an error, then with nothing.
    pub fn disconnect(&self) {
        if let Fault::Error(error) = Fault::unreachable() {
            self.tell(&Err(error));
        }
        self.lock().subscribers.clear();
    }

    /// What an inspection will tell.
    pub fn set_facts(&self, id: &str, facts: Facts) {
        self.lock().facts.insert(id.to_owned(), facts);
    }

    /// How many elements of every list have no usable id.
    pub fn set_undecodable(&self, count: usize) {
        self.lock().undecodable = count;
    }

    /// Makes the next call of a kind go wrong; several of them one after the other.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.lock().faults.entry(call).or_default().push_back(fault);
    }

    /// Makes every call go wrong, until it is told otherwise. Running subscriptions stay.
    pub fn set_down(&self, fault: Option<Fault>) {
        self.lock().down = fault;
    }

    /// Holds lists back: each looks at the containers, and then waits for
    /// [`release_lists`](Self::release_lists) before it answers.
    pub fn hold_lists(&self) {
        self.lock().held = true;
    }

    /// Lets the lists that wait, and later ones, answer.
    pub fn release_lists(&self) {
        self.lock().held = false;
        self.gate.notify_waiters();
    }

    /// How many lists are being held back.
    pub fn waiting_lists(&self) -> usize {
        self.lock().waiting
    }

    /// How many subscriptions there are.
    pub fn subscribers(&self) -> usize {
        let mut shared = self.lock();
        shared.subscribers.retain(|subscriber| !subscriber.is_closed());
        shared.subscribers.len()
    }

    /// From when on the last subscription asked to be told, if it said so.
    pub fn last_since(&self) -> Option<SystemTime> {
        self.lock().since
    }

    /// What it was asked so far.
    pub fn calls(&self) -> Calls {
        self.lock().calls
    }

    fn tell(&self, event: &Result<DockerEvent, ListError>) {
        self.lock()
            .subscribers
            .retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    async fn called(&self, call: Call) -> Result<(), ListError> {
        let fault = {
            let mut shared = self.lock();
            let calls = &mut shared.calls;
            *match call {
                Call::List => &mut calls.lists,
                Call::ListIds => &mut calls.id_lists,
                Call::Daemon => &mut calls.daemons,
                Call::Ping => &mut calls.pings,
                Call::Inspect => &mut calls.inspects,
                Call::Subscribe => &mut calls.subscriptions,
            } += 1;
            let next = shared.faults.get_mut(&call).and_then(VecDeque::pop_front);
            next.or_else(|| shared.down.clone())
        };
        match fault {
            None => Ok(()),
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    async fn wait_at_gate(&self) {
        self.lock().waiting += 1;
        let _leave = Leave(self);
        loop {
            let released = self.gate.notified();
            if !self.lock().held {
                return;
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list leaves the gate, also when its caller gives up.
struct Leave<'a>(&'a FakeDocker);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl DockerLister for FakeDocker {
    async fn list(&self, scope: Scope<'_>) -> Result<Listing, ListError> {
        let call = match scope {
            Scope::All => Call::List,
            Scope::Ids(_) => Call::ListIds,
        };
        self.called(call).await?;
        let listing = {
            let shared = self.lock();
            let listed = shared
                .containers
                .values()
                .filter(|container| scope.contains(&container.id));
            Listing {
                containers: listed.cloned().collect(),
                undecodable: shared.undecodable,
            }
        };
        self.wait_at_gate().await;
        Ok(listing)
    }

    async fn daemon(&self) -> Result<Daemon, ListError> {
        self.called(Call::Daemon).await?;
        Ok(self.lock().daemon.clone())
    }

    async fn ping(&self) -> Result<(), ListError> {
        self.called(Call::Ping).await
    }
}

impl DockerEvents for FakeDocker {
    type Subscription = FakeSubscription;

    async fn subscribe(&self, since: Option<SystemTime>) -> Result<FakeSubscription, ListError> {
        self.called(Call::Subscribe).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut shared = self.lock();
        shared.since = since;
        shared.subscribers.push(sender);
        Ok(FakeSubscription(receiver))
    }
}

impl DockerInspect for FakeDocker {
    async fn inspect(&self, id: &str) -> Result<Option<Facts>, ListError> {
        self.called(Call::Inspect).await?;
        let shared = self.lock();
        let there = shared.containers.contains_key(id);
        Ok(there.then(|| shared.facts.get(id).cloned().unwrap_or_default()))
    }
}

/// A subscription to a [`FakeDocker`].
#[derive(Debug)]
pub struct FakeSubscription(mpsc::UnboundedReceiver<Result<DockerEvent, ListError>>);

impl Stream for FakeSubscription {
    type Item = Result<DockerEvent, ListError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

impl fmt::Debug for FakeDocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.lock();
        f.debug_struct("FakeDocker")
            .field("daemon", &shared.daemon.id)
            .field("containers", &shared.containers.len())
            .field("calls", &shared.calls)
            .finish_non_exhaustive()
    }
}
