//! The server is killed without warning, over and over, while it is written to and watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::program::eventually;
use crate::server::Server;

const CRASHES: usize = 5;
const WRITERS: usize = 3;
/// Acknowledged writes between two crashes, at least.
const WRITES_BETWEEN: u64 = 10;

/// A write that was acknowledged.
struct Acknowledged {
    key: String,
    value: String,
    revision: u64,
}

#[test]
fn nothing_acknowledged_is_lost_and_a_watch_tells_each_change_once() {
    let mut server = Server::start();
    let watch = server.spawn(&["watch", "/w/", "--output", "json"]);
    watch.next_of_type("created");

    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let endpoint = format!("http://{}", server.address());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (stop, count, endpoint) = (stop.clone(), count.clone(), endpoint.clone());
            thread::spawn(move || write(writer, &endpoint, &stop, &count))
        })
        .collect();

    let mut highest = 0;
    for _ in 0..CRASHES {
        let goal = count.load(Ordering::SeqCst) + WRITES_BETWEEN;
        eventually("more is acknowledged", || count.load(Ordering::SeqCst) >= goal);
        server.crash_and_restart();
        let revision = server.json(&["status"]).line()["revision"].as_u64().unwrap();
        assert!(
            revision >= highest,
            "revisions went back from {highest} to {revision}"
        );
        highest = revision;
    }
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged: Vec<_> = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap())
        .collect();
    acknowledged.sort_by_key(|write| write.revision);
    let last = server.put("/w/end", "");

    // What is stored is the truth: a write that was not acknowledged may have been made as well.
    let stored = server.json(&["ls", "/w/"]).lines();
    for write in &acknowledged {
        let found = stored.iter().find(|entry| entry["key"] == *write.key);
        let found = found.unwrap_or_else(|| panic!("{} was acknowledged and is lost", write.key));
        assert_eq!(found["value"], *write.value);
        assert_eq!(found["mod_revision"], write.revision);
    }

    let mut seen = Vec::new();
    loop {
        let event = watch.next_json();
        if event["type"] == "progress" {
            continue;
        }
        assert_eq!(event["type"], "put", "{event}");
        let revision = event["revision"].as_u64().unwrap();
        seen.push((revision, event["key"].clone(), event["value"].clone()));
        if revision == last {
            break;
        }
    }
    let mut expected: Vec<_> = stored
        .iter()
        .map(|entry| {
            let revision = entry["mod_revision"].as_u64().unwrap();
            (revision, entry["key"].clone(), entry["value"].clone())
        })
        .collect();
    // Every key is written once, so that what is stored and what happened are the same.
    expected.sort_by_key(|entry| entry.0);
    assert_eq!(seen, expected);
}

/// Writes keys, each once, until it is told to stop. What fails is not tried again: it may have been made.
fn write(writer: usize, endpoint: &str, stop: &AtomicBool, count: &AtomicU64) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("/w/{writer}/{number}");
        let value = format!("value {number} of {writer}");
        let mut command = crate::program::tidewatch();
        command.args(["put", &key, &value, "--output", "json", "--endpoint", endpoint]);
        let done = crate::program::run(&mut command);
        if done.code == Some(0) {
            let revision = done.line()["revision"].as_u64().unwrap();
            acknowledged.push(Acknowledged { key, value, revision });
            count.fetch_add(1, Ordering::SeqCst);
        } else {
            assert!(matches!(done.code, Some(1 | 3)), "{done:?}");
        }
    }
    acknowledged
}
