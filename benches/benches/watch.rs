//! The watch plane in process, through the public API: what an event costs, how long it takes, and
//! what a watcher costs that comes and goes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidewatch_core::{Keyspace, Revision, Watch, key, prefix};
use tokio::runtime::Runtime;

const BURST: u64 = 256;
const VALUE: [u8; 128] = [b'v'; 128];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn keyspace(runtime: &Runtime) -> Keyspace {
    let ks = Keyspace::memory();
    runtime.spawn(ks.driver());
    ks
}

async fn watch(ks: &Keyspace, name: impl Into<Bytes>) -> Watch {
    let range = key(name).expect("a key");
    ks.watch(range).start().await.expect("a watch")
}

/// Writes a burst, and has every watcher read every event of it.
async fn burst(ks: &Keyspace, watches: &mut Vec<Watch>) -> Duration {
    let value = Bytes::from_static(&VALUE);
    let last = Revision(ks.status().await.expect("a status").revision.0 + BURST);
    let started = now();
    let readers: Vec<_> = watches
        .drain(..)
        .map(|mut watch| {
            tokio::spawn(async move {
                let mut bytes = 0;
                loop {
                    let batch = watch.next().await.expect("the watch goes on");
                    bytes += batch.iter().map(|event| event.value().len()).sum::<usize>();
                    if batch.revision() == last {
                        return (watch, bytes);
                    }
                }
            })
        })
        .collect();
    for _ in 0..BURST {
        ks.put("/bench", value.clone()).await.expect("a put");
    }
    for reader in readers {
        let (watch, bytes) = reader.await.expect("a reader");
        assert_eq!(bytes as u64, BURST * VALUE.len() as u64);
        watches.push(watch);
    }
    started.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Deliveries per second of bursts of 256 events of 128 B to watchers of one key.
fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout_burst");
    let runtime = runtime();
    for watchers in [1, 100, 1000] {
        let ks = keyspace(&runtime);
        let mut watches: Vec<_> = (0..watchers)
            .map(|_| runtime.block_on(watch(&ks, "/bench")))
            .collect();
        group.throughput(Throughput::Elements(BURST * watchers));
        group.bench_function(BenchmarkId::from_parameter(watchers), |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| runtime.block_on(burst(&ks, &mut watches)))
                    .sum()
            });
        });
    }
    group.finish();
}

/// From the call of `put` to its event in the hands of one reader, one at a time.
fn latency(c: &mut Criterion) {
    let runtime = runtime();
    let ks = keyspace(&runtime);
    let mut watch = runtime.block_on(watch(&ks, "/bench"));
    c.bench_function("put_to_next", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let put = ks.put("/bench", Bytes::from_static(&VALUE));
                let (put, next) = tokio::join!(put, watch.next());
                assert_eq!(put.expect("a put"), next.expect("an event").revision());
            });
        });
    });
}

/// A watcher that comes and goes, beside others of the same key, of the same prefix, and elsewhere.
fn registration(c: &mut Criterion) {
    let mut group = c.benchmark_group("register_and_drop");
    let runtime = runtime();
    for others in [0, 10_000] {
        let ks = keyspace(&runtime);
        let _same: Vec<_> = (0..others)
            .map(|_| runtime.block_on(watch(&ks, "/bench")))
            .collect();
        let _elsewhere: Vec<_> = (0..others)
            .map(|n| runtime.block_on(watch(&ks, format!("/elsewhere/{n}"))))
            .collect();
        group.bench_function(BenchmarkId::new("key", others), |b| {
            b.iter(|| runtime.block_on(watch(&ks, "/bench")));
        });
        group.bench_function(BenchmarkId::new("prefix", others), |b| {
            let range = prefix("/elsewhere/").expect("a prefix");
            b.iter(|| {
                runtime
                    .block_on(ks.watch(range.clone()).start())
                    .expect("a watch")
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4));
    targets = fanout, latency, registration
}
criterion_main!(benches);
