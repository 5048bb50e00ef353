//! The index: every key with the versions that reads at kept revisions need.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use crate::event::{Event, EventKind, KeyValue};
use crate::key::KeyRange;
use crate::lease::LeaseId;
use crate::revision::Revision;

/// An ordered map of keys, readable at each revision it was not compacted beyond.
///
/// Changes are added at a revision after all others, and may be taken back again in reverse
/// order: that is how what is not durable yet can be evaluated, and undone. The index itself does
/// not know what is durable; its readers say at which revision they read.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Versions>,
    live: Totals,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Keys.
    pub(super) keys: u64,
    /// Bytes of keys and values.
    pub(super) bytes: u64,
}

impl Totals {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.keys -= 1;
        self.bytes -= (key.len() + value.len()) as u64;
    }
}

/// The versions of one key. The latest one is kept apart, because nearly every read wants it and
/// most keys have no other.
#[derive(Debug)]
struct Versions {
    latest: Version,
    /// Those before it, ascending.
    older: VecDeque<Version>,
}

/// What a key was from a revision on.
#[expect(clippy::struct_field_names, reason = "the field is named as in `KeyValue`")]
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// Since when.
    pub(super) mod_revision: Revision,
    /// When the key was created.
    pub(super) create_revision: Revision,
    /// How often it was written since; zero: the key was deleted.
    pub(super) version: u64,
    /// Its lease.
    pub(super) lease: Option<LeaseId>,
    /// Its value.
    pub(super) value: Bytes,
}

impl Version {
    fn of(kv: &KeyValue) -> Self {
        Self {
            mod_revision: kv.mod_revision,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            value: kv.value.clone(),
        }
    }

    fn tombstone(revision: Revision) -> Self {
        Self {
            mod_revision: revision,
            create_revision: Revision(0),
            version: 0,
            lease: None,
            value: Bytes::new(),
        }
    }

    fn is_live(&self) -> bool {
        self.version > 0
    }

