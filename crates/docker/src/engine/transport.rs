//! One connection, one GET.
//!
//! A connection is hardly ever used twice. On a unix socket a new one costs some 50 µs, and in exchange there is no pool
//! that hands out connections of a daemon that was restarted meanwhile (traefik 5833), a call that is dropped takes
//! its connection with it, and what a call may read can be bounded where the bytes come in, whoever decodes them.
//!
//! Where a connection is dear, because it takes a handshake or even a login, those whose answers were read to their ends are
//! kept for the next calls, so that a ping every two seconds is no login every two seconds. One that turns out to be dead is
//! made anew, once: a GET may be asked twice.
//!
//! Pings have a kept connection of their own, which no list is in the way of. A login may take longer than anybody waits for
//! a ping; it goes on then, and a later ping finds it done.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::address::{Address, Authority};
use super::ssh;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::lister::{Cause, ListError};

/// How much of an error's text is kept. Docker's are one sentence; a proxy may send a page.
const MAX_MESSAGE_CHARS: usize = 300;

/// How many calls there are at a time where connections are dear, besides pings and events, and how many connections are kept;
/// further calls wait. An sshd drops logins at random while ten others have not got in (`MaxStartups`).
const MAX_DEAR: usize = 4;

/// How much of an answer that is an error is read; it is shown as one line.
const MAX_REFUSAL_BYTES: u64 = 64 << 10;

/// How connections to one engine are made.
#[derive(Clone)]
pub(super) struct Transport {
    address: Arc<Address>,
    ssh: Arc<Path>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<Tls>>,
    dear: Arc<Dear>,
}

/// Connections that are kept.
struct Dear {
    calls: Semaphore,
    /// The one that was used last is the last.
    kept: Mutex<Vec<Kept>>,
    /// That of the pings. Locked while one is under way.
    pings: Arc<tokio::sync::Mutex<Option<Kept>>>,
}

/// A connection that waits for its next call.
struct Kept {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// How much may still be read on it.
    left: Arc<AtomicU64>,
    /// It ends with the answer, or when the answer is dropped.
    end: JoinHandle<hyper::Result<()>>,
}

impl Kept {
    /// Sends a request and waits for the head of its answer. If the connection has ended before it could be sent, what
    /// ended it is told: an engine that does not like a client says so as soon as hands are shaken.
    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self.sender.send_request(request).await {
            Err(error) if error.is_canceled() => match (&mut self.end).await {
                Ok(Err(why)) => Err(why),
                _ => Err(error),
            },
            sent => sent,
        }
    }
}

impl Transport {
    pub(super) fn new(address: Address) -> Self {
        Self {
            #[cfg(feature = "tls")]
            tls: match &address {
                Address::Tls { certs, .. } => Some(Arc::new(Tls::new(certs))),
                _ => None,
            },
            address: Arc::new(address),
            ssh: Path::new("ssh").into(),
            dear: Arc::new(Dear {
                calls: Semaphore::new(MAX_DEAR),
                kept: Mutex::default(),
                pings: Arc::default(),
            }),
        }
    }

