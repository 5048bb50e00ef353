//! What stands between a client and an engine, and fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What goes wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is closed at once.
    Refuse,
    /// It is closed after so many bytes of the answer.
    CutAfter(usize),
    /// Nothing more of the answer comes after so many bytes.
    StallAfter(usize),
    /// In the answer, the one text is replaced by the other, which has as many bytes.
    Replace(&'static str, &'static str),
}

/// A proxy from one unix socket to another. It ends with this.
#[derive(Debug)]
pub struct SocketProxy {
    socket: PathBuf,
    upstream: watch::Sender<Arc<Path>>,
    fault: watch::Sender<Fault>,
    /// Counts up when all connections are to be closed.
    generation: watch::Sender<u64>,
    listener: JoinHandle<()>,
}

impl SocketProxy {
    /// Listens at `socket` for connections to `upstream`. At first nothing goes wrong.
    ///
    /// # Errors
    /// Where it cannot listen there.
    pub fn start(socket: PathBuf, upstream: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let (fault, faults) = watch::channel(Fault::None);
        let (generation, generations) = watch::channel(0);
        let (upstream, upstreams) = watch::channel(Arc::from(upstream));
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = *faults.borrow();
                let upstream = Arc::clone(&upstreams.borrow());
                let mut generations = generations.clone();
                generations.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = forward(client, &upstream, fault) => {}
                        _ = generations.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            socket,
            upstream,
            fault,
            generation,
            listener,
        })
    }

    /// Where it listens, as `DOCKER_HOST` says it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What goes wrong with connections from now on. Those that are open stay as they are.
    ///
    /// # Panics
    /// Where the two texts of a replacement are not equally long.
    pub fn set_fault(&self, fault: Fault) {
        if let Fault::Replace(from, to) = fault {
            assert_eq!(from.len(), to.len(), "the lengths of chunks are not rewritten");
        }
        self.fault.send_replace(fault);
    }

    /// Leads connections to another socket from now on. Those that are open stay as they are.
    pub fn set_upstream(&self, upstream: &Path) {
        self.upstream.send_replace(upstream.into());
    }

    /// Closes every open connection.
    pub fn sever(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Drop for SocketProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.sever();
    }
}

async fn forward(client: UnixStream, upstream: &Path, fault: Fault) -> io::Result<()> {
    if fault == Fault::Refuse {
        return Ok(());
    }
    let engine = UnixStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    tokio::select! {
        // The client closes when it wants no more.
        requests = tokio::io::copy(&mut from_client, &mut to_engine) => requests.map(drop),
        answered = answer(&mut from_engine, &mut to_client, fault) => answered,
    }
}

async fn answer(
    engine: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    fault: Fault,
) -> io::Result<()> {
    let mut passed = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = engine.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut bytes = buffer[..read].to_vec();
        match fault {
            Fault::None | Fault::Refuse => {}
            Fault::CutAfter(limit) if passed + read >= limit => {
                return client.write_all(&bytes[..limit - passed]).await;
            }
            Fault::StallAfter(limit) if passed + read >= limit => {
                client.write_all(&bytes[..limit - passed]).await?;
                return std::future::pending().await;
            }
            Fault::CutAfter(_) | Fault::StallAfter(_) => {}
            Fault::Replace(from, to) => replace(&mut bytes, from.as_bytes(), to.as_bytes()),
        }
        client.write_all(&bytes).await?;
        passed += read;
    }
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
}
