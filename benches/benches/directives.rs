//! What it costs to look at the directives in force, and to ask them: once for every request.
//!
//! `load` through the reader handle beside `arc_swap::Cache` itself, `ArcSwap::load` and `RwLock<Arc>`, alone and while
//! another thread does the same; then the effective level with 1, 10 and 100 directives.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;

use arc_swap::{ArcSwap, Cache};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use serde_json::json;
use tidewatch_core::SystemClock;
use tidewatch_directives::{DirectiveStore, Level, MemoryDirectiveStore, Snapshot, Subject};

fn store(directives: usize) -> MemoryDirectiveStore {
    let store = MemoryDirectiveStore::new(SystemClock::shared());
    let directives: Vec<_> = (0..directives)
        .map(|n| {
            json!({
                "id": format!("d{n}"), "level": "debug", "match": {"host": format!("h{n}"), "component": "http"},
                "ttl_secs": 3600,
            })
        })
        .collect();
    let set = json!({ "directives": directives }).to_string();
    store.publish(set.as_bytes()).expect("the set is right");
    store
}

/// Measures `load` on this thread, alone or while another thread does nothing but the same.
fn alone_and_beside<L: FnMut() + Send>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    loader: impl Fn() -> L,
) {
    group.bench_function(format!("{name}, one thread"), |bench| bench.iter(loader()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop_beside, mut beside) = (&stop, loader());
        scope.spawn(move || {
            while !stop_beside.load(Ordering::Relaxed) {
                beside();
            }
        });
        group.bench_function(format!("{name}, two threads"), |bench| bench.iter(loader()));
        stop.store(true, Ordering::Relaxed);
    });
}

fn load(criterion: &mut Criterion) {
    let store = store(10);
    let swap: Arc<ArcSwap<Snapshot>> = Arc::new(ArcSwap::new(store.load()));
    let lock: Arc<RwLock<Arc<Snapshot>>> = Arc::new(RwLock::new(store.load()));
    let mut group = criterion.benchmark_group("directive_load");
    alone_and_beside(&mut group, "reader handle", || {
        let mut reader = store.reader();
        move || {
            black_box(reader.load());
        }
    });
    alone_and_beside(&mut group, "arc_swap::Cache", || {
        let mut cache = Cache::new(swap.clone());
        move || {
            let snapshot: &Arc<Snapshot> = cache.load();
            black_box(snapshot);
        }
    });
    alone_and_beside(&mut group, "ArcSwap::load", || {
        let swap = swap.clone();
        move || {
            black_box(swap.load());
        }
    });
    alone_and_beside(&mut group, "RwLock<Arc>", || {
        let lock = lock.clone();
        move || {
            black_box(lock.read().expect("nobody panicked").clone());
        }
    });
    group.finish();
}

fn evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("directive_level");
    for directives in [1, 10, 100] {
        let store = store(directives);
        let snapshot = store.load();
        let nobody = Subject::new().component("http").host("another");
        group.bench_function(format!("{directives}, none applies"), |bench| {
            bench.iter(|| snapshot.level(black_box(&nobody), "request-1"));
        });
        let last = format!("h{}", directives - 1);
        let somebody = Subject::new().component("http").host(&last);
        assert_eq!(snapshot.level(&somebody, "request-1"), Level::Debug);
        group.bench_function(format!("{directives}, the last applies"), |bench| {
            bench.iter(|| snapshot.level(black_box(&somebody), "request-1"));
        });
    }
    group.finish();
}

criterion_group!(benches, load, evaluate);
criterion_main!(benches);
