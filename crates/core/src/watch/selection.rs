//! What a watcher has selected, in the one form that equal selections share.

use std::sync::Arc;

use super::run::Entry;
use crate::event::Record;
use crate::key::KeyRange;

/// The ranges of a watch, sorted and without those that others cover: watchers that ask for the same
/// keys in different words share one [`Topic`](super::topic::Topic).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Selection(Arc<[KeyRange]>);

impl Selection {
    pub(super) fn new(mut ranges: Vec<KeyRange>) -> Self {
        ranges.sort();
        ranges.dedup();
        let all = ranges.clone();
        ranges.retain(|range| !all.iter().any(|other| other != range && other.covers(range)));
        Self(ranges.into())
    }

    pub(super) fn ranges(&self) -> &[KeyRange] {
        &self.0
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.0.iter().any(|range| range.contains(key))
    }

    /// The events of a record that are selected; none if there is no such event.
    pub(super) fn entry(&self, record: &Arc<Record>) -> Option<Entry> {
        let matching: Vec<u32> = (0..)
            .zip(&record.events)
            .filter(|(_, event)| self.contains(&event.kv.key))
            .map(|(at, _)| at)
            .collect();
        Entry::new(record, &matching)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{key, prefix, range};

    #[test]
    fn ranges_that_others_cover_are_left_out() {
        let ranges = vec![
            key("/a/b").unwrap(),
            prefix("/a/").unwrap(),
            key("/x").unwrap(),
            range("/x", "/x\0").unwrap(),
            prefix("/a/").unwrap(),
        ];
        let selection = Selection::new(ranges);
        assert_eq!(selection.ranges(), [prefix("/a/").unwrap(), key("/x").unwrap()]);
    }
}
