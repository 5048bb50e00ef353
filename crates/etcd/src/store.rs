//! Directives that come from a key of etcd.

mod builder;
mod run;

use std::sync::Arc;

use tidewatch_core::Clock;
use tidewatch_directives::{DirectiveStore, Handle};
use tokio::task::JoinHandle;

pub use crate::start::DEFAULT_START_BUDGET;
pub use builder::EtcdDirectiveStoreBuilder;

use crate::error::Error;

/// The set of directives under one key of etcd, as it is there now.
///
/// ```no_run
/// use std::time::Duration;
///
/// use tidewatch_directives::{DirectiveStore, Level, Subject};
/// use tidewatch_etcd::EtcdDirectiveStore;
///
/// # async fn example(endpoints: Vec<String>, path: std::path::PathBuf, request_id: &str) -> Result<(), tidewatch_etcd::Error> {
/// let store = EtcdDirectiveStore::builder(endpoints, "/directives").last_good(path).connect().await?;
/// let mut reader = store.reader();
/// if reader.load().level(&Subject::new().component("http"), request_id) >= Level::Debug { /* … */ }
/// # Ok(())
/// # }
/// ```
///
/// # Recovery
/// It reads the key and watches it from the revision after that, and goes on until it is dropped: after a cut from the
/// last event, with another member if there is one; where history is gone or is another one, by reading the key anew. A key
/// that was deleted meanwhile is found to be gone. While etcd is away the last set stays in force, each directive until its
/// time is over, and [`status`](DirectiveStore::status) says since when and why. A value that is malformed or too large changes
/// nothing but the status, which tells the reason.
///
/// # What it costs
/// One connection, one task and one watch in etcd. When nothing happens, a question every
/// [`PROBE_INTERVAL`](crate::machine::timing::PROBE_INTERVAL).
///
/// Dropping it ends all three; handles and readers keep the last set.
#[derive(Debug)]
pub struct EtcdDirectiveStore {
    handle: Handle,
    task: JoinHandle<()>,
}

impl EtcdDirectiveStore {
    /// A store that is being set up, for the key at these endpoints, which are written like `127.0.0.1:2379`,
    /// `http://etcd-1:2379` or `https://etcd-1:2379`.
    pub fn builder(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        key: impl Into<String>,
    ) -> EtcdDirectiveStoreBuilder {
        EtcdDirectiveStoreBuilder::new(endpoints, key)
    }

    /// The short form: without TLS, a user, or a file.
    ///
    /// # Errors
    /// As [`EtcdDirectiveStoreBuilder::connect`].
    pub async fn connect(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        key: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::builder(endpoints, key).clock(clock).connect().await
    }
}

impl DirectiveStore for EtcdDirectiveStore {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for EtcdDirectiveStore {
    fn drop(&mut self) {
        // With the task go the stream of the watch and the connection.
        self.task.abort();
    }
}
