//! etcd-client's types and ours.

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbKeyValue};
use etcd_client::{GetOptions, ResponseHeader, WatchOptions, WatchResponse};
use tidewatch_core::key::RangeEnd;
use tidewatch_core::{Event, EventKind, KeyRange, KeyValue, LeaseId, Revision};

use crate::header::Header;
use crate::machine::{CheckRequest, ListRequest, Message, OpenRequest};

pub(super) fn list(request: &ListRequest) -> (Vec<u8>, GetOptions) {
    let start = match &request.after {
        Some(after) => {
            // The first key behind it.
            let mut start = after.to_vec();
            start.push(0);
            start
        }
        None => first(&request.range),
    };
    let mut options = GetOptions::new().with_limit(request.limit.into());
    options = match request.range.end() {
        RangeEnd::Single => options,
        RangeEnd::Before(end) => options.with_range(end.to_vec()),
        RangeEnd::Unbounded => options.with_from_key(),
    };
    if let Some(revision) = request.revision {
        options = options.with_revision(number(revision));
    }
    (start, options)
}

pub(super) fn check(request: &CheckRequest) -> (Vec<u8>, GetOptions) {
    list(&ListRequest {
        range: request.range.clone(),
        after: None,
        revision: request.revision,
        limit: 1,
    })
}

pub(super) fn open(request: &OpenRequest) -> (Vec<u8>, WatchOptions) {
    let mut options = WatchOptions::new()
        .with_start_revision(number(request.from))
        .with_fragment();
    options = match request.range.end() {
        RangeEnd::Single => options,
        RangeEnd::Before(end) => options.with_range(end.to_vec()),
        RangeEnd::Unbounded => options.with_from_key(),
    };
    if request.prev_kv {
        options = options.with_prev_key();
    }
    (first(&request.range), options)
}

/// The first key that may be in a range; to etcd the empty one is none.
pub(super) fn first(range: &KeyRange) -> Vec<u8> {
    match range.start() {
        start if start.is_empty() => vec![0],
        start => start.to_vec(),
    }
}

pub(super) fn header(header: Option<&ResponseHeader>) -> Header {
    header.map_or_else(Header::default, |header| Header {
        cluster: header.cluster_id(),
        member: header.member_id(),
        revision: revision(header.revision()),
        term: header.raft_term(),
    })
}

pub(super) fn entry(kv: etcd_client::KeyValue) -> KeyValue {
    key_value(kv.0)
}

pub(super) fn message(mut response: WatchResponse) -> Message {
    let header = header(response.header());
    let response = &mut response.0;
    Message {
        header,
        created: response.created,
        canceled: response.canceled,
        compact_revision: revision(response.compact_revision),
        reason: std::mem::take(&mut response.cancel_reason),
        fragment: response.fragment,
        events: std::mem::take(&mut response.events)
            .into_iter()
            .filter_map(event)
            .collect(),
    }
}

/// None for what has no key, which etcd does not send.
fn event(event: PbEvent) -> Option<Event> {
    const DELETE: i32 = 1;
    let kind = if event.r#type == DELETE {
        EventKind::Delete
    } else {
        EventKind::Put
    };
    Some(Event {
        kind,
        kv: key_value(event.kv?),
        prev: event.prev_kv.map(key_value),
    })
}

pub(super) fn key_value(kv: PbKeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::from(kv.key),
        value: Bytes::from(kv.value),
        create_revision: revision(kv.create_revision),
        mod_revision: revision(kv.mod_revision),
        version: u64::try_from(kv.version).unwrap_or_default(),
        lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
    }
}

/// etcd's revisions are signed, and never negative.
fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
