//! Finding the ranges that hold a key.

use bytes::{BufMut, Bytes, BytesMut};
use rb_interval_map::{Interval, IntervalMap};

use crate::key::{KeyRange, RangeEnd};

/// A map from ranges to values that finds the values of all ranges around a key without looking at
/// the others.
#[derive(Debug)]
pub(super) struct RangeIndex<V> {
    map: IntervalMap<Endpoint, V>,
}

/// A place in the order of keys. Ranges are half-open, and may have no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Endpoint {
    Key(Bytes),
    Infinity,
}

impl<V> RangeIndex<V> {
    pub(super) fn new() -> Self {
        Self {
            map: IntervalMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn get_mut(&mut self, range: &KeyRange) -> Option<&mut V> {
        self.map.get_mut(&interval(range))
    }

    pub(super) fn insert(&mut self, range: &KeyRange, value: V) {
        self.map.insert(interval(range), value);
    }

    pub(super) fn remove(&mut self, range: &KeyRange) {
        self.map.remove(&interval(range));
    }

    /// Calls `found` with the value of each range that holds `key`.
    pub(super) fn for_each_around(&self, key: &Bytes, mut found: impl FnMut(&V)) {
        let point = Interval::new(Endpoint::Key(key.clone()), after(key));
        self.map.filter_iter(&point).for_each(|(_, value)| found(value));
    }
}

fn interval(range: &KeyRange) -> Interval<Endpoint> {
    let end = match range.end() {
        RangeEnd::Single => after(range.start()),
        RangeEnd::Before(end) => Endpoint::Key(end.clone()),
        RangeEnd::Unbounded => Endpoint::Infinity,
    };
    Interval::new(Endpoint::Key(range.start().clone()), end)
}

/// The first key after `key`.
fn after(key: &Bytes) -> Endpoint {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    Endpoint::Key(next.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short keys over two bytes, so that ranges touch, nest and coincide often.
    fn keys() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 1..4).prop_map(Bytes::from)
    }

    fn ranges() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            (keys(), keys()).prop_filter_map("inverted", |(a, b)| crate::key::range(a, b).ok()),
            keys().prop_map(KeyRange::from_key),
            keys().prop_map(KeyRange::starting_with),
        ]
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_scan_finds(
            added in proptest::collection::vec(ranges(), 0..24),
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
            key in keys(),
        ) {
            let mut index = RangeIndex::new();
            let mut model = std::collections::BTreeSet::new();
            for range in &added {
                index.insert(range, range.clone());
                model.insert(range.clone());
            }
            for at in removed.iter().filter(|_| !added.is_empty()) {
                let range = at.get(&added);
                index.remove(range);
                model.remove(range);
            }
            let mut found = Vec::new();
            index.for_each_around(&key, |range: &KeyRange| found.push(range.clone()));
            found.sort();
            let expected: Vec<_> = model.into_iter().filter(|range| range.contains(&key)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
