//! Where measurements run, and what they read the time from.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;

/// Worker threads of every runtime here: as many as the machine for which the targets were set has cores.
const WORKERS: usize = 2;

/// Far more than any measurement takes. One that waits for an event that never comes ends here.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs `work` on a new runtime with two workers. It is a task like all others: the thread that calls only waits, so that
/// nobody has a third one.
///
/// # Errors
/// Those of `work`, and that it does not come to its end.
pub fn run<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime
        .block_on(runtime.spawn(async { timeout(DEADLINE, work).await }))
        .context("the measurement panicked")?
        .context("the measurement waits for something that does not come")?
}

/// The time now.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub fn now() -> Instant {
    Instant::now()
}
