//! What stands between clients and an etcd, and fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy from a free loopback port to another address. It ends with this.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    refuses: watch::Sender<bool>,
    /// Counts up when all open connections are to be closed.
    cuts: watch::Sender<u64>,
    /// Counts up when nothing more is to pass on those that are open.
    freezes: watch::Sender<u64>,
    accepted: Arc<Mutex<Vec<Instant>>>,
    listener: JoinHandle<()>,
}

impl TcpProxy {
    /// Listens for connections to `upstream`.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(upstream: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (refuses, is_refused) = watch::channel(false);
        let (cuts, cut) = watch::channel(0);
        let (freezes, frozen) = watch::channel(0);
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let times = accepted.clone();
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                times.lock().unwrap_or_else(PoisonError::into_inner).push(now());
                if *is_refused.borrow() {
                    continue;
                }
                let (mut cut, mut frozen) = (cut.clone(), frozen.clone());
                cut.mark_unchanged();
                frozen.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(client, upstream, frozen) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            address,
            refuses,
            cuts,
            freezes,
            accepted,
            listener,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every open connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.send_replace(refuses);
    }

    /// Lets nothing more pass on the connections that are open, which stay open: neither side learns of it. New ones are as
    /// ever.
    pub fn freeze(&self) {
        self.freezes.send_modify(|freezes| *freezes += 1);
    }

    /// When connections were made, in order.
    pub fn accepted(&self) -> Vec<Instant> {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn forward(mut client: TcpStream, upstream: SocketAddr, mut frozen: watch::Receiver<u64>) {
    let Ok(mut upstream) = TcpStream::connect(upstream).await else {
        return;
    };
    client.set_nodelay(true).ok();
    upstream.set_nodelay(true).ok();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => return,
        _ = frozen.changed() => {}
    }
    // Both sockets stay open.
    std::future::pending::<()>().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "connections are made on the machine's time"
)]
fn now() -> Instant {
    Instant::now()
}
