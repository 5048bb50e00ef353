//! The watchers of a keyspace, for operators.

use std::sync::Arc;
use std::time::SystemTime;

use prost::Message as _;
use tidewatch_core::txn::Header;
use tidewatch_core::watch::{WatchId, WatchRegistry};
use tidewatch_core::{Error, Keyspace};
use tidewatch_proto::error::not_found;
use tidewatch_proto::{v1, watcher};
use tonic::Status;

use super::status;
use crate::connection::peer_of;

/// The most watchers on a page, and about how many bytes: an answer that every client accepts, however
/// long the keys are.
const MAX_PAGE: usize = 1000;
const MAX_PAGE_BYTES: usize = 1 << 20;

/// The watchers after an id.
pub(super) async fn page(
    keyspace: &Keyspace,
    request: &v1::ListWatchersRequest,
    now: SystemTime,
) -> Result<v1::ListWatchersResponse, Status> {
    let header = header(keyspace).await?;
    let registry = registry(keyspace)?;
    let after = WatchId(request.after_id);
    let limit = match request.limit as usize {
        0 => MAX_PAGE,
        limit => limit.min(MAX_PAGE),
    };
    // They are looked for among all, which takes a while where those are many. One more tells whether
    // there are more.
    let looked = tokio::task::spawn_blocking(move || registry.watchers_after(after, limit + 1));
    let infos = looked
        .await
        .map_err(|error| status(Error::Unavailable(Arc::new(error))))?;
    let (mut watchers, mut bytes) = (Vec::new(), 0);
    for info in infos.iter().take(limit) {
        let (peer, connection) = peer_of(info.label.as_deref().unwrap_or_default());
        let watcher = v1::Watcher {
            peer: peer.to_owned(),
            connection,
            ..watcher(info, now)
        };
        bytes += watcher.encoded_len();
        if bytes > MAX_PAGE_BYTES && !watchers.is_empty() {
            break;
        }
        watchers.push(watcher);
    }
    Ok(v1::ListWatchersResponse {
        header: Some(header.into()),
        more: watchers.len() < infos.len(),
        watchers,
    })
}

/// Ends a watch.
pub(super) async fn cancel(
    keyspace: &Keyspace,
    request: &v1::CancelWatcherRequest,
) -> Result<v1::CancelWatcherResponse, Status> {
    let header = header(keyspace).await?;
    let id = WatchId(request.id);
    if !registry(keyspace)?.cancel(id) {
        return Err(not_found("watcher", format_args!("there is no watcher {id}")));
    }
    tracing::info!(watcher = id.0, "watch canceled by an operator");
    Ok(v1::CancelWatcherResponse {
        header: Some(header.into()),
    })
}

fn registry(keyspace: &Keyspace) -> Result<Arc<WatchRegistry>, Status> {
    keyspace.backend().watch_registry().ok_or_else(|| {
        status(Error::Unsupported {
            what: "a look at the watchers of a keyspace that is served elsewhere".to_owned(),
        })
    })
}

async fn header(keyspace: &Keyspace) -> Result<Header, Status> {
    let now = keyspace.status().await.map_err(status)?;
    Ok(Header {
        keyspace: now.keyspace,
        revision: now.revision,
    })
}
