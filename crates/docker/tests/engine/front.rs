//! What stands in front of a scripted engine: a port, with or without TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// A port of the loopback interface. It lives as long as this.
pub(crate) struct Front {
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    listener: JoinHandle<()>,
}

impl Front {
    /// Hands every connection, once `wrap` has made a stream of it, on to the socket.
    pub(crate) async fn start<S, F>(
        socket: PathBuf,
        wrap: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let wrapped = wrap(stream);
                let socket = socket.clone();
                tokio::spawn(async move {
                    let Some(mut wrapped) = wrapped.await else { return };
                    let mut engine = UnixStream::connect(socket).await.unwrap();
                    copy_bidirectional(&mut wrapped, &mut engine).await.ok();
                });
            }
        });
        Self {
            port,
            accepted,
            listener,
        }
    }

    /// In the clear.
    pub(crate) async fn plain(socket: PathBuf) -> Self {
        Self::start(socket, |stream| async move { Some(stream) }).await
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
