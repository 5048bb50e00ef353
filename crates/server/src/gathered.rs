//! A socket that sends together what a connection writes in one go.
//!
//! HTTP/2 writes and flushes frame by frame, and a watch's frame is a kilobyte or two: with a thousand watches to serve, half
//! of the server's time would go into the system calls that send them one by one. Here frames are gathered, and sent when they
//! are many or when the connection's task has nothing more to write.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: what the kernel takes in one piece on its way to the peer. Beyond it writers wait for the socket.
const GATHERED_BYTES: usize = 64 << 10;

/// The half that a connection reads from and writes to. Its flush does nothing: whoever polls the connection calls
/// [`Flusher::poll_flush`] afterwards.
pub(crate) struct Gathered<S>(Shared<S>);

/// The half that sends what is left. It belongs to the same task: the lock is never waited for.
pub(crate) struct Flusher<S>(Shared<S>);

type Shared<S> = Arc<Mutex<Socket<S>>>;

struct Socket<S> {
    stream: S,
    /// Holds no memory while it is empty: most connections are idle most of the time.
    gathered: BytesMut,
}

/// Both halves of a socket.
pub(crate) fn gathered<S>(stream: S) -> (Gathered<S>, Flusher<S>) {
    let shared = Arc::new(Mutex::new(Socket {
        stream,
        gathered: BytesMut::new(),
    }));
    (Gathered(shared.clone()), Flusher(shared))
}

impl<S: AsyncWrite + Unpin> Flusher<S> {
    /// Sends what was gathered. Pending: the task is woken when there is room in the socket again.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = lock(&self.0);
        ready!(socket.poll_send(cx))?;
        Pin::new(&mut socket.stream).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= GATHERED_BYTES {
            ready!(self.poll_send(cx))?;
        }
        let before = self.gathered.len();
        if before == 0 {
            self.gathered.reserve(GATHERED_BYTES);
        }
        for buf in bufs {
            let room = GATHERED_BYTES - self.gathered.len();
            self.gathered.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }
}

fn lock<S>(shared: &Shared<S>) -> MutexGuard<'_, Socket<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_gather(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = lock(&self.0);
        ready!(socket.poll_send(cx))?;
        Pin::new(&mut socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_sent_when_the_task_has_nothing_more_to_write() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut writer, flusher) = gathered(ours);
        writer.write_all(b"one, ").await.unwrap();
        writer.flush().await.unwrap();
        writer.write_all(b"two").await.unwrap();
        let mut first = [0; 8];
        let mut nothing = ReadBuf::new(&mut first);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            Pin::new(&mut theirs)
                .poll_read(&mut cx, &mut nothing)
                .is_pending()
        );
        poll_fn(|cx| flusher.poll_flush(cx)).await.unwrap();
        theirs.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"one, two");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_makes_the_writer_wait() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut writer, flusher) = gathered(ours);
        let value = vec![7; GATHERED_BYTES];
        writer.write_all(&value).await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut writer).poll_write(&mut cx, b"more").is_pending());
        assert!(flusher.poll_flush(&mut cx).is_pending());
        let read = async {
            let mut all = vec![0; value.len()];
            theirs.read_exact(&mut all).await.unwrap();
            all
        };
        let (read, sent) = tokio::join!(read, poll_fn(|cx| flusher.poll_flush(cx)));
        sent.unwrap();
        assert_eq!(read, value);
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_is_left_first() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut writer, _flusher) = gathered(ours);
        writer.write_all(b"last words").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last words");
    }
}
