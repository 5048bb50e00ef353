//! What the keyspace does for a request on a stream of watches.

use std::any::Any;

use tidewatch_core::txn::Header;
use tidewatch_core::watch::{Start, WatchRequest};
use tidewatch_core::{Error, Keyspace};

use super::watcher::NewWatcher;
use crate::error;

/// What was done for a request, and when.
pub(super) enum Done {
    Created(Box<NewWatcher>, Header),
    Refused(String, Header),
    Canceled(i64, Header),
    /// Progress is asked for; this is how far everybody should be.
    Progress(Header),
}

/// Creates a watch, unless the keyspace refuses.
pub(super) async fn create(
    keyspace: Keyspace,
    request: WatchRequest,
    room: Box<dyn Any + Send>,
    id: i64,
    fragment: bool,
) -> Result<Done, Error> {
    let start = request.start;
    let watch = match keyspace.backend().watch(request).await {
        Ok(watch) => watch,
        Err(Error::Closed) => return Err(Error::Closed),
        Err(error) => return Ok(Done::Refused(error::text(&error), current(&keyspace).await?)),
    };
    let boundary = watch.created();
    // Clients that begin now resume from the revision they are told here, so it has to be the boundary.
    let (start, header) = match start {
        Start::At(revision) => (revision, current(&keyspace).await?),
        Start::Now | Start::After(_) => (
            boundary.revision,
            Header {
                keyspace: boundary.keyspace,
                revision: boundary.revision,
            },
        ),
    };
    let new = NewWatcher {
        id,
        start,
        fragment,
        watch,
        room,
    };
    Ok(Done::Created(Box::new(new), header))
}

/// Which keyspace it is, and its revision.
pub(super) async fn current(keyspace: &Keyspace) -> Result<Header, Error> {
    let status = keyspace.status().await?;
    Ok(Header {
        keyspace: status.keyspace,
        revision: status.revision,
    })
}
