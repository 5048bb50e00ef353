//! The adapter to a real Docker engine (feature `bollard`).
//!
//! [`Engine`] implements [`DockerLister`], [`DockerEvents`] and [`DockerInspect`]. It asks with GET alone, on
//! `/containers`, `/events`, `/info`, `/version` and `/_ping`, so that a read-only socket proxy is enough.
//!
//! # What bollard does here, and what it does not
//! Every call goes through one transport of our own (a unix socket, TCP, TLS, or ssh), on which no more is read than the
//! call is allowed, and on which connections that take a login serve many calls. Bollard, the usual client, lends its
//! model of the answer that it models safely, `/version`. The others are read here, because its models are closed
//! enums: one state, port type or kind of mount that is newer than the library fails the *whole* list (bollard
//! 701, 715), inspection or `/info`, and one unknown event ends the stream. Here an element, and within it a field, counts for itself: what cannot be understood becomes
//! `unknown` or is left out, and harms nothing else.
//!
//! # Which engines
//! Docker from API 1.41 (20.10) on; an older one is asked all the same, with a warning. Paths carry no version: the daemon
//! answers in its own newest form, and a daemon that has dropped an old form (traefik 12253) has nothing to refuse. What
//! has come later is used where it is there (a typed health, from 1.52) and read out of texts where it is not.
//!
//! Podman's imitation differs, and is taken as it is: it says `remove` for `destroy`; it tells of every health probe, which costs a
//! list of one container each and writes nothing; where its lists show no health, rows have none; and it invents its id
//! anew for every answer, so that its id counts for nothing and another Podman behind the address goes unnoticed.

mod address;
mod daemon;
mod echo;
mod event;
mod inspect;
mod lenient;
mod list;
mod ssh;
mod subscription;
#[cfg(feature = "tls")]
mod tls;
mod transport;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use tidewatch_core::{Clock, SystemClock};

use self::address::Address;
pub use self::address::AddressError;
pub use self::subscription::Subscription;
use self::transport::Transport;
use crate::event::DockerEvents;
use crate::inspect::{DockerInspect, Facts};
use crate::lister::{Daemon, DockerLister, ListError, Listing, Scope};

/// What a ping asks for.
const PING: &str = "/_ping";

/// The most that is read of a list: about 90 000 containers of the usual 720 bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// The most that is read of any other answer. An inspected container is some 8 kB, and its labels and mounts.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Events are read for as long as the connection lasts; there a line is bounded instead.
const UNBOUNDED: u64 = u64::MAX;

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
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
}

/// How long a login may go on that nobody waits for any more; more than `ssh` itself allows it.
const LOGIN_PATIENCE: Duration = Duration::from_secs(20);

impl Engine {
    /// The engine that `DOCKER_HOST` names, else the one at the usual socket: `/var/run/docker.sock`, or
    /// `$XDG_RUNTIME_DIR/docker.sock` where only that exists.
    ///
    /// # Errors
    /// [`AddressError`] where `DOCKER_HOST` names none that can be used.
    pub fn from_env() -> Result<Self, AddressError> {
        Address::from_env().map(Self::new)
    }

    /// The engine at `unix:///PATH` (or just `/PATH`), `tcp://HOST[:PORT][/BASE]` or `http://…`, all in the clear;
    /// `https://HOST[:PORT][/BASE]?certs=DIR` (feature `tls`); or `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    ///
    /// `DIR` is a folder as Docker's tools have it: `ca.pem`, and `cert.pem` with `key.pem` where the engine asks for
    /// them. It is read when a connection is made, and again when it has changed. `tcp://…?certs=DIR` is the same.
    ///
    /// Over SSH, `docker system dial-stdio` is run on that machine by the `ssh` in the `PATH`, with the user's own
    /// configuration; it has to get in without asking.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn at(address: &str) -> Result<Self, AddressError> {
        Address::parse(address).map(Self::new)
    }

    fn new(address: Address) -> Self {
        Self {
            transport: Transport::new(address),
            deadlines: Deadlines::default(),
            clock: SystemClock::shared(),
        }
    }

    /// With another program than the `ssh` in the `PATH`. It is started with ssh's own arguments, and only for an
    /// address that begins with `ssh://`.
    pub fn with_ssh_program(self, program: impl AsRef<Path>) -> Self {
        Self {
            transport: self.transport.with_ssh(program.as_ref()),
            ..self
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
        self.transport.fetch(target, budget).await
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
            let version = self.get(daemon::VERSION, MAX_ANSWER_BYTES);
            let info = self.get(daemon::INFO, MAX_ANSWER_BYTES);
            let (version, info) = if self.transport.is_dear() {
                // The second over the connection of the first: asked at once they would take a login each.
                (version.await?, info.await?)
            } else {
                tokio::try_join!(version, info)?
            };
            daemon::daemon(daemon::decode_version(&version)?, daemon::decode_info(&info)?)
        };
        // Two calls at once are large for whoever holds the future of a whole resync.
        self.within(self.deadlines.call, Box::pin(asked)).await
    }

    async fn ping(&self) -> Result<(), ListError> {
        let patience = self.clock.sleep(LOGIN_PATIENCE);
        let pong = self.transport.ping(PING, MAX_ANSWER_BYTES, patience);
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
