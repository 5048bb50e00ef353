//! The driver: a process of its own that watches a server and writes to it, and tells what came of it.
//!
//! **What it does.** It opens 10 connections, and so many watches of one prefix, a stream each, shared out evenly; each stream
//! has a task that decodes every message and reads every value into a checksum. 64 writers, on the same connections, put 128 B
//! each, one put after the other; every writer has a key of its own under the prefix. The driver waits until every stream has
//! had every put, and compares checksums. 64 puts before, unmeasured, fill buffers and windows.
//!
//! **What it tells.** Puts a second: from the first put to the last answer. Deliveries a second: from the first put to the
//! moment when the last stream has had everything. CPU of the server in that time, user and system, as `/proc` tells it, in
//! steps of 10 ms.
//!
//! The same code drives all; what differs is in [`Face`].

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::payload::{self, checksum};
use crate::process;
use crate::two_workers::now;

mod child;
mod etcd;
mod native;
mod nats;

pub use child::{Load, in_a_process};

/// Connections of a driver.
pub const CONNECTIONS: usize = 10;

/// Writers, each of which waits for the answer to a put before the next.
pub const WRITERS: usize = 64;

/// What everybody watches. NATS calls it a subject, and has dots in it.
const PREFIX: &str = "/fanout/";

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// etcd's v3 API, with the crate `etcd-client`: etcd's and ours.
    Etcd,
    /// Our own gRPC API, with the stubs that tonic generates.
    Native,
    /// NATS.
    Nats,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Answered puts a second.
    pub puts: f64,
    /// Deliveries a second.
    pub deliveries: f64,
    /// Nanoseconds of the server's CPU for each delivery.
    pub cpu: f64,
    /// Bytes of the server's memory for each watch, before the first put.
    pub idle_bytes: f64,
}

/// A connection that speaks some protocol.
pub(crate) trait Face: Send + Sync + Sized + 'static {
    type Watch: Watch;

    fn connect(to: SocketAddr) -> impl Future<Output = Result<Self>> + Send;

    /// Starts so many watches of everything. The server knows them when this returns. There may be fewer values than
    /// watches, where a connection has one stream for all.
    fn watch(&self, count: usize) -> impl Future<Output = Result<Vec<Self::Watch>>> + Send;

    /// Puts, and waits for the answer.
    fn put(&self, key: &str, value: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// Where deliveries come from.
pub(crate) trait Watch: Send + 'static {
    /// Waits for some, and hands each value to `read`.
    fn next(&mut self, read: impl FnMut(&[u8]) + Send) -> impl Future<Output = Result<()>> + Send;
}

/// Drives the server of a process.
///
/// # Errors
/// The server refuses something, or delivers something else than was put.
pub async fn drive(protocol: Protocol, to: SocketAddr, pid: u32, load: Load) -> Result<Outcome> {
    match protocol {
        Protocol::Etcd => with::<etcd::Etcd>(to, pid, load).await,
        Protocol::Native => with::<native::Native>(to, pid, load).await,
        Protocol::Nats => with::<nats::Nats>(to, pid, load).await,
    }
}

async fn with<F: Face>(to: SocketAddr, pid: u32, load: Load) -> Result<Outcome> {
    let memory = process::memory(pid)?;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Arc::new(F::connect(to).await?));
    }
    let mut watches = Vec::with_capacity(load.watches);
    for (number, connection) in connections.iter().enumerate() {
        watches.extend(connection.watch((load.watches + number) / CONNECTIONS).await?);
    }
    let mut outcome = Outcome {
        idle_bytes: (process::memory(pid)? - memory) / load.watches.max(1) as f64,
        ..Outcome::default()
    };
    if load.puts > 0 {
        let mut crowd = Crowd::gather(watches, load.watches);
        crowd.drive(&connections, WRITERS).await?;
        let (before, started) = (process::cpu(pid)?, now());
        let put = crowd.drive(&connections, load.puts).await?;
        let (took, cpu) = (started.elapsed(), process::cpu(pid)?.saturating_sub(before));
        let deliveries = (load.puts * load.watches) as f64;
        outcome.puts = load.puts as f64 / put.as_secs_f64();
        outcome.deliveries = deliveries / took.as_secs_f64();
        outcome.cpu = cpu.as_nanos() as f64 / deliveries.max(1.0);
    }
    Ok(outcome)
}

/// Those who read.
struct Crowd {
    readers: JoinSet<anyhow::Error>,
    received: Arc<Received>,
    watches: usize,
}

/// What all of them together have read so far.
#[derive(Default)]
struct Received {
    deliveries: AtomicU64,
    checksum: AtomicU64,
    expected: AtomicU64,
    complete: Notify,
}

impl Crowd {
    fn gather(streams: Vec<impl Watch>, watches: usize) -> Self {
        let received = Arc::<Received>::default();
        let mut readers = JoinSet::new();
        for stream in streams {
            let received = Arc::clone(&received);
            readers.spawn(async move {
                let Err(ended) = read(stream, &received).await;
                ended
            });
        }
        Self {
            readers,
            received,
            watches,
        }
    }

    /// Puts, and waits until everybody has everything. Returns how long the puts took.
    async fn drive<F: Face>(&mut self, connections: &[Arc<F>], puts: usize) -> Result<Duration> {
        let received = Arc::clone(&self.received);
        let deliveries = (puts * self.watches) as u64;
        let expected = received.expected.fetch_add(deliveries, Ordering::AcqRel) + deliveries;
        let checksum = received.checksum.load(Ordering::Acquire);
        let all = async {
            let put = write(connections, puts).await?;
            while received.deliveries.load(Ordering::Acquire) < expected {
                received.complete.notified().await;
            }
            Ok::<_, anyhow::Error>(put)
        };
        let put = tokio::select! {
            put = all => put?,
            Some(ended) = self.readers.join_next() => return Err(ended.context("a reader panicked")?),
        };
        let sum = (0..puts as u64).map(|number| self::checksum(&payload::numbered(number)));
        let sum = sum.fold(0, u64::wrapping_add).wrapping_mul(self.watches as u64);
        let had = received.checksum.load(Ordering::Acquire).wrapping_sub(checksum);
        ensure!(had == sum, "what was delivered is not what was put");
        Ok(put)
    }
}

async fn read(mut stream: impl Watch, received: &Received) -> Result<Infallible> {
    loop {
        let (mut count, mut sum) = (0, 0_u64);
        stream
            .next(|value| {
                count += 1;
                sum = sum.wrapping_add(checksum(value));
            })
            .await?;
        received.checksum.fetch_add(sum, Ordering::AcqRel);
        let before = received.deliveries.fetch_add(count, Ordering::AcqRel);
        if before + count >= received.expected.load(Ordering::Acquire) {
            received.complete.notify_one();
        }
    }
}

/// Puts; every writer its share. Returns how long it took.
async fn write<F: Face>(connections: &[Arc<F>], puts: usize) -> Result<Duration> {
    let mut writers = JoinSet::new();
    let started = now();
    for writer in 0..WRITERS {
        let connection = Arc::clone(&connections[writer % connections.len()]);
        writers.spawn(async move {
            let key = format!("{PREFIX}{writer:02}");
            for number in (writer..puts).step_by(WRITERS) {
                connection.put(&key, payload::numbered(number as u64)).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written.context("a writer panicked")??;
    }
    Ok(started.elapsed())
}
