//! Commits of the durable journal, synced each time, by the size of the group.
//!
//! The directory is a temporary one; set `TMPDIR` to measure another disk. On a tmpfs a sync costs
//! nothing, and the figures mean little.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidewatch_core::journal::{Entry, Journal};
use tidewatch_core::{Event, KeyValue, Record, Revision};
use tidewatch_sqlite::{Options, SqliteJournal, Synchronous};
use tokio::runtime::{Builder, Runtime};

/// Records in a group: as many as there are writers waiting at a time.
const GROUP_SIZES: [u64; 4] = [1, 16, 64, 256];
const VALUE_BYTES: usize = 128;
/// As in a fleet: many rows that are written over and over.
const KEYS: u64 = 10_000;
/// Larger than what is kept when the history is bounded by age on a busy server.
const RECOVERED_RECORDS: u64 = 100_000;

/// Writes of keys in turn.
struct Writer {
    revision: u64,
}

impl Writer {
    fn record(&mut self) -> Entry {
        self.revision += 1;
        let (revision, written) = (self.revision, self.revision - 2);
        let kv = |round: u64| KeyValue {
            key: Bytes::from(format!(
                "/containers/shop/h{}/web-{:06}",
                written % 50,
                written % KEYS
            )),
            value: vec![b'x'; VALUE_BYTES].into(),
            create_revision: Revision(written % KEYS + 2),
            mod_revision: Revision(written % KEYS + 2 + round * KEYS),
            version: round + 1,
            lease: None,
        };
        let round = written / KEYS;
        let prev = (round > 0).then(|| kv(round - 1));
        Entry::Record(Arc::new(Record {
            revision: Revision(revision),
            time: None,
            events: [Event::put(kv(round), prev)].into(),
        }))
    }

    fn group(&mut self, size: u64) -> Vec<Entry> {
        (0..size).map(|_| self.record()).collect()
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers")
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal_commit");
    for (name, synchronous) in [("full", Synchronous::Full), ("normal", Synchronous::Normal)] {
        for size in GROUP_SIZES {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut journal = Options::new()
                .synchronous(synchronous)
                .open(dir.path())
                .expect("a journal");
            let mut writer = Writer { revision: 1 };
            let runtime = runtime();
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_batched(
                    || writer.group(size),
                    |entries| runtime.block_on(journal.commit(entries)).expect("a commit"),
                    criterion::BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn recover(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime();
    let mut journal = SqliteJournal::open(dir.path()).expect("a journal");
    let mut writer = Writer { revision: 1 };
    runtime
        .block_on(journal.commit(writer.group(RECOVERED_RECORDS)))
        .expect("a commit");
    let mut group = criterion.benchmark_group("journal_recover");
    group.sample_size(10);
    group.throughput(Throughput::Elements(RECOVERED_RECORDS));
    group.bench_function(BenchmarkId::from_parameter(RECOVERED_RECORDS), |bencher| {
        bencher.iter(|| black_box(runtime.block_on(journal.recover()).expect("what was committed")));
    });
    group.finish();
}

/// What a commit costs while a compaction removes, a slice after each, what the others left.
fn commit_while_compacting(criterion: &mut Criterion) {
    const SIZE: u64 = 64;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime();
    let mut journal = SqliteJournal::open(dir.path()).expect("a journal");
    let mut writer = Writer { revision: 1 };
    let mut group = criterion.benchmark_group("journal_commit_while_compacting");
    group.throughput(Throughput::Elements(SIZE));
    group.bench_function(BenchmarkId::from_parameter(SIZE), |bencher| {
        bencher.iter_batched(
            || (writer.revision, writer.group(SIZE)),
            |(revision, entries)| {
                if revision % (SIZE * 64) < SIZE {
                    let oldest = Revision(revision.saturating_sub(KEYS).max(1));
                    runtime.block_on(journal.compact(oldest)).expect("a compaction");
                }
                runtime.block_on(journal.commit(entries)).expect("a commit");
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, commit, commit_while_compacting, recover);
criterion_main!(benches);
