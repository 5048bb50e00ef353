//! Asking allocates nothing. A program of its own, because its allocator counts for all of it.

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidewatch_core::SystemClock;
use tidewatch_directives::{DirectiveStore, Level, MemoryDirectiveStore, Subject};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn asking_allocates_nothing() {
    let store = MemoryDirectiveStore::new(Arc::new(SystemClock));
    let directives: Vec<_> = (0..100)
        .map(|n| {
            serde_json::json!({
                "id": format!("d{n}"), "level": "debug", "match": {"component": format!("c{}", n % 10), "host": "h1"},
                "flags": ["dump"], "sample_per_mille": 999, "ttl_secs": 600,
            })
        })
        .collect();
    store
        .publish(
            serde_json::json!({ "directives": directives })
                .to_string()
                .as_bytes(),
        )
        .unwrap();
    let mut reader = store.reader();
    let ask = |reader: &mut tidewatch_directives::Reader| {
        let snapshot = reader.load();
        let subject = Subject::new().component("c7").host("h1").principal("alice");
        let mut seen = 0;
        for id in ["request-1", "request-2", ""] {
            seen += usize::from(snapshot.level(&subject, id) == Level::Debug);
            seen += usize::from(snapshot.flag(&subject, id, "dump"));
            seen += snapshot.applying(&subject, id.as_bytes()).count();
        }
        seen + snapshot.live().count()
    };
    assert_eq!(ask(&mut reader), 3 + 3 + 30 + 100);

    // The allocator sees: what is counted here is counted.
    let region = Region::new(ALLOCATOR);
    drop(black_box(vec![1_u8; 100]));
    assert!(region.change().allocations > 0);

    // Threads of the test runner may allocate now and then; what asking did would show every time.
    let quiet = (0..100).any(|_| {
        let region = Region::new(ALLOCATOR);
        let found = black_box(ask(&mut reader));
        let change = region.change();
        assert_eq!(found, 136);
        change.allocations + change.reallocations == 0
    });
    assert!(quiet, "each of a hundred rounds of asking allocated");
}
