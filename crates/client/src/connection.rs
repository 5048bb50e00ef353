//! The way to the servers: channels, failover, and calls that are made again where that is harmless.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidewatch_core::{Backoff, Clock, EndReason, Revision};
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::error::{Error, chain};
use crate::failure::{Failure, Intent};
use crate::reconnect::OnReconnect;
use tidewatch_proto::error as wire;

/// How often a call that may be made again is made in all.
pub const CALL_ATTEMPTS: u32 = 5;

/// The longest pause between two attempts of a call.
pub const MAX_CALL_PAUSE: Duration = Duration::from_secs(1);

/// The first pause between two attempts of a call is drawn below this.
const FIRST_CALL_PAUSE: Duration = Duration::from_millis(100);

/// After how long without a sign of life a connection counts as dead, unless set; see
/// [`ClientBuilder::dead_after`](crate::ClientBuilder::dead_after).
pub const DEAD_AFTER: Duration = Duration::from_secs(10);

/// The largest answer that is accepted, in bytes: room for the fleet views and ranges of about fifty
/// thousand entries of a kilobyte.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// How much of a watch may wait in this process before its reader takes it, in bytes.
pub const WATCH_WINDOW_BYTES: u32 = 256 << 10;

/// The most watches on one connection. Servers commonly allow 100 to 200 streams, and one stream
/// more than allowed waits without a word.
const WATCHES_PER_CONNECTION: usize = 100;

/// How much may wait on one connection of watches, in bytes: all of them but one may be stuck
/// without stopping that one.
const WATCH_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const _: () = assert!(WATCHES_PER_CONNECTION < (WATCH_CONNECTION_WINDOW_BYTES / WATCH_WINDOW_BYTES) as usize);

/// What a client was set up with.
pub(crate) struct Settings {
    pub(crate) token: Option<MetadataValue<Ascii>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) on_reconnect: Option<OnReconnect>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Settings {
    /// How long a ping may take to be answered; as long as there is between two of them.
    fn ping_timeout(&self) -> Duration {
        self.dead_after / 2
    }
}

/// All that the handles of one client share.
pub(crate) struct Connection {
    remotes: Vec<Remote>,
    /// The index of the remote in use. Whoever finds it failing moves on to the next.
    current: AtomicUsize,
    settings: Settings,
    closed: watch::Sender<Option<EndReason>>,
    /// The latest revision that a write was acknowledged with.
    acknowledged: AtomicU64,
}

/// One server. Its channels connect when they are used, and again after they broke.
struct Remote {
    uri: String,
    endpoint: Endpoint,
    /// The same with pings that come when an upload is over: they end the connection of one that hangs.
    uploads: Endpoint,
    calls: Channel,
    watches: Mutex<Vec<WatchChannel>>,
}

/// A connection that carries watches and nothing else, so that stuck ones cannot stop calls.
struct WatchChannel {
    channel: Channel,
    /// Held by each of the watches on it, and here.
    place: Arc<()>,
}

/// A place on a connection of watches.
pub(crate) type Place = Arc<()>;

impl Connection {
    pub(crate) fn new(uris: &[http::Uri], settings: Settings) -> Self {
        let remotes = uris.iter().map(|uri| Remote::new(uri, &settings)).collect();
        Self {
            remotes,
            current: AtomicUsize::new(0),
            settings,
            closed: watch::Sender::new(None),
            acknowledged: AtomicU64::new(0),
        }
    }

    /// Connects to one of the servers, the first that answers.
    pub(crate) async fn probe(&mut self) -> Result<(), Error> {
        let mut failure = None;
        for (index, remote) in self.remotes.iter_mut().enumerate() {
            match remote.endpoint.connect().await {
                Ok(channel) => {
                    remote.calls = channel;
                    self.current = AtomicUsize::new(index);
                    return Ok(());
                }
                Err(error) => failure = Some(chain(&error)),
            }
        }
        Err(Error::Unreachable {
            endpoints: self.endpoints(),
            source: wire::cause(failure.unwrap_or_default()),
        })
    }

    /// Makes a call, if need be several times.
    pub(crate) async fn call<T, R, F>(
        &self,
        intent: Intent,
        message: T,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Failure>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_within(self.settings.request_timeout, intent, message, send)
            .await
    }

    /// The same for keeping something alive, which is as little work as answering a ping. A server that
    /// takes longer than it may for that is left, and the next one asked.
    pub(crate) async fn keep_alive<T, R, F>(
        &self,
        message: T,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Failure>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        // Done twice it is no different from done once.
        self.call_within(self.settings.ping_timeout(), Intent::Read, message, send)
            .await
    }

