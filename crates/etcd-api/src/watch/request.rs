//! What a watch is asked for, from etcd's message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::Revision;
use tidewatch_core::watch::{Start, View, WatchRequest};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_create_request::FilterType;

use crate::error;
use crate::kv::requested_range;

/// What etcd says to a range that holds nothing, and to an id that is in use.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// The smallest key there can be; what no key means.
const FIRST_KEY: &[u8] = b"\0";

/// The watch that is asked for, or why there will be none.
pub(super) fn watch(
    message: pb::WatchCreateRequest,
    progress_interval: Duration,
    label: Option<Arc<str>>,
) -> Result<WatchRequest, String> {
    let start = match u64::try_from(message.start_revision) {
        Ok(0) => Start::Now,
        Ok(revision) => Start::At(Revision(revision)),
        // There was no revision before the first.
        Err(_) => return Err(error::COMPACTED.text.into()),
    };
    let key = if message.key.is_empty() {
        Bytes::from_static(FIRST_KEY)
    } else {
        message.key
    };
    let end = message.range_end;
    if !end.is_empty() && end != FIRST_KEY && key >= end {
        return Err(EMPTY_RANGE.into());
    }
    let range = requested_range(key, end).map_err(|status| status.message().to_owned())?;
    let filters = |filter: FilterType| message.filters.contains(&filter.into());
    Ok(WatchRequest {
        start,
        view: View {
            prev_kv: message.prev_kv,
            keys_only: false,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
        },
        progress_interval: message.progress_notify.then_some(progress_interval),
        coalesce: true,
        label,
        ..WatchRequest::new([range])
    })
}
