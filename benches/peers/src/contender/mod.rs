//! Systems that hand events on, each made to fit one trait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use anyhow::{Result, bail};
use bytes::Bytes;

mod d_engine;
mod tidewatch;
mod tokio_broadcast;
mod tokio_mpsc;

pub use d_engine::DEngine;
pub use tidewatch::Tidewatch;
pub use tokio_broadcast::TokioBroadcast;
pub use tokio_mpsc::TokioMpsc;

/// Room that peers have for each watcher, and d-engine's queue for events: far more than any bench leaves unread, since
/// peers lose events where room ends, and to be full is not what is measured. (Their channels take memory as they fill.)
pub const ROOM: usize = 16 * 1024;

/// A fan-out under test: one publishes, many receive.
pub trait Fanout: Send + Sync + Sized + 'static {
    /// How it is called in figures.
    const NAME: &'static str;

    /// One who receives.
    type Watcher: Watcher;

    /// Starts an empty one, with the tasks it needs, on the runtime that this runs on.
    fn start() -> Self;

    /// Watches one key, from now on.
    fn watch(&self, key: Bytes) -> impl Future<Output = Result<Self::Watcher>> + Send;

    /// Publishes a write of a key. It is on its way when this returns, and arrives later.
    fn publish(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// One who receives.
pub trait Watcher: Send + 'static {
    /// What one call of [`next`](Self::next) returns: owned, and as long as one likes.
    type Delivery: Send + 'static;

    /// Waits for what comes next, by the call that the system's users make. Safe to cancel.
    ///
    /// # Errors
    /// The watch is over; none of the benches expects that.
    fn next(&mut self) -> impl Future<Output = Result<Self::Delivery>> + Send;

    /// Hands the value of each event in a delivery to `read`.
    fn values(delivery: &Self::Delivery, read: impl FnMut(&[u8]));
}

/// A write, as the bare channels carry it.
#[derive(Debug)]
pub struct Event {
    /// Which key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
}

/// Makes a watcher wait for events without a task of its own, as if one were: what it keeps for that, it keeps.
///
/// # Errors
/// There is something to receive already.
pub fn park(watcher: &mut impl Watcher) -> Result<()> {
    // Out of tokio's budget, a channel would answer that it is pending without remembering who asked.
    let next = pin!(tokio::task::unconstrained(watcher.next()));
    if next.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        bail!("a watcher that should wait has something to receive");
    }
    Ok(())
}
