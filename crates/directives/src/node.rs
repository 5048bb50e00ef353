//! Which node runs what: a key of each node, with the set it has in force.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewatch_core::{Backoff, Clock, Keyspace};

use crate::rfc3339;
use crate::snapshot::Snapshot;
use crate::status::Status;
use crate::store::{Handle, Stopped};

/// Below it is a key for each node.
pub const NODES: &str = "/nodes/";

/// Between attempts to write a report.
const BACKOFF: (std::time::Duration, std::time::Duration) = (
    std::time::Duration::from_millis(500),
    std::time::Duration::from_secs(30),
);

/// The key under which a node says which directives it has in force.
pub fn node_key(node: &str) -> Bytes {
    format!("{NODES}{node}/directives").into()
}

/// What a node says about the directives it has in force. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// When the set it has in force was written; 0 if it has seen none.
    pub revision: u64,
    /// How many directives that set has, those that have ended included.
    pub directives: usize,
    /// Whether it was not confirmed since the node's start.
    pub stale: bool,
    /// The set that was published after it and is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<ReportedRejection>,
    /// Since when that is so.
    pub since: String,
}

/// A set that a node does not have in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRejection {
    /// When it was written.
    pub revision: u64,
    /// The stable name of what is wrong.
    pub reason: String,
    /// The path of the field.
    pub path: String,
}

impl NodeReport {
    fn new(node: &str, snapshot: &Snapshot, status: &Status, clock: &dyn Clock) -> Self {
        let rejected = status.rejected.as_ref().map(|rejected| ReportedRejection {
            revision: rejected.origin.revision.0,
            reason: rejected.rejection.reason().slug().to_owned(),
            path: rejected.rejection.path().to_owned(),
        });
        Self {
            node: node.to_owned(),
            revision: snapshot.origin().map_or(0, |origin| origin.revision.0),
            directives: snapshot.directives().len(),
            stale: snapshot.is_stale(),
            rejected,
            since: rfc3339::format(clock.system_time()),
        }
    }

    /// Whether it says the same, since whenever.
    fn says_as(&self, other: &Self) -> bool {
        Self {
            since: String::new(),
            ..self.clone()
        } == Self {
            since: String::new(),
            ..other.clone()
        }
    }

    /// Whether there is anything to say: before the first publish nobody needs to know.
    fn says_nothing(&self) -> bool {
        self.directives == 0 && self.rejected.is_none()
    }
}

/// Writes what a node has in force under its [key](node_key), whenever that changes, and nothing while it
/// does not, until the store is gone. A node that has never had a directive has no key.
///
/// # Cancel safety
/// May be dropped; the key stays as it is.
pub async fn report(keyspace: Keyspace, node: String, store: Handle, clock: Arc<dyn Clock>) {
    let mut changes = store.changes();
    let (base, max) = BACKOFF;
    let mut backoff = Backoff::new(base, max);
    loop {
        let report = NodeReport::new(&node, &store.load(), &store.status(), &*clock);
        let is_known = !report.stale && store.load().origin().is_some();
        if is_known && let Err(error) = write(&keyspace, &report).await {
            tracing::debug!(error = %error, "the report of directives was not written");
            // Who stops does not wait for a keyspace that takes nothing.
            let mut pause = clock.sleep(backoff.next_delay());
            let mut told = pin!(changes.status_changed());
            let over = poll_fn(|cx| match told.as_mut().poll(cx) {
                Poll::Ready(told) => Poll::Ready(told == Err(Stopped)),
                Poll::Pending => pause.as_mut().poll(cx).map(|()| false),
            });
            if over.await {
                return;
            }
            continue;
        }
        backoff.reset();
        // Every publish and every rejection is a change of the status too.
        if changes.status_changed().await == Err(Stopped) {
            return;
        }
    }
}

async fn write(keyspace: &Keyspace, report: &NodeReport) -> Result<(), tidewatch_core::Error> {
    let key = node_key(&report.node);
    let stored = keyspace.get(key.clone()).await?;
    let told = stored.and_then(|stored| serde_json::from_slice::<NodeReport>(&stored.value).ok());
    let is_told = match &told {
        Some(told) => told.says_as(report),
        None => report.says_nothing(),
    };
    if !is_told {
        let json = serde_json::json!(report).to_string();
        keyspace.put(key, json).await?;
    }
    Ok(())
}
