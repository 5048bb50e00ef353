//! The part of etcd that is a keyspace: all keys with a prefix, which nobody outside sees.

use bytes::{BufMut, Bytes, BytesMut};
use tidewatch_core::key::RangeEnd;
use tidewatch_core::txn::{Compare, Op, OpResponse, RangeRequest, RangeResponse, Txn};
use tidewatch_core::{Event, KeyRange, KeyValue};

use crate::error::Error;

/// The longest prefix, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 1024;

/// How long the keys of a keyspace may be, and one more: nothing that is written through us comes behind so many of the last byte.
const BEHIND_ALL: usize = tidewatch_core::limits::MAX_KEY_BYTES;

/// What comes behind them in the name of the marker.
const MARKER_NAME: &[u8] = b"tidewatch";

/// A prefix, or none.
///
/// The keyspace's marker is at an end of it, so that no range that is asked for ever has to be split around it: at the prefix
/// itself, which is the key without a name; without a prefix behind every key that a keyspace can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    prefix: Bytes,
    has_marker: bool,
}

impl Namespace {
    /// Checks a prefix.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn new(prefix: impl Into<Bytes>) -> Result<Self, Error> {
        let prefix = prefix.into();
        let invalid = |reason: String| {
            Err(Error::Config {
                what: "namespace",
                reason,
            })
        };
        if prefix.len() > MAX_NAMESPACE_BYTES {
            return invalid(format!(
                "it has {} bytes, at most {MAX_NAMESPACE_BYTES} are allowed",
                prefix.len()
            ));
        }
        if !prefix.is_empty() && prefix.iter().all(|&byte| byte == u8::MAX) {
            return invalid("no key comes after it; give it another byte than the last there is".into());
        }
        Ok(Self {
            prefix,
            has_marker: true,
        })
    }

    /// The same where the other side is a keyspace already and needs no marker.
    pub(crate) fn without_marker(self) -> Self {
        Self {
            has_marker: !self.prefix.is_empty(),
            ..self
        }
    }

    /// Whether it is all of etcd.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefix.is_empty()
    }

    pub(crate) fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// The prefix, for people.
    pub(crate) fn shown(&self) -> String {
        self.prefix.escape_ascii().to_string()
    }

    /// Every key of it, the marker too.
    pub(crate) fn all(&self) -> KeyRange {
        KeyRange::starting_with(self.prefix.clone())
    }

    /// Whether there is a marker.
    pub(crate) fn has_marker(&self) -> bool {
        self.has_marker
    }

    /// The key of the marker.
    pub(crate) fn marker(&self) -> Bytes {
        if self.prefix.is_empty() {
            let mut key = vec![u8::MAX; BEHIND_ALL];
            key.extend_from_slice(MARKER_NAME);
            key.into()
        } else {
            self.prefix.clone()
        }
    }

    /// Whether this key of etcd is the marker's.
    pub(crate) fn is_marker(&self, key: &[u8]) -> bool {
        if self.prefix.is_empty() {
            key.len() == BEHIND_ALL + MARKER_NAME.len() && *key == self.marker()[..]
        } else {
            *key == self.prefix[..]
        }
    }

    /// The namespaces that this one lies inside of, if there are such.
    pub(crate) fn around(&self) -> impl Iterator<Item = Self> {
        (0..self.prefix.len()).map(|end| Self {
            prefix: self.prefix.slice(..end),
            has_marker: true,
        })
    }

    /// etcd's name of a key.
    pub(crate) fn key(&self, key: &Bytes) -> Bytes {
        if self.prefix.is_empty() {
            return key.clone();
        }
        let mut full = BytesMut::with_capacity(self.prefix.len() + key.len());
        full.put_slice(&self.prefix);
        full.put_slice(key);
        full.freeze()
    }

    /// The key of etcd's name; none for the marker's, and those of others.
    pub(crate) fn local(&self, key: &Bytes) -> Option<Bytes> {
        if !key.starts_with(&self.prefix) || self.is_marker(key) {
            return None;
        }
        Some(key.slice(self.prefix.len()..))
    }

    /// etcd's range of a range, without the marker.
    pub(crate) fn range(&self, range: &KeyRange) -> KeyRange {
        let start = match range.start() {
            // No key has the empty name, and to etcd the one after it is the first.
            start if start.is_empty() => self.key(&Bytes::from_static(b"\0")),
            start => self.key(start),
        };
        let end = match range.end() {
            RangeEnd::Single => RangeEnd::Single,
            RangeEnd::Before(end) => RangeEnd::Before(self.key(end)),
            RangeEnd::Unbounded if self.prefix.is_empty() && self.has_marker => {
                RangeEnd::Before(self.marker())
            }
            RangeEnd::Unbounded => self.all().end().clone(),
        };
        KeyRange::unchecked(start, end)
    }

    pub(crate) fn request(&self, request: &RangeRequest) -> RangeRequest {
        RangeRequest {
            range: self.range(&request.range),
            ..request.clone()
        }
    }

    pub(crate) fn txn(&self, txn: &Txn) -> Txn {
        let compare = |compare: &Compare| Compare {
            range: self.range(&compare.range),
            ..compare.clone()
        };
        Txn {
            compares: txn.compares.iter().map(compare).collect(),
            then: txn.then.iter().map(|op| self.op(op)).collect(),
            otherwise: txn.otherwise.iter().map(|op| self.op(op)).collect(),
        }
    }

    fn op(&self, op: &Op) -> Op {
        let mut op = op.clone();
        match &mut op {
            Op::Put(put) => put.key = self.key(&put.key),
            Op::Delete(delete) => delete.range = self.range(&delete.range),
            Op::Range(request) => request.range = self.range(&request.range),
            Op::Txn(txn) => *txn = self.txn(txn),
        }
        op
    }

    /// An entry by the name it has here; none for what is not of this keyspace.
    pub(crate) fn entry(&self, kv: KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.local(&kv.key)?,
            ..kv
        })
    }

    pub(crate) fn event(&self, event: Event) -> Option<Event> {
        Some(Event {
            kind: event.kind,
            kv: self.entry(event.kv)?,
            prev: event.prev.and_then(|prev| self.entry(prev)),
        })
    }

    pub(crate) fn ranged(&self, response: RangeResponse) -> RangeResponse {
        RangeResponse {
            kvs: self.entries(response.kvs),
            ..response
        }
    }

    pub(crate) fn responses(&self, responses: Vec<OpResponse>) -> Vec<OpResponse> {
        let local = |response| match response {
            OpResponse::Put { prev } => OpResponse::Put {
                prev: prev.and_then(|prev| self.entry(prev)),
            },
            OpResponse::Delete { deleted, prev } => OpResponse::Delete {
                deleted,
                prev: self.entries(prev),
            },
            OpResponse::Range(response) => OpResponse::Range(self.ranged(response)),
            OpResponse::Txn { succeeded, responses } => OpResponse::Txn {
                succeeded,
                responses: self.responses(responses),
            },
        };
        responses.into_iter().map(local).collect()
    }

    fn entries(&self, kvs: Vec<KeyValue>) -> Vec<KeyValue> {
        kvs.into_iter().filter_map(|kv| self.entry(kv)).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_core::key;

    use super::*;

    fn namespace(prefix: &'static str) -> Namespace {
        Namespace::new(prefix).unwrap()
    }

    #[test]
    fn no_range_holds_the_marker() {
        for prefix in ["", "/fleet/", "f"] {
            let namespace = namespace(prefix);
            let marker = namespace.marker();
            assert!(namespace.is_marker(&marker) && namespace.all().contains(&marker));
            assert_eq!(namespace.local(&marker), None);
            for range in [
                KeyRange::all(),
                KeyRange::empty(),
                KeyRange::starting_with("/"),
                KeyRange::starting_with(vec![u8::MAX; 4096]),
                KeyRange::from_key(vec![u8::MAX; 4096]),
                key(vec![u8::MAX; 4096]).unwrap(),
            ] {
                assert!(!namespace.range(&range).contains(&marker), "{prefix}: {range:?}");
            }
        }
    }

    #[test]
    fn a_range_holds_what_it_held_with_the_prefix_before_it() {
        for prefix in ["", "/fleet/", "f"] {
            let namespace = namespace(prefix);
            let keys = ["\0", "\0\0", "/", "/a", "/a/b", "/b", "z"].map(Bytes::from);
            for range in [
                KeyRange::all(),
                KeyRange::empty(),
                KeyRange::starting_with("/"),
                KeyRange::from_key("/a/"),
                tidewatch_core::range("", "/a/b").unwrap(),
                key("/a").unwrap(),
            ] {
                let full = namespace.range(&range);
                for name in &keys {
                    let there = namespace.key(name);
                    assert_eq!(
                        full.contains(&there),
                        range.contains(name),
                        "{prefix} {range:?} {name:?}"
                    );
                    assert_eq!(namespace.local(&there).as_ref(), Some(name));
                }
                assert!(
                    !full.contains(b"e") || prefix.is_empty(),
                    "what is others' stays theirs"
                );
            }
        }
    }

    #[test]
    fn a_prefix_after_which_nothing_comes_is_refused() {
        Namespace::new(vec![u8::MAX, u8::MAX]).unwrap_err();
        Namespace::new(vec![b'a'; MAX_NAMESPACE_BYTES + 1]).unwrap_err();
    }

    #[test]
    fn every_shorter_prefix_is_around() {
        let around: Vec<_> = namespace("/a/").around().map(|outer| outer.shown()).collect();
        assert_eq!(around, ["", "/", "/a"]);
    }
}