    /// Makes a call with a large message that may be made again, on a connection of its own, which ends with it. On a slow
    /// line it would hold up what is behind it on a shared one: keep-alives, and the pings by which a server counts as
    /// alive. Its own pings, whose answers would come as late, wait for the request timeout, which bounds it. That it fails
    /// says nothing of the server, which other calls go on with.
    pub(crate) async fn upload<T, R, F>(
        &self,
        message: T,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Failure>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempts = self.attempts();
        loop {
            let (remote, _) = self.remote();
            let answer = send(remote.upload_channel(), self.request(message.clone()));
            match self.in_time(attempts.deadline, answer).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(failure) => attempts.again(self, failure, Intent::Read).await?,
            }
        }
    }

    /// Makes a call whose attempts take no longer than `patience` each.
    async fn call_within<T, R, F>(
        &self,
        patience: Duration,
        intent: Intent,
        message: T,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Failure>
    where
        T: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempts = self.attempts();
        loop {
            let (remote, at) = self.remote();
            let answer = send(remote.calls.clone(), self.request(message.clone()));
            let deadline = attempts.deadline.min(self.settings.clock.now() + patience);
            let failure = match self.in_time(deadline, answer).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(failure) => failure,
            };
            // Also when a write must not be made again: the next call goes elsewhere.
            if failure.is_retryable(Intent::Read) {
                self.leave(at);
            }
            attempts.again(self, failure, intent).await?;
        }
    }

    /// Begins attempts at something, which share one timeout.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts {
            deadline: self.settings.clock.now() + self.settings.request_timeout,
            backoff: Backoff::new(FIRST_CALL_PAUSE, MAX_CALL_PAUSE),
            made: 0,
        }
    }

    /// Waits for an answer, but not beyond the deadline, nor beyond the end of the client.
    pub(crate) async fn in_time<R>(
        &self,
        deadline: std::time::Instant,
        answer: impl Future<Output = Result<R, Status>>,
    ) -> Result<R, Failure> {
        let answer = std::pin::pin!(answer);
        let patience = deadline.saturating_duration_since(self.settings.clock.now());
        let timer = self.settings.clock.sleep_until(deadline);
        match futures_util::future::select(answer, timer).await {
            futures_util::future::Either::Left((answer, _)) => answer.map_err(Failure::from),
            futures_util::future::Either::Right(_) => Err(Failure::Lost(format!(
                "no answer within {} ms",
                patience.as_millis()
            ))),
        }
    }

    /// The channel for a new watch, with a place on it and the number of its server.
    pub(crate) fn watch_channel(&self) -> (Channel, Place, usize) {
        let (remote, at) = self.remote();
        let (channel, place) = remote.watch_channel();
        (channel, place, at)
    }

    /// A message with what every call carries.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.settings.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    /// Leaves a server that failed, unless somebody else has done so already.
    pub(crate) fn leave(&self, at: usize) {
        let next = (at + 1) % self.remotes.len();
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes the revision of a write.
    pub(crate) fn acknowledge(&self, revision: Revision) {
        self.acknowledged.fetch_max(revision.0, Ordering::Relaxed);
    }

    /// The latest revision that this client has made.
    pub(crate) fn acknowledged(&self) -> Revision {
        Revision(self.acknowledged.load(Ordering::Relaxed))
    }

    /// The servers, for people.
    pub(crate) fn endpoints(&self) -> String {
        let uris: Vec<_> = self.remotes.iter().map(|remote| remote.uri.as_str()).collect();
        uris.join(", ")
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn close(&self, reason: EndReason) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(reason);
            first
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Waits for [`close`](Self::close).
    pub(crate) fn closed(&self) -> impl Future<Output = EndReason> + Send + 'static {
        let mut closed = self.closed.subscribe();
        async move {
            match closed.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(EndReason::Closed),
                // The sender lives in the connection, which whoever waits holds too.
                Err(_) => EndReason::Closed,
            }
        }
    }

    fn remote(&self) -> (&Remote, usize) {
        let at = self.current.load(Ordering::Relaxed);
        (&self.remotes[at], at)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

impl Remote {
    fn new(uri: &http::Uri, settings: &Settings) -> Self {
        let endpoint = |ping_timeout| {
            Endpoint::from(uri.clone())
                .connect_timeout(settings.connect_timeout)
                .http2_keep_alive_interval(ping_timeout)
                .keep_alive_timeout(ping_timeout)
                .keep_alive_while_idle(true)
        };
        let uploads = endpoint(settings.request_timeout);
        let endpoint = endpoint(settings.ping_timeout());
        Self {
            uri: uri.to_string().trim_end_matches('/').to_owned(),
            calls: endpoint.connect_lazy(),
            endpoint,
            uploads,
            watches: Mutex::new(Vec::new()),
        }
    }

    /// A channel for one large message.
    fn upload_channel(&self) -> Channel {
        self.uploads.connect_lazy()
    }

    fn watch_channel(&self) -> (Channel, Place) {
        let mut channels = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        // Unused connections go, but for one.
        let mut spare = true;
        channels.retain(|channel| channel.watches() > 0 || std::mem::take(&mut spare));
        let free = channels
            .iter()
            .position(|channel| channel.watches() < WATCHES_PER_CONNECTION);
        let channel = if let Some(free) = free {
            &channels[free]
        } else {
            let endpoint = self.endpoint.clone();
            let channel = endpoint
                .initial_stream_window_size(WATCH_WINDOW_BYTES)
                .initial_connection_window_size(WATCH_CONNECTION_WINDOW_BYTES)
                .connect_lazy();
            channels.push(WatchChannel {
                channel,
                place: Arc::new(()),
            });
            &channels[channels.len() - 1]
        };
        (channel.channel.clone(), channel.place.clone())
    }
}

impl WatchChannel {
    fn watches(&self) -> usize {
        Arc::strong_count(&self.place) - 1
    }
}

/// Attempts at one call.
pub(crate) struct Attempts {
    pub(crate) deadline: std::time::Instant,
    backoff: Backoff,
    made: u32,
}

impl Attempts {
    /// After a failed attempt: returns the failure if it is final, otherwise waits until it is time
    /// for the next.
    pub(crate) async fn again(
        &mut self,
        connection: &Connection,
        failure: Failure,
        intent: Intent,
    ) -> Result<(), Failure> {
        self.made += 1;
        if !failure.is_retryable(intent) || self.made >= CALL_ATTEMPTS {
            return Err(failure);
        }
        let clock = &connection.settings.clock;
        let next = clock.now() + self.backoff.next_delay();
        if next >= self.deadline {
            return Err(failure);
        }
        tracing::debug!(
            error = failure.text(),
            attempt = self.made,
            "call failed, trying again"
        );
        clock.sleep_until(next).await;
        Ok(())
    }
}
