//! The adapter to a real Docker engine (feature `bollard`).
//!
//! [`Engine`] implements [`DockerLister`], [`DockerEvents`] and [`DockerInspect`]. It asks with GET alone, on
//! `/containers`, `/events`, `/info`, `/version` and `/_ping`, so that a read-only socket proxy is enough.
//!
//! # What bollard does here, and what it does not
//! Every call goes through one transport of our own: a connection per call, on which no more is read than the call is
//! allowed. Bollard, the usual client, makes the calls whose answers it models safely, `/_ping` and `/version`. The
//! others are read here, because its models are closed enums: one state, port type or kind of mount that is newer
//! than the library fails the *whole* list (bollard 701, 715), inspection or `/info`, and one unknown event
//! ends the stream. Here an element, and within it a field, counts for itself: what cannot be understood becomes
//! `unknown` or is left out, and harms nothing else.
//!
//! Paths carry no version: the daemon answers in its own newest form, and a daemon that has dropped an old form
//! (traefik 12253) has nothing to refuse.

mod address;
mod daemon;
mod echo;
mod event;
mod inspect;
mod lenient;
mod list;
mod subscription;
mod transport;

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::BollardRequest;
use hyper::body::Incoming;
use tidewatch_core::{Clock, SystemClock};

use self::address::Address;
pub use self::address::AddressError;
pub use self::subscription::Subscription;
use self::transport::Transport;
use crate::event::DockerEvents;
use crate::inspect::{DockerInspect, Facts};
use crate::lister::{Daemon, DockerLister, ListError, Listing, Scope};

/// The most that is read of a list: about 90 000 containers of the usual 720 bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// The most that is read of any other answer. An inspected container is some 8 kB, and its labels and mounts.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Events are read for as long as the connection lasts; there a line is bounded instead.
const UNBOUNDED: u64 = u64::MAX;

/// Bollard's own deadline, for heads of answers. Ours are shorter and hold for bodies too.
const BOLLARD_DEADLINE_SECS: u64 = 3600;

/// How long each kind of call may take, body included.
///
/// The reconciler has deadlines of its own, which are shorter, and drops calls earlier. These are for whoever has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For [`DockerLister::ping`].
    pub ping: Duration,
    /// For [`DockerLister::daemon`], [`DockerInspect::inspect`], and for the head of the answer to
    /// [`DockerEvents::subscribe`].
    pub call: Duration,
    /// For [`DockerLister::list`]. A daemon with thousands of containers takes its time (weave scope 3211).
    pub list: Duration,
    /// How long a subscription may bring nothing at all before its connection is made anew. Quiet is normal, so this
    /// is long; that Docker has died is found out by `ping`.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(5),
            call: Duration::from_secs(15),
            list: Duration::from_secs(60),
            // Below the ten minutes after which common proxies cut (docker-socket-proxy 62).
            idle: Duration::from_secs(9 * 60),
        }
    }
}

/// A Docker engine, or whatever speaks its API. Clones share nothing but the address.
///
/// Making one connects nowhere; whether somebody answers shows with the first call.
///
/// ```no_run
/// use tidewatch_docker::engine::Engine;
/// use tidewatch_docker::{DockerLister, Scope};
///
/// # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::from_env()?;
/// for container in engine.list(Scope::All).await?.containers {
///     println!("{} {}", container.name, container.state);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Engine {
    transport: Transport,
    bollard: bollard::Docker,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, else the one at the usual socket: `/var/run/docker.sock`, or
    /// `$XDG_RUNTIME_DIR/docker.sock` where only that exists.
    ///
    /// # Errors
    /// [`AddressError`] where `DOCKER_HOST` names none that can be used.
    pub fn from_env() -> Result<Self, AddressError> {
        Address::from_env().map(Self::new)
    }

    /// The engine at `unix:///PATH` (or just `/PATH`), `tcp://HOST[:PORT][/BASE]` or `http://…`.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn at(address: &str) -> Result<Self, AddressError> {
        Address::parse(address).map(Self::new)
    }

    fn new(address: Address) -> Self {
        let transport = Transport::new(address);
        Self {
            bollard: over(transport.clone()),
            transport,
            deadlines: Deadlines::default(),
            clock: SystemClock::shared(),
        }
    }

    /// With other deadlines.
    pub fn with_deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// With another clock to measure the deadlines by.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Where it is, as `DOCKER_HOST` would say it.
    pub fn address(&self) -> String {
        self.transport.address().to_string()
    }

    async fn get(&self, target: &str, budget: u64) -> Result<bytes::Bytes, ListError> {
        let response = self.transport.get(target, budget).await?;
        self.transport.read(response).await
    }

    async fn open_events(&self, since: Option<SystemTime>) -> Result<Incoming, ListError> {
        let target = event::target(since);
        let response = self.within(self.deadlines.call, self.transport.get(&target, UNBOUNDED));
        Ok(response.await?.into_body())
    }

    async fn within<T>(
        &self,
        after: Duration,
        call: impl Future<Output = Result<T, ListError>>,
    ) -> Result<T, ListError> {
        tokio::select! {
            biased;
            result = call => result,
            () = self.clock.sleep(after) => Err(ListError::Timeout { after }),
        }
    }
}

