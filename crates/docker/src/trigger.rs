//! Asking a reconciler for a full resync.

use std::sync::Arc;

use tokio::sync::Notify;

/// A handle that has a running reconciler list everything again. Clones ask the same one.
#[derive(Clone, Debug, Default)]
pub struct Trigger(Arc<Notify>);

impl Trigger {
    /// Has everything listed and compared, as after a lost connection. Several times before that begins
    /// is once. Asked before the reconciler runs, it counts when it does.
    pub fn resync(&self) {
        self.0.notify_one();
    }

    /// Waits for the next [`resync`](Self::resync).
    pub(crate) async fn asked(&self) {
        self.0.notified().await;
    }
}
