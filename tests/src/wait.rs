//! Waiting for something to become true.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks until the condition holds, for so long at most; returns whether it came to hold. For what cannot be awaited:
/// files, processes, the state of a program.
pub fn eventually(ceiling: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now() + ceiling;
    loop {
        if condition() {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The same for a condition that is asked for.
pub async fn eventually_async<F: Future<Output = bool>>(
    ceiling: Duration,
    mut condition: impl FnMut() -> F,
) -> bool {
    let deadline = now() + ceiling;
    loop {
        if condition().await {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "processes run on the machine's time")]
fn now() -> Instant {
    Instant::now()
}