    pub(super) fn with_ssh(self, program: &Path) -> Self {
        Self {
            ssh: program.into(),
            ..self
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether a connection takes more than a moment to be made.
    pub(super) fn is_dear(&self) -> bool {
        matches!(self.address(), Address::Tls { .. } | Address::Ssh(_))
    }

    /// Sends a GET and reads the whole of a successful answer. No more than `budget` bytes are ever read, its head included.
    pub(super) async fn fetch(&self, target: &str, budget: u64) -> Result<Bytes, ListError> {
        if !self.is_dear() {
            return self.fetch_anew(target, budget).await.map(|(body, _)| body);
        }
        // It is never closed.
        let _call = self.dear.calls.acquire().await.ok();
        let kept = self.kept().pop();
        let (body, connection) = match self.fetch_over(kept, target, budget).await {
            Some(fetched) => fetched?,
            None => self.fetch_anew(target, budget).await?,
        };
        self.kept().extend(connection);
        Ok(body)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.dear.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a ping. Where it takes a login, that goes on for as long as `patience` lasts, whoever has stopped waiting
    /// for it.
    pub(super) async fn ping(
        &self,
        target: &'static str,
        budget: u64,
        patience: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Bytes, ListError> {
        if !self.is_dear() {
            return self.fetch(target, budget).await;
        }
        let mut slot = self.dear.pings.clone().lock_owned().await;
        let kept = slot.take();
        if let Some(fetched) = self.fetch_over(kept, target, budget).await {
            let (body, connection) = fetched?;
            *slot = connection;
            return Ok(body);
        }
        let transport = self.clone();
        let login = tokio::spawn(async move {
            let (body, connection) = tokio::select! {
                fetched = transport.fetch_anew(target, budget) => fetched?,
                () = patience => return Err(transport.unreachable(io::Error::from(io::ErrorKind::TimedOut))),
            };
            *slot = connection;
            Ok(body)
        });
        login
            .await
            .unwrap_or_else(|error| Err(ListError::Other(Arc::new(error))))
    }

    async fn fetch_anew(&self, target: &str, budget: u64) -> Result<(Bytes, Option<Kept>), ListError> {
        let connection = self.open(budget).await?;
        self.ask(connection, target).await
    }

    /// None: there is no connection, or it has ended just now, by itself or because the engine was restarted.
    async fn fetch_over(
        &self,
        kept: Option<Kept>,
        target: &str,
        budget: u64,
    ) -> Option<Result<(Bytes, Option<Kept>), ListError>> {
        let mut kept = kept?;
        kept.left.store(budget, Ordering::Relaxed);
        kept.sender.ready().await.ok()?;
        match self.ask(kept, target).await {
            Err(ListError::Unreachable { .. }) => None,
            answer => Some(answer),
        }
    }

    /// What is answered, and the connection if it can be used again.
    async fn ask(&self, mut connection: Kept, target: &str) -> Result<(Bytes, Option<Kept>), ListError> {
        let response = connection.send(self.request(target)?).await;
        let response = response.map_err(|error| self.fault(error))?;
        let response = self.accept(response, &connection.left).await?;
        let body = self.read(response).await?;
        let is_open = !connection.sender.is_closed();
        Ok((body, is_open.then_some(connection)))
    }

    /// Sends a GET and waits for the head of a successful answer, on a connection of its own.
    ///
    /// Dropping the answer closes the connection.
    pub(super) async fn get(&self, target: &str, budget: u64) -> Result<Response<Incoming>, ListError> {
        let mut connection = self.open(budget).await?;
        let response = connection.send(self.request(target)?).await;
        self.accept(response.map_err(|error| self.fault(error))?, &connection.left)
            .await
    }

    async fn accept(
        &self,
        response: Response<Incoming>,
        left: &AtomicU64,
    ) -> Result<Response<Incoming>, ListError> {
        match response.status() {
            StatusCode::OK => Ok(response),
            status => {
                // Of what goes on for ever much may be read, of an error not.
                left.fetch_min(MAX_REFUSAL_BYTES, Ordering::Relaxed);
                let text = self.read(response).await.unwrap_or_default();
                Err(ListError::Refused {
                    status: status.as_u16(),
                    message: error_message(&text),
                })
            }
        }
    }

    fn request(&self, target: &str) -> Result<Request<Empty<Bytes>>, ListError> {
        Request::get(format!("{}{target}", self.address.base()))
            .header(HOST, self.address.host_header())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tidewatch/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| ListError::Other(Arc::new(error)))
    }

    async fn open(&self, budget: u64) -> Result<Kept, ListError> {
        let io = self.connect().await.map_err(|error| self.unreachable(error))?;
        let left = Arc::new(AtomicU64::new(budget));
        let bounded = Bounded {
            io,
            left: left.clone(),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(bounded))
            .await
            .map_err(|error| self.fault(error))?;
        // Its errors arrive at whoever reads the answer.
        let end = tokio::spawn(connection);
        Ok(Kept { sender, left, end })
    }

    /// The whole body of an answer. Bounded by the budget of its connection.
    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ListError> {
        match response.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.fault(error)),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self.address() {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(authority) => Box::new(connect_tcp(authority).await?),
            #[cfg(feature = "tls")]
            Address::Tls { authority, .. } => {
                let tls = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
                let stream = connect_tcp(authority).await?;
                Box::new(tls.connect(&authority.host, stream).await?)
            }
            #[cfg(not(feature = "tls"))]
            Address::Tls { .. } => return Err(io::ErrorKind::Unsupported.into()),
            Address::Ssh(login) => Box::new(ssh::dial(&self.ssh, login)?),
        })
    }

    /// What an error on the way means to whoever asked.
    pub(super) fn fault(&self, error: hyper::Error) -> ListError {
        if cause::<TooLong>(&error).is_some() {
            return ListError::Malformed {
                reason: TooLong.to_string(),
            };
        }
        if error.is_parse() {
            return ListError::Malformed {
                reason: format!("it is no HTTP ({error})"),
            };
        }
        self.unreachable(error)
    }

    fn unreachable(&self, error: impl StdError + Send + Sync + 'static) -> ListError {
        ListError::Unreachable {
            address: self.address.to_string(),
            source: match self.explain(&error) {
                Some(explained) => explained,
                None => Arc::new(error),
            },
        }
    }

    #[cfg(feature = "tls")]
    fn explain(&self, error: &(dyn StdError + 'static)) -> Option<Cause> {
        let Address::Tls { authority, .. } = &*self.address else {
            return None;
        };
        let error = cause::<rustls::Error>(error)?;
        let explained = self.tls.as_ref()?.explain(&authority.host, error)?;
        Some(Arc::new(explained))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "the other one uses it")]
    fn explain(&self, _: &(dyn StdError + 'static)) -> Option<Cause> {
        None
    }
}

async fn connect_tcp(authority: &Authority) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What Docker says went wrong: `{"message":"…"}`, or a page from something in between.
fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let text = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    shorten(text.trim())
}

/// A text from outside, fit for a log line.
pub(super) fn shorten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection from which only so much may be read.
struct Bounded {
    io: Box<dyn Io>,
    left: Arc<AtomicU64>,
}

#[derive(Debug, thiserror::Error)]
#[error("it is longer than such an answer may be")]
struct TooLong;

/// Looks for an error among the causes of another. An `io::Error` does not count what it wraps among its sources.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = wrapped.and_then(|inner| inner.downcast_ref());
        if let Some(found) = found.or_else(|| error.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(read), Ordering::Relaxed);
        if read > left {
            return Poll::Ready(Err(io::Error::other(TooLong)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