    /// The entry this is a version of.
    pub(super) fn entry(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

impl Versions {
    /// The version at a revision, unless the key did not exist then.
    fn at(&self, revision: Revision) -> Option<&Version> {
        let found = if self.latest.mod_revision <= revision {
            &self.latest
        } else {
            let after = self.older.partition_point(|v| v.mod_revision <= revision);
            &self.older[after.checked_sub(1)?]
        };
        found.is_live().then_some(found)
    }

    fn push(&mut self, version: Version) {
        debug_assert!(
            version.mod_revision > self.latest.mod_revision,
            "a key changes at most once in a revision"
        );
        self.older.push_back(std::mem::replace(&mut self.latest, version));
    }
}

impl Index {
    /// What there is at the last revision added.
    pub(super) fn totals(&self) -> Totals {
        self.live
    }

    /// The entry of `key` at a revision.
    pub(super) fn get(&self, key: &[u8], revision: Revision) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        Some(versions.at(revision)?.entry(key))
    }

    /// All keys of a range that come after `after`, in order, each with its version at a revision if
    /// it existed then. Those that did not are in it, so that the caller can bound its work.
    pub(super) fn scan<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&[u8]>,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Version>)> + use<'a> {
        let (start, end) = range.bounds();
        let start = match after {
            Some(after) if after >= range.start().as_ref() => Bound::Excluded(after),
            _ => start,
        };
        // A map's `range` panics on bounds that are upside down, which `after` could make them.
        let found = match after {
            Some(after) if after > range.start().as_ref() && !range.contains(after) => None,
            _ => Some(self.keys.range::<[u8], _>((start, end))),
        };
        found
            .into_iter()
            .flatten()
            .map(move |(key, versions)| (key, versions.at(revision)))
    }

    /// The entries of a range at a revision, in order.
    pub(super) fn entries<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&[u8]>,
        revision: Revision,
    ) -> impl Iterator<Item = KeyValue> + use<'a> {
        self.scan(range, after, revision)
            .filter_map(|(key, version)| Some(version?.entry(key)))
    }

    /// Writes a key at a revision after all others.
    pub(super) fn put(
        &mut self,
        revision: Revision,
        key: &Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> Event {
        let fresh = Version {
            mod_revision: revision,
            create_revision: revision,
            version: 1,
            lease,
            value,
        };
        match self.keys.entry(key.clone()) {
            btree_map::Entry::Vacant(slot) => {
                self.live.add(key, &fresh.value);
                let kv = fresh.entry(slot.key());
                slot.insert(Versions {
                    latest: fresh,
                    older: VecDeque::new(),
                });
                Event::put(kv, None)
            }
            btree_map::Entry::Occupied(mut slot) => {
                // The index's own copy of the key, so that all entries of it share one.
                let key = slot.key().clone();
                let versions = slot.get_mut();
                let prev = versions.latest.is_live().then(|| versions.latest.entry(&key));
                let version = match &prev {
                    Some(prev) => Version {
                        create_revision: prev.create_revision,
                        version: prev.version + 1,
                        ..fresh
                    },
                    None => fresh,
                };
                if let Some(prev) = &prev {
                    self.live.remove(&key, &prev.value);
                }
                self.live.add(&key, &version.value);
                let kv = version.entry(&key);
                versions.push(version);
                Event::put(kv, prev)
            }
        }
    }

    /// Deletes a key at a revision after all others. None: there was no such key.
    pub(super) fn delete(&mut self, revision: Revision, key: &Bytes) -> Option<Event> {
        let versions = self.keys.get_mut(key)?;
        if !versions.latest.is_live() {
            return None;
        }
        let prev = versions.latest.entry(key);
        self.live.remove(key, &prev.value);
        versions.push(Version::tombstone(revision));
        Some(Event::delete(revision, prev))
    }

    /// Takes back the last change.
    pub(super) fn undo(&mut self, event: &Event) {
        let key = &event.kv.key;
        let btree_map::Entry::Occupied(mut slot) = self.keys.entry(key.clone()) else {
            debug_assert!(false, "only what was done is undone");
            return;
        };
        debug_assert_eq!(slot.get().latest.mod_revision, event.kv.mod_revision);
        match slot.get_mut().older.pop_back() {
            Some(before) => slot.get_mut().latest = before,
            None => {
                slot.remove();
            }
        }
        if event.kind == EventKind::Put {
            self.live.remove(key, &event.kv.value);
        }
        if let Some(prev) = &event.prev {
            self.live.add(key, &prev.value);
        }
    }

    /// Whether the last change of `key` was at this revision.
    pub(super) fn changed_at(&self, key: &[u8], revision: Revision) -> bool {
        self.keys
            .get(key)
            .is_some_and(|versions| versions.latest.mod_revision == revision)
    }

    /// Adds an entry as a journal remembers it, and returns the one before it.
    pub(super) fn restore(&mut self, kv: &KeyValue) -> Option<KeyValue> {
        self.live.add(&kv.key, &kv.value);
        match self.keys.entry(kv.key.clone()) {
            btree_map::Entry::Vacant(slot) => {
                slot.insert(Versions {
                    latest: Version::of(kv),
                    older: VecDeque::new(),
                });
                None
            }
            btree_map::Entry::Occupied(mut slot) => {
                let versions = slot.get_mut();
                let prev = versions.latest.is_live().then(|| versions.latest.entry(&kv.key));
                versions.push(Version::of(kv));
                if let Some(prev) = &prev {
                    self.live.remove(&kv.key, &prev.value);
                }
                prev
            }
        }
    }

    /// Forgets what no read of `key` at `oldest` or later needs. To be called for the keys that were
    /// changed before `oldest`; others have nothing to forget.
    pub(super) fn prune(&mut self, key: &[u8], oldest: Revision) {
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        if versions.latest.mod_revision <= oldest {
            versions.older = VecDeque::new();
            if !versions.latest.is_live() {
                self.keys.remove(key);
            }
            return;
        }
        let after = versions.older.partition_point(|v| v.mod_revision <= oldest);
        // The last one at `oldest` is what a read there sees. If it is a deletion, the read sees as
        // little without it.
        let keep_from = match after.checked_sub(1) {
            Some(at) if versions.older[at].is_live() => at,
            _ => after,
        };
        versions.older.drain(..keep_from);
        if versions.older.is_empty() {
            versions.older = VecDeque::new();
        }
    }

    /// The keys of which anything is kept, and the number of all versions.
    #[cfg(test)]
    fn footprint(&self) -> (usize, usize) {
        let versions = self.keys.values().map(|versions| 1 + versions.older.len());
        (self.keys.len(), versions.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{key, range};

    fn put(index: &mut Index, revision: u64, key: &'static str, value: &'static str) -> Event {
        index.put(Revision(revision), &key.into(), value.into(), None)
    }

    fn delete(index: &mut Index, revision: u64, key: &'static str) -> Option<Event> {
        index.delete(Revision(revision), &key.into())
    }

    fn at(index: &Index, revision: u64) -> Vec<(String, String, u64)> {
        index
            .entries(&KeyRange::all(), None, Revision(revision))
            .map(|kv| {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                (text(&kv.key), text(&kv.value), kv.version)
            })
            .collect()
    }

    fn entries(wanted: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
        wanted
            .iter()
            .map(|&(key, value, version)| (key.into(), value.into(), version))
            .collect()
    }

    #[test]
    fn each_revision_can_be_read_as_it_was() {
        let mut index = Index::default();
        put(&mut index, 2, "/a", "1");
        put(&mut index, 3, "/b", "1");
        put(&mut index, 4, "/a", "2");
        delete(&mut index, 5, "/a").unwrap();
        put(&mut index, 6, "/a", "3");
        assert_eq!(at(&index, 1), []);
        assert_eq!(at(&index, 2), entries(&[("/a", "1", 1)]));
        assert_eq!(at(&index, 4), entries(&[("/a", "2", 2), ("/b", "1", 1)]));
        assert_eq!(at(&index, 5), entries(&[("/b", "1", 1)]));
        assert_eq!(at(&index, 9), entries(&[("/a", "3", 1), ("/b", "1", 1)]));
        let kv = index.get(b"/a", Revision(9)).unwrap();
        assert_eq!(kv.create_revision, Revision(6), "a new life begins at version 1");
    }

    #[test]
    fn an_event_carries_the_entry_before_it() {
        let mut index = Index::default();
        assert_eq!(put(&mut index, 2, "/a", "1").prev, None);
        let prev = put(&mut index, 3, "/a", "2").prev.unwrap();
        assert_eq!((prev.value, prev.mod_revision), ("1".into(), Revision(2)));
        let prev = delete(&mut index, 4, "/a").unwrap().prev.unwrap();
        assert_eq!((prev.value, prev.version), ("2".into(), 2));
        assert_eq!(put(&mut index, 5, "/a", "3").prev, None);
    }

    #[test]
    fn deleting_an_absent_key_is_no_event() {
        let mut index = Index::default();
        assert_eq!(delete(&mut index, 2, "/a"), None);
        put(&mut index, 2, "/a", "1");
        delete(&mut index, 3, "/a").unwrap();
        assert_eq!(delete(&mut index, 4, "/a"), None);
    }

    #[test]
    fn what_is_undone_leaves_no_trace() {
        let mut index = Index::default();
        put(&mut index, 2, "/a", "1");
        let (before, totals, footprint) = (at(&index, 9), index.totals(), index.footprint());
        let done = [
            put(&mut index, 3, "/a", "a longer one"),
            put(&mut index, 3, "/b", "1"),
            delete(&mut index, 4, "/a").unwrap(),
            delete(&mut index, 5, "/b").unwrap(),
            put(&mut index, 6, "/b", "another"),
        ];
        assert_ne!(index.totals(), totals);
        done.iter().rev().for_each(|event| index.undo(event));
        assert_eq!(
            (at(&index, 9), index.totals(), index.footprint()),
            (before, totals, footprint)
        );
    }

    #[test]
    fn totals_count_what_is_live() {
        let mut index = Index::default();
        put(&mut index, 2, "/a", "four");
        put(&mut index, 3, "/a", "one");
        put(&mut index, 4, "/b", "");
        assert_eq!(index.totals(), Totals { keys: 2, bytes: 7 });
        delete(&mut index, 5, "/a").unwrap();
        assert_eq!(index.totals(), Totals { keys: 1, bytes: 2 });
    }

    #[test]
    fn compaction_keeps_what_reads_from_its_revision_on_need() {
        let mut index = Index::default();
        put(&mut index, 2, "/a", "1");
        put(&mut index, 3, "/gone", "1");
        put(&mut index, 4, "/a", "2");
        delete(&mut index, 5, "/gone").unwrap();
        put(&mut index, 6, "/a", "3");
        let wanted: Vec<_> = (5..=6).map(|revision| at(&index, revision)).collect();
        for key in ["/a", "/gone"] {
            index.prune(key.as_bytes(), Revision(5));
        }
        let kept: Vec<_> = (5..=6).map(|revision| at(&index, revision)).collect();
        assert_eq!(kept, wanted);
        assert_eq!(index.footprint(), (1, 2), "/a at 4 and 6; nothing of /gone");
        index.prune(b"/gone", Revision(6));
        index.prune(b"/a", Revision(6));
        assert_eq!(index.footprint(), (1, 1));
    }

    #[test]
    fn a_key_that_came_back_is_absent_in_between_after_a_compaction_too() {
        let mut index = Index::default();
        put(&mut index, 2, "/a", "1");
        delete(&mut index, 3, "/a").unwrap();
        put(&mut index, 5, "/a", "2");
        index.prune(b"/a", Revision(4));
        assert_eq!(at(&index, 4), []);
        assert_eq!(at(&index, 5), entries(&[("/a", "2", 1)]));
    }

    #[test]
    fn a_scan_goes_on_after_a_key_and_never_leaves_its_range() {
        let mut index = Index::default();
        for (revision, key) in (2..).zip(["/a", "/b", "/c", "/d"]) {
            put(&mut index, revision, key, "");
        }
        let scan = |range: KeyRange, after: &'static str| -> Vec<Bytes> {
            index
                .scan(&range, Some(after.as_bytes()), Revision(9))
                .map(|(key, _)| key.clone())
                .collect()
        };
        let middle = || range("/b", "/d").unwrap();
        assert_eq!(scan(middle(), "/b"), ["/c"]);
        assert_eq!(scan(middle(), "/a"), ["/b", "/c"]);
        assert_eq!(scan(middle(), "/c"), [""; 0]);
        assert_eq!(scan(middle(), "/x"), [""; 0]);
        assert_eq!(scan(key("/b").unwrap(), "/b"), [""; 0]);
        assert_eq!(scan(key("/b").unwrap(), "/c"), [""; 0]);
        assert_eq!(scan(KeyRange::all(), "/c"), ["/d"]);
    }
}