impl DockerLister for Engine {
    async fn list(&self, scope: Scope<'_>) -> Result<Listing, ListError> {
        // No id at all would be no filter at all.
        if scope == Scope::Ids(&[]) {
            return Ok(Listing::default());
        }
        let target = list::target(scope);
        let body = self.within(self.deadlines.list, self.get(&target, MAX_LIST_BYTES));
        list::decode(&body.await?, scope)
    }

    async fn daemon(&self) -> Result<Daemon, ListError> {
        let asked = async {
            let version = self
                .bollard
                .version()
                .await
                .map_err(|error| self.foreign(error))?;
            let info = daemon::decode_info(&self.get(daemon::INFO, MAX_ANSWER_BYTES).await?)?;
            daemon::daemon(version, info)
        };
        self.within(self.deadlines.call, asked).await
    }

    async fn ping(&self) -> Result<(), ListError> {
        let pong = async { self.bollard.ping().await.map_err(|error| self.foreign(error)) };
        self.within(self.deadlines.ping, pong).await.map(drop)
    }
}

impl DockerInspect for Engine {
    async fn inspect(&self, id: &str) -> Result<Option<Facts>, ListError> {
        let target = inspect::target(id);
        let body = self.within(self.deadlines.call, self.get(&target, MAX_ANSWER_BYTES));
        match body.await {
            Ok(body) => inspect::decode(&body).map(Some),
            Err(ListError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl DockerEvents for Engine {
    type Subscription = Subscription;

    async fn subscribe(&self, since: Option<SystemTime>) -> Result<Subscription, ListError> {
        let body = self.open_events(since).await?;
        Ok(Subscription::new(self.clone(), body, since))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("address", &self.address())
            .field("deadlines", &self.deadlines)
            .finish_non_exhaustive()
    }
}

/// Bollard, speaking through our transport.
fn over(transport: Transport) -> bollard::Docker {
    let send = move |request: BollardRequest| {
        let transport = transport.clone();
        async move {
            let target = request
                .uri()
                .path_and_query()
                .map_or("/", |target| target.as_str());
            transport.send(target, MAX_ANSWER_BYTES).await.map_err(|error| {
                // Carried through to `foreign`: bollard has no place for an error of ours.
                bollard::errors::Error::IOError {
                    err: io::Error::other(error),
                }
            })
        }
    };
    bollard::Docker::connect_with_custom_transport(
        send,
        Some("http://localhost"),
        BOLLARD_DEADLINE_SECS,
        bollard::API_DEFAULT_VERSION,
    )
    .expect("bollard takes any transport as it is")
}

impl Engine {
    /// What an error of bollard's is in our words.
    fn foreign(&self, error: bollard::errors::Error) -> ListError {
        use bollard::errors::Error;
        match error {
            Error::IOError { err } => match err.downcast::<ListError>() {
                Ok(ours) => ours,
                Err(err) => ListError::Other(Arc::new(err)),
            },
            Error::HyperResponseError { err } => self.transport.fault(err),
            Error::DockerResponseServerError { status_code, message } => ListError::Refused {
                status: status_code,
                message: transport::shorten(&message),
            },
            Error::RequestTimeoutError => ListError::Timeout {
                after: self.deadlines.call,
            },
            error => ListError::Malformed {
                reason: error.to_string(),
            },
        }
    }
}
