//! The port: accepts connections, serves HTTP/1.1 and HTTP/2 on each, and winds them down.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tidewatch_core::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::Service;

use crate::config::Limits;
use crate::connection::Connection;
use crate::error::Error;
use crate::gathered::gathered;
use crate::http::Gate;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// How long a client may take to send a request's head, or the first bytes at all. Generous for
/// people with bad lines, short enough that idle sockets cannot fill up the connection limit unseen.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After how much silence a peer is asked whether it is still there, and how long it may take to
/// answer. A watch can be silent for days; this finds the client that was unplugged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Window for what a client sends on one stream, and on the whole connection: room for the largest
/// transaction, without making many streams wait for one.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// What may wait for one stream's client between us and the socket. A watch is only read on when
/// there is room; this times the number of stuck watchers is what they can hold of our memory.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The largest head of an HTTP/2 request.
const MAX_HEAD_BYTES: u32 = 16 << 10;

/// How long to wait after the operating system had no socket to give (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of HTTP/2's opening, and fewer than in the shortest useful HTTP/1.1 request. Who has sent
/// them has chosen a protocol, whose own timeouts hold from there on.
const PREFACE_BYTES: usize = 24;

/// Opens the port.
///
/// # Errors
/// [`Error::PortInUse`], [`Error::Listen`].
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(listen)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { listen },
            _ => Error::Listen { listen, source },
        })
}

/// What connections share.
pub(crate) struct Acceptor {
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Acceptor {
    /// Accepts connections until the server drains; then closes the port and waits until the last
    /// connection is done. Dropping the future closes all of them at once.
    pub(crate) async fn run(self, listener: TcpListener) {
        let builder = self.builder();
        let mut connections = JoinSet::new();
        let mut draining = pin!(self.readiness.draining());
        let mut accepted_so_far = 0;
        loop {
            tokio::select! {
                biased;
                () = &mut draining => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= self.limits.max_connections => {
                        self.metrics.connection_refused();
                        drop(stream);
                    }
                    Ok((stream, peer)) => {
                        accepted_so_far += 1;
                        let shared = Connection::new(peer, accepted_so_far, self.limits.max_watches_per_connection);
                        connections.spawn(self.serve(builder.clone(), stream, shared));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        self.clock.sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(self.limits.max_streams_per_connection)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_HEAD_BYTES);
        builder
    }

    /// Serves one connection to its end.
    fn serve(
        &self,
        builder: Builder<TokioExecutor>,
        stream: TcpStream,
        shared: Connection,
    ) -> impl Future<Output = ()> + use<> {
        let (gate, readiness, clock) = (self.gate.clone(), self.readiness.clone(), self.clock.clone());
        let open = self.metrics.connection_opened();
        async move {
            let _open = open;
            // Events are small and must not wait for acknowledgements of what went before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "failed to turn off Nagle's algorithm");
            }
            let (io, received) = Counted::new(stream);
            let (io, flusher) = gathered(io);
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(shared.clone());
                let mut router = gate.router();
                async move {
                    Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {}))
                }
            });
            let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
            // The first of many streams with something to send wakes the connection, which would run next and send that
            // alone. So it lets those who are ready have their turns first, and sends what they all have.
            let mut others_have_a_turn = false;
            let mut head_deadline = clock.sleep(HEAD_TIMEOUT);
            let mut head_seen = false;
            let mut draining = pin!(readiness.draining());
            let mut told = false;
            let ended = loop {
                tokio::select! {
                    ended = poll_fn(|cx| {
                        others_have_a_turn = !others_have_a_turn;
                        if others_have_a_turn {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        let ended = connection.as_mut().poll(cx);
                        match flusher.poll_flush(cx) {
                            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
                            _ => ended,
                        }
                    }) => break ended,
                    () = &mut head_deadline, if !head_seen => {
                        head_seen = received.load(Ordering::Relaxed) >= PREFACE_BYTES;
                        if !head_seen {
                            return;
                        }
                    }
                    () = &mut draining, if !told => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "connection ended");
            }
        }
    }
}

/// A stream that counts what it receives.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicUsize>,
}

impl Counted {
    fn new(stream: TcpStream) -> (Self, Arc<AtomicUsize>) {
        let received = Arc::new(AtomicUsize::new(0));
        let counted = Self {
            stream,
            received: received.clone(),
        };
        (counted, received)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        // Nothing else is ordered by the count, and only this task writes it.
        self.received
            .fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tidewatch_core::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::readiness::Stage;

    struct Port {
        addr: SocketAddr,
        /// Never listens, and keeps the port from anybody else when the server has gone.
        _held: TcpSocket,
        clock: ManualClock,
        readiness: Readiness,
        run: JoinHandle<()>,
    }

    impl Port {
        async fn open(max_connections: usize) -> Self {
            let held = TcpSocket::new_v4().unwrap();
            held.set_reuseaddr(true).unwrap();
            held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let addr = held.local_addr().unwrap();
            let listener = bind(addr).await.unwrap();
            let clock = ManualClock::new();
            let readiness = Readiness::new();
            let acceptor = Acceptor {
                gate: Gate::new(Router::new()),
                limits: Limits {
                    max_connections,
                    ..Limits::default()
                },
                readiness: readiness.clone(),
                metrics: Arc::new(Metrics::new(Arc::new(clock.clone()))),
                clock: Arc::new(clock.clone()),
            };
            Self {
                addr,
                _held: held,
                clock,
                readiness,
                run: tokio::spawn(acceptor.run(listener)),
            }
        }

        /// A connection that has been accepted, and a request answered on it.
        async fn used(&self) -> TcpStream {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            assert!(is_answered(&mut stream).await);
            stream
        }
    }

    /// Whether a request on the connection gets an answer, which has no body.
    async fn is_answered(stream: &mut TcpStream) -> bool {
        if stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .is_err()
        {
            return false;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => return false,
            }
        }
        answer.starts_with(b"HTTP/1.1 404")
    }

    /// Whether the peer has closed the connection; waits until it has.
    async fn closed(mut stream: TcpStream) -> bool {
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        let ended = tokio::time::timeout(Duration::from_secs(60), end).await;
        // A reset is as good an end as any.
        ended.is_ok()
    }

    /// Waits until the server waits for the head of a new connection.
    async fn waiting(clock: &ManualClock) {
        while clock.next_deadline().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed_after_its_time() {
        for opening in [&b""[..], b"PRI * HTTP/2"] {
            let port = Port::open(10).await;
            let mut silent = TcpStream::connect(port.addr).await.unwrap();
            silent.write_all(opening).await.unwrap();
            waiting(&port.clock).await;
            port.clock.advance(HEAD_TIMEOUT);
            assert!(closed(silent).await, "{opening:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_said_what_it_speaks_stays() {
        let port = Port::open(10).await;
        let mut used = port.used().await;
        port.clock.advance(HEAD_TIMEOUT);
        assert!(is_answered(&mut used).await);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
        let port = Port::open(1).await;
        let first = port.used().await;
        let second = TcpStream::connect(port.addr).await.unwrap();
        assert!(closed(second).await);
        drop(first);
        // The room comes back as soon as the server has noticed.
        while !is_answered(&mut TcpStream::connect(port.addr).await.unwrap()).await {}
    }

    #[tokio::test]
    async fn a_drain_closes_idle_connections_and_ends() {
        let port = Port::open(10).await;
        let idle = port.used().await;
        port.readiness.advance(Stage::Draining);
        assert!(closed(idle).await);
        port.run.await.unwrap();
        assert!(TcpStream::connect(port.addr).await.is_err());
    }
}
