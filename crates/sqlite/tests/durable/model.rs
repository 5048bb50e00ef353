//! A history that depends on a seed alone, so that any process can tell what a journal must remember.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidewatch_core::error::Cause;
use tidewatch_core::journal::{Entry, Journal};
use tidewatch_core::{Event, KeyValue, LeaseId, Record, Recovered, Revision};
use tidewatch_sqlite::{Error, SqliteJournal};

/// Few, so that keys are written over, deleted and created again all the time.
const KEYS: u64 = 40;

/// The keyspace after some revision of the history of a seed.
#[derive(Clone)]
pub(crate) struct Model {
    seed: u64,
    pub(crate) revision: Revision,
    state: BTreeMap<Bytes, KeyValue>,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            revision: Revision::INITIAL,
            state: BTreeMap::new(),
        }
    }

    /// The keyspace after `revision`.
    pub(crate) fn at(seed: u64, revision: Revision) -> Self {
        let mut model = Self::new(seed);
        while model.revision < revision {
            model.next();
        }
        model
    }

    /// The next record: up to four keys written or deleted.
    pub(crate) fn next(&mut self) -> Record {
        let revision = self.revision.next();
        let mut random = fastrand::Rng::with_seed(self.seed ^ revision.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut keys: Vec<u64> = (0..random.usize(1..=4)).map(|_| random.u64(0..KEYS)).collect();
        keys.sort_unstable();
        keys.dedup();
        random.shuffle(&mut keys);
        let events = keys
            .iter()
            .map(|key| self.change(revision, *key, &mut random))
            .collect();
        self.revision = revision;
        Record {
            revision,
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(random.u64(..1 << 62))),
            events,
        }
    }

    fn change(&mut self, revision: Revision, key: u64, random: &mut fastrand::Rng) -> Event {
        let key = Bytes::from(format!("/containers/shop/h{}/web-{key}", key % 3));
        let prev = self.state.remove(&key);
        if let Some(prev) = prev.clone().filter(|_| random.u8(..4) == 0) {
            return Event::delete(revision, prev);
        }
        let len = if random.u8(..50) == 0 {
            20_000
        } else {
            random.usize(..300)
        };
        let kv = KeyValue {
            key: key.clone(),
            value: (0..len).map(|_| random.u8(..)).collect(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: random.bool().then(|| LeaseId(random.i64(1..))),
        };
        self.state.insert(key, kv.clone());
        Event::put(kv, prev)
    }

    /// The next `count` records, ready to be committed.
    pub(crate) fn group(&mut self, count: usize) -> Vec<Entry> {
        (0..count).map(|_| Entry::Record(Arc::new(self.next()))).collect()
    }

    /// All entries, in order of their keys.
    pub(crate) fn state(&self) -> Vec<KeyValue> {
        self.state.values().cloned().collect()
    }
}

/// Checks a recovered journal, whatever its window, against the history of the seed.
#[track_caller]
pub(crate) fn assert_recovered(seed: u64, recovered: &Recovered) {
    let mut model = Model::at(seed, recovered.oldest.prev());
    let mut base = recovered.base.clone();
    base.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        base,
        model.state(),
        "the state before revision {}",
        recovered.oldest
    );
    let expected: Vec<Record> = std::iter::from_fn(|| {
        (model.revision < recovered.revision).then(|| {
            let mut record = model.next();
            record.events.iter_mut().for_each(|event| event.prev = None);
            record
        })
    })
    .collect();
    assert_eq!(recovered.records.len(), expected.len());
    for (recovered, expected) in recovered.records.iter().zip(&expected) {
        assert!(recovered == expected, "revision {} is another", expected.revision);
    }
}

/// What a journal in `dir` remembers.
pub(crate) async fn reopen(dir: &Path) -> Recovered {
    let mut journal = SqliteJournal::open(dir).unwrap();
    let mut recovered = journal.recover().await.unwrap();
    // In any order, which a comparison does not want.
    recovered.base.sort_by(|a, b| a.key.cmp(&b.key));
    recovered
}

/// The error of this crate within a journal's.
pub(crate) fn named(cause: &Cause) -> &Error {
    cause.downcast_ref().expect("the journal's errors are its own")
}

/// An error as people get to see it, with what caused it.
pub(crate) fn shown(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
