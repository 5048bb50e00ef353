//! Events as etcd's messages have them, encoded once for all who watch the same keys.

use std::ops::Range;
use std::sync::Arc;

use prost::encoding::message;
use tidewatch_core::watch::{Batch, Batches, EventRef, Prev, WireForm};
use tidewatch_core::{EventKind, KeyValue, Revision};
use tidewatch_proto::mvccpb::{self, event::EventType};

use crate::api::signed;
use crate::kv::entry;

/// The number of `events` in `WatchResponse`.
const EVENTS: u32 = 11;

/// A response whose events take more is cut where the client agreed to that. Less than any client accepts
/// by default (4 MiB), with room for a value of the largest size in it.
pub(super) const MAX_FRAGMENT_BYTES: usize = 1 << 20;

/// The form: the `events` of a response, one after the other.
pub(super) struct EtcdEvents;

impl WireForm for EtcdEvents {
    type Encoded = Encoded;

    fn encode(batches: &Batches) -> Encoded {
        let mut encoded = Encoded::default();
        batches.iter().for_each(|batch| encoded.push(&batch));
        encoded
    }
}

/// Encoded events.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    count: usize,
    /// Where each event ends.
    ends: Vec<usize>,
}

/// Some consecutive events; by default none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    of: Option<Arc<Encoded>>,
    range: Range<usize>,
    pub(super) count: usize,
}

impl Encoded {
    /// Adds the events of a batch.
    pub(super) fn push(&mut self, batch: &Batch) {
        for event in batch {
            message::encode(EVENTS, &change(event), &mut self.bytes);
            self.ends.push(self.bytes.len());
            self.count += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What of some batches is up to a revision, and the rest. Encoded for one watch alone.
    pub(super) fn split(batches: &Batches, at: Revision) -> (Self, Self) {
        let (mut within, mut ahead) = (Self::default(), Self::default());
        for batch in batches.iter() {
            let part = if batch.revision() <= at {
                &mut within
            } else {
                &mut ahead
            };
            part.push(&batch);
        }
        (within, ahead)
    }
}

/// The events as one piece; or, if they may be cut, as pieces of at most `max` bytes, of which each has
/// one event at least.
pub(super) fn pieces(events: Arc<Encoded>, max: Option<usize>) -> Vec<Piece> {
    let whole = events.bytes.len();
    let Some(max) = max.filter(|max| whole > *max) else {
        let (range, count) = (0..whole, events.count);
        return vec![Piece {
            of: Some(events),
            range,
            count,
        }];
    };
    let mut pieces = Vec::new();
    let (mut start, mut end, mut count) = (0, 0, 0);
    for next in events.ends.iter().copied().chain([usize::MAX]) {
        if count > 0 && next.saturating_sub(start) > max {
            pieces.push(Piece {
                of: Some(Arc::clone(&events)),
                range: start..end,
                count,
            });
            (start, count) = (end, 0);
        }
        (end, count) = (next, count + 1);
    }
    pieces
}

fn change(event: EventRef<'_>) -> mvccpb::Event {
    let kind = match event.kind() {
        EventKind::Put => EventType::Put,
        EventKind::Delete => EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(mvccpb::KeyValue {
            key: event.key().clone(),
            create_revision: signed(event.create_revision().0),
            mod_revision: signed(event.mod_revision().0),
            version: signed(event.version()),
            value: event.value().clone(),
            lease: event.lease().map_or(0, |lease| lease.0),
        }),
        prev_kv: match event.prev() {
            Prev::NotRequested | Prev::Absent => None,
            Prev::Entry(prev) => Some(entry(KeyValue::clone(prev))),
        },
    }
}

/// What a piece holds, for those who copy it out.
impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.of.as_ref().map_or(&[][..], |events| &events.bytes);
        &bytes[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use tidewatch_core::Event;
    use tidewatch_core::watch::View;
    use tidewatch_proto::etcdserverpb as pb;

    use super::*;

    fn put(key: &'static str, len: usize) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: Bytes::from(vec![b'x'; len]),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            lease: None,
        };
        Event::put(kv, None)
    }

    fn encoded(events: Vec<Event>) -> Arc<Encoded> {
        let batch = Batch::events(Revision(3), None, events, View::default(), false);
        let mut encoded = Encoded::default();
        encoded.push(&batch);
        Arc::new(encoded)
    }

    fn decoded(piece: &Piece) -> Vec<Bytes> {
        let response = pb::WatchResponse::decode(piece.as_ref()).unwrap();
        assert_eq!(response.events.len(), piece.count);
        let key = |event: mvccpb::Event| event.kv.unwrap().key;
        response.events.into_iter().map(key).collect()
    }

    #[test]
    fn what_is_appended_to_a_response_are_its_events() {
        let all = pieces(encoded(vec![put("/a", 1), put("/b", 1)]), None);
        assert_eq!(all.len(), 1);
        assert_eq!(decoded(&all[0]), ["/a", "/b"]);
    }

    #[test]
    fn pieces_hold_what_fits_and_one_event_at_least() {
        let events = vec![put("/a", 10), put("/b", 10), put("/c", 500), put("/d", 10)];
        let pieces = pieces(encoded(events), Some(100));
        let keys: Vec<_> = pieces.iter().map(decoded).collect();
        assert_eq!(keys, [vec!["/a", "/b"], vec!["/c"], vec!["/d"]]);
    }
}
