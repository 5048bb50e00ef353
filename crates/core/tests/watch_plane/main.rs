//! The behaviours of the watch plane, one by one: registry, dispatcher and handles over a history
//! that the test writes itself.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod coalescing;
mod dispatching;
mod draining;
mod lagging;
mod limits;
mod operating;
mod overflowing;
mod prefixes;
mod preparing;
mod previous;
mod progress;
mod registering;
mod starting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::check::{self, Observed};
use tidewatch_core::history::SnapshotReader;
use tidewatch_core::watch::{
    OnOverflow, Prev, Start, View, WatchDispatcher, WatchRegistry, WatchRequest, WatcherHandle,
    WatcherOptions,
};
use tidewatch_core::{
    Batch, BatchKind, EndReason, Ended, Error, Event, EventKind, History, KeyRange, KeyValue, KeyspaceId,
    ManualClock, Position, Record, Revision, Watch, WatchSettings, key, prefix, range,
};
use tokio::sync::Semaphore;

const KEYSPACE: KeyspaceId = KeyspaceId(7);

/// A watch plane without a store: the test appends to the history.
struct Plane {
    history: Arc<History>,
    registry: Arc<WatchRegistry>,
    clock: ManualClock,
    entries: BTreeMap<Bytes, KeyValue>,
    dispatcher: Option<tokio::task::JoinHandle<()>>,
}

impl Plane {
    fn new() -> Self {
        Self::with(WatchSettings {
            room: 16,
            max_watchers: 1000,
            ..WatchSettings::default()
        })
    }

    fn with(settings: WatchSettings) -> Self {
        let mut plane = Self::undispatched(settings);
        plane.dispatch();
        plane
    }

    fn undispatched(settings: WatchSettings) -> Self {
        let history = History::new(KEYSPACE, Revision(1), Revision(1));
        let clock = ManualClock::new();
        let registry = WatchRegistry::new(Arc::clone(&history), None, Arc::new(clock.clone()), settings);
        Self {
            history,
            registry,
            clock,
            entries: BTreeMap::new(),
            dispatcher: None,
        }
    }

    fn dispatch(&mut self) {
        self.dispatcher = Some(tokio::spawn(
            WatchDispatcher::new(Arc::clone(&self.registry)).run(),
        ));
    }

    fn put(&mut self, name: &str, value: &str) -> Revision {
        self.commit(&[(name, Some(value))])
    }

    fn delete(&mut self, name: &str) -> Revision {
        self.commit(&[(name, None)])
    }

    fn commit(&mut self, changes: &[(&str, Option<&str>)]) -> Revision {
        let revision = self.history.current().next();
        let events = changes
            .iter()
            .map(|(name, value)| self.event(revision, name, *value))
            .collect();
        self.history.append([Arc::new(Record {
            revision,
            time: None,
            events,
        })]);
        revision
    }

    fn event(&mut self, revision: Revision, name: &str, value: Option<&str>) -> Event {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let prev = self.entries.remove(&name);
        let Some(value) = value else {
            return Event::delete(revision, prev.expect("tests delete what is there"));
        };
        let kv = KeyValue {
            key: name.clone(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: None,
        };
        self.entries.insert(name, kv.clone());
        Event::put(kv, prev)
    }

    /// Waits until all that was committed has been dispatched.
    async fn settled(&self) {
        for _ in 0..10_000 {
            if self.registry.dispatched() == self.history.current() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the dispatcher does not get on: {:?}", self.registry);
    }

    fn exact(&self, name: &str) -> WatcherHandle {
        self.registry
            .register(name.to_owned(), WatcherOptions::default())
            .unwrap()
    }

    fn prefix(&self, name: &str) -> WatcherHandle {
        self.registry
            .register_prefix(name.to_owned(), WatcherOptions::default())
            .unwrap()
    }

    fn cancelling(&self, name: &str, room: usize) -> WatcherHandle {
        let options = WatcherOptions {
            on_overflow: OnOverflow::Cancel,
            room: Some(room),
            ..WatcherOptions::default()
        };
        self.registry.register(name.to_owned(), options).unwrap()
    }
}

fn one(range: KeyRange) -> WatchRequest {
    WatchRequest::new([range])
}

/// What can be had from a watch at once.
async fn drain(watch: &mut WatcherHandle) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(next) = now(watch.next()).await {
        match next {
            Ok(batch) => seen.extend(show(&batch)),
            Err(ended) => {
                seen.push(format!("END {}", ended.reason.name()));
                break;
            }
        }
    }
    seen
}

fn show(batch: &Batch) -> Vec<String> {
    batch
        .iter()
        .map(|event| format!("{}: {event}", batch.revision()))
        .collect()
}

/// The output of a future if it is ready after others had every chance to run.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..64 {
        let ready = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = ready {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn next_batch(watch: &mut Watch) -> Batch {
    now(watch.next())
        .await
        .expect("a batch is there")
        .expect("the watch goes on")
}

async fn end_of(watch: &mut Watch) -> Ended {
    loop {
        if let Err(ended) = now(watch.next()).await.expect("the end is there") {
            return ended;
        }
    }
}
