//! What was written, and what that did.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidewatch_core::check::Truth;
use tidewatch_core::{Event, KeyValue, Record, Revision};

use crate::rig::{Kv, bytes, op_delete, op_put, success};

/// How many keys there are; few, so that they are written again and again.
const KEYS: u64 = 12;

/// Transactions by the revision they were acknowledged at: what each did to which key, in its order.
#[derive(Default)]
pub(super) struct Written(BTreeMap<i64, Vec<(String, Option<String>)>>);

/// Writes at random, one transaction after the other.
pub(super) async fn random(mut kv: Kv, seed: u64, writes: usize) -> Written {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut written = Written::default();
    for n in 0..writes {
        let mut changes: Vec<(String, Option<String>)> = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let key = format!("/k/{}", rng.u64(..KEYS));
            if changes.iter().all(|(other, _)| *other != key) {
                let value = (rng.u8(..4) > 0).then(|| format!("{seed}-{n}"));
                changes.push((key, value));
            }
        }
        let ops = changes.iter().map(|(key, value)| match value {
            Some(value) => op_put(key, value),
            None => op_delete(key, ""),
        });
        let answer = kv.txn(success(ops.collect())).await;
        // Deletions of what is not there do nothing; alone they make no revision.
        let did = changes
            .into_iter()
            .zip(&answer.responses)
            .filter(|(_, response)| {
                use tidewatch_proto::etcdserverpb::response_op::Response;
                !matches!(&response.response, Some(Response::ResponseDeleteRange(it)) if it.deleted == 0)
            });
        let did: Vec<_> = did.map(|(change, _)| change).collect();
        if !did.is_empty() {
            let revision = answer.header.unwrap().revision;
            assert!(
                written.0.insert(revision, did).is_none(),
                "{revision} was given twice"
            );
        }
    }
    written
}

impl Written {
    pub(super) fn merge(&mut self, other: Self) {
        for (revision, did) in other.0 {
            assert!(
                self.0.insert(revision, did).is_none(),
                "{revision} was given twice"
            );
        }
    }

    pub(super) fn last(&self) -> i64 {
        *self.0.keys().next_back().expect("something was written")
    }

    /// The history that this must have made, carried out once more.
    pub(super) fn truth(&self) -> Truth {
        let mut state: BTreeMap<&str, KeyValue> = BTreeMap::new();
        let mut records = Vec::new();
        for (revision, did) in &self.0 {
            let revision = Revision(u64::try_from(*revision).unwrap());
            let events = did.iter().map(|(key, value)| {
                let prev = state.remove(key.as_str());
                let Some(value) = value else {
                    return Event::delete(revision, prev.expect("it was there to be deleted"));
                };
                let kv = KeyValue {
                    key: bytes(key),
                    value: Bytes::copy_from_slice(value.as_bytes()),
                    create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
                    mod_revision: revision,
                    version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                    lease: None,
                };
                state.insert(key, kv.clone());
                Event::put(kv, prev)
            });
            records.push(Arc::new(Record {
                revision,
                time: None,
                events: events.collect(),
            }));
        }
        Truth::new(records)
    }
}
