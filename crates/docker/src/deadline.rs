//! No call without an end.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tidewatch_core::Clock;

use crate::lister::ListError;

/// Waits for `future`, but not longer than `limit`. None if it took longer; it is dropped then.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let future = pin!(future);
    tokio::select! {
        biased;
        done = future => Some(done),
        () = clock.sleep(limit) => None,
    }
}

/// The same for a question to Docker.
pub(crate) async fn ask<T>(
    clock: &dyn Clock,
    limit: Duration,
    question: impl Future<Output = Result<T, ListError>>,
) -> Result<T, ListError> {
    within(clock, limit, question)
        .await
        .unwrap_or(Err(ListError::Timeout { after: limit }))
}
