//! One connection, one GET.
//!
//! A connection is never used twice. On a unix socket a new one costs some 50 µs, and in exchange there is no pool
//! that hands out connections of a daemon that was restarted meanwhile (traefik 5833), a call that is dropped takes
//! its connection with it, and what a call may read can be bounded where the bytes come in, whoever decodes them.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
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

use super::address::Address;
use crate::lister::ListError;

/// How much of an error's text is kept. Docker's are one sentence; a proxy may send a page.
const MAX_MESSAGE_CHARS: usize = 300;

/// How connections to one engine are made.
///
/// TLS and SSH will be further arms of [`Transport::connect`]: all that a call needs is a stream of bytes.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    address: Arc<Address>,
}

impl Transport {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address: Arc::new(address),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a GET and waits for the head of a successful answer. No more than `budget` bytes are ever read, its
    /// head included.
    ///
    /// Dropping the answer closes the connection.
    pub(super) async fn get(&self, target: &str, budget: u64) -> Result<Response<Incoming>, ListError> {
        let response = self.send(target, budget).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => {
                let text = self.read(response).await.unwrap_or_default();
                Err(ListError::Refused {
                    status: status.as_u16(),
                    message: error_message(&text),
                })
            }
        }
    }

    /// The same, whatever the status.
    pub(super) async fn send(&self, target: &str, budget: u64) -> Result<Response<Incoming>, ListError> {
        let request = Request::get(format!("{}{target}", self.address.base()))
            .header(HOST, self.address.host_header())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tidewatch/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| ListError::Other(Arc::new(error)))?;
        let io = self.connect().await.map_err(|error| self.unreachable(error))?;
        let bounded = Bounded { io, budget, read: 0 };
        let (mut sender, connection) = http1::handshake(TokioIo::new(bounded))
            .await
            .map_err(|error| self.fault(error))?;
        // It ends with the answer, or when the answer is dropped. Its errors arrive at whoever reads the answer.
        tokio::spawn(async move { connection.await.ok() });
        sender
            .send_request(request)
            .await
            .map_err(|error| self.fault(error))
    }

    /// The whole body of an answer. Bounded by the budget of its connection.
    pub(super) async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ListError> {
        match response.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.fault(error)),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self.address() {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }

    /// What an error on the way means to whoever asked.
    pub(super) fn fault(&self, error: hyper::Error) -> ListError {
        if let Some(TooLong { budget }) = too_long(&error) {
            return ListError::Malformed {
                reason: format!("it is longer than {budget} bytes"),
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
            source: Arc::new(error),
        }
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
    budget: u64,
    read: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {budget} bytes")]
struct TooLong {
    budget: u64,
}

/// Looks for [`TooLong`] among the causes. An `io::Error` does not count what it wraps among its sources.
fn too_long(error: &hyper::Error) -> Option<&TooLong> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
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
        self.read = self.read.saturating_add((buf.filled().len() - before) as u64);
        if self.read > self.budget {
            let budget = self.budget;
            return Poll::Ready(Err(io::Error::other(TooLong { budget })));
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
