//! Random histories, watchers and readers, judged by the checker of the promises.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use tidewatch_core::check::{self, Observed, Truth};
use tidewatch_core::watch::{
    Delivery, OnOverflow, Start, View, WatchDispatcher, WatchRegistry, WatchRequest,
};
use tidewatch_core::{
    EndReason, Event, History, KeyRange, KeyValue, KeyspaceId, ManualClock, Position, Record, Revision,
    Watch, WatchSettings, key, prefix, range,
};

const ROOM: usize = 4;
const KEYS: [&str; 6] = ["/a", "/a/x", "/a/y", "/b/x", "/b/y/z", "plain"];

#[derive(Clone, Debug)]
enum Action {
    /// A revision that writes or deletes some keys.
    Commit(Vec<(usize, bool)>),
    /// Forgets the history before this share of it.
    Compact(Index),
    Watch(Asked),
    /// Lets one reader read so many batches.
    Read(Index, usize),
    /// Ends one reader, and goes on where it was.
    Resume(Index),
    /// Ends one watch as an operator.
    Cancel(Index),
    Dispatch,
    Idle,
}

#[derive(Clone, Debug)]
struct Asked {
    ranges: Vec<usize>,
    start: Option<Index>,
    view: View,
    cancel: Option<usize>,
    progress: bool,
    /// Whether events may be held back, and are read as they were prepared: several batches at once.
    coalesce: bool,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let change = (0..KEYS.len(), prop::bool::weighted(0.7));
    let view = prop::bool::weighted(0.3);
    let view = (view, view, view, view).prop_map(|(prev_kv, keys_only, no_put, no_delete)| View {
        prev_kv,
        keys_only,
        no_put,
        no_delete,
    });
    let asked = (
        prop::collection::vec(0..8_usize, 1..4),
        prop::option::weighted(0.5, any::<Index>()),
        view,
        prop::option::weighted(0.3, 1..=ROOM),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(ranges, start, view, cancel, progress, coalesce)| Asked {
            ranges,
            start,
            view,
            cancel,
            progress,
            coalesce,
        });
    let action = prop_oneof![
        8 => prop::collection::vec(change, 1..4).prop_map(Action::Commit),
        1 => any::<Index>().prop_map(Action::Compact),
        3 => asked.prop_map(Action::Watch),
        6 => (any::<Index>(), 1..6_usize).prop_map(|(at, count)| Action::Read(at, count)),
        1 => any::<Index>().prop_map(Action::Resume),
        1 => any::<Index>().prop_map(Action::Cancel),
        4 => Just(Action::Dispatch),
        1 => Just(Action::Idle),
    ];
    prop::collection::vec(action, 1..120)
}

fn range_of(choice: usize) -> KeyRange {
    match choice {
        0 => key("/a"),
        1 => key("/a/x"),
        2 => prefix("/a/"),
        3 => prefix("/"),
        4 => prefix("/b/"),
        5 => range("/a", "/b"),
        6 => Ok(KeyRange::from_key("/b")),
        _ => range("/a/y", "/b/y"),
    }
    .unwrap()
}

struct World {
    history: Arc<History>,
    registry: Arc<WatchRegistry>,
    clock: ManualClock,
    dispatcher: Pin<Box<dyn Future<Output = ()>>>,
    entries: BTreeMap<Bytes, KeyValue>,
    truth: Vec<Arc<Record>>,
    open: Vec<(Watch, Observed, WatchRequest)>,
    /// Watches that are over; with the index of the one that went on from it.
    over: Vec<Observed>,
}

impl World {
    fn new() -> Self {
        let history = History::new(KeyspaceId(1), Revision(1), Revision(1));
        let clock = ManualClock::new();
        let settings = WatchSettings {
            room: ROOM,
            max_watchers: 1000,
            ..WatchSettings::default()
        };
        let registry = WatchRegistry::new(Arc::clone(&history), None, Arc::new(clock.clone()), settings);
        let dispatcher = Box::pin(WatchDispatcher::new(Arc::clone(&registry)).run());
        let (entries, truth, open, over) = Default::default();
        Self {
            history,
            registry,
            clock,
            dispatcher,
            entries,
            truth,
            open,
            over,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Commit(changes) => self.commit(changes),
            Action::Compact(share) => {
                let (oldest, current) = (self.history.oldest().0, self.history.current().0);
                let to = oldest + share.index(usize::try_from(current - oldest + 1).unwrap()) as u64;
                self.history.compact(Revision(to));
            }
            Action::Watch(asked) => self.watch(asked),
            Action::Read(at, count) if !self.open.is_empty() => self.read(at.index(self.open.len()), count),
            Action::Resume(at) if !self.open.is_empty() => self.resume(at.index(self.open.len())),
            Action::Cancel(at) if !self.open.is_empty() => {
                let (watch, ..) = &self.open[at.index(self.open.len())];
                assert!(self.registry.cancel(watch.id()));
            }
            Action::Read(..) | Action::Resume(_) | Action::Cancel(_) => {}
            Action::Dispatch => self.dispatch(),
            Action::Idle => self.clock.advance(Duration::from_secs(1)),
        }
    }

    fn commit(&mut self, mut changes: Vec<(usize, bool)>) {
        changes.sort_by_key(|&(at, _)| at);
        changes.dedup_by_key(|&mut (at, _)| at);
        let revision = self.history.current().next();
        let changes = changes.into_iter().rev();
        let events: Vec<_> = changes
            .filter_map(|(at, put)| self.change(revision, KEYS[at], put))
            .collect();
        if !events.is_empty() {
            let record = Arc::new(Record {
                revision,
                time: None,
                events: events.into(),
            });
            self.truth.push(Arc::clone(&record));
            self.history.append([record]);
        }
    }

    fn change(&mut self, revision: Revision, name: &'static str, put: bool) -> Option<Event> {
        let prev = self.entries.remove(name.as_bytes());
        if !put {
            return prev.map(|prev| Event::delete(revision, prev));
        }
        let kv = KeyValue {
            key: name.into(),
            value: revision.to_string().into(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: None,
        };
        self.entries.insert(name.into(), kv.clone());
        Some(Event::put(kv, prev))
    }

    fn watch(&mut self, asked: Asked) {
        let ranges: Vec<_> = asked.ranges.into_iter().map(range_of).collect();
        // Up to three revisions into the future.
        let latest = usize::try_from(self.history.current().0 + 3).unwrap();
        let start = asked.start.map_or(Start::Now, |start| {
            Start::At(Revision(start.index(latest) as u64 + 1))
        });
        let request = WatchRequest {
            start,
            view: asked.view,
            on_overflow: if asked.cancel.is_some() {
                OnOverflow::Cancel
            } else {
                OnOverflow::CatchUp
            },
            room: asked.cancel,
            progress_interval: asked.progress.then_some(Duration::from_secs(1)),
            coalesce: asked.coalesce,
            ..WatchRequest::new(ranges)
        };
        self.open(request);
    }

    fn open(&mut self, request: WatchRequest) {
        let watch = self.registry.watch(request.clone()).unwrap();
        let observed = Observed::new(request.clone(), watch.created());
        self.open.push((watch, observed, request));
    }

    fn read(&mut self, at: usize, count: usize) {
        for _ in 0..count {
            let (watch, observed, request) = &mut self.open[at];
            let mut cx = Context::from_waker(Waker::noop());
            let next = if request.coalesce {
                watch.poll_next_delivery(&mut cx)
            } else {
                watch.poll_next_batch(&mut cx).map_ok(Delivery::Batch)
            };
            match next {
                Poll::Pending => return,
                Poll::Ready(Ok(Delivery::Batch(batch))) => observed.see(batch),
                Poll::Ready(Ok(Delivery::Batches(batches))) => {
                    assert!(batches.iter().next().is_some(), "something is delivered");
                    batches.iter().for_each(|batch| observed.see(batch));
                }
                Poll::Ready(Err(ended)) => {
                    let (_, mut observed, request) = self.open.swap_remove(at);
                    self.check_end(&ended.reason, &request);
                    observed.end(ended);
                    self.over.push(observed);
                    return;
                }
            }
        }
    }

    fn check_end(&self, reason: &EndReason, request: &WatchRequest) {
        match *reason {
            EndReason::Compacted { requested, oldest } => {
                assert!(requested < oldest && oldest == self.history.oldest());
            }
            EndReason::Overflow => assert_eq!(request.on_overflow, OnOverflow::Cancel),
            EndReason::Closed | EndReason::Canceled => {}
            _ => panic!("no reason to end: {reason}"),
        }
    }

    fn resume(&mut self, at: usize) {
        let (watch, earlier, request) = self.open.swap_remove(at);
        let position = watch.position();
        drop(watch);
        let request = WatchRequest {
            start: position.map_or(request.start, Start::After),
            ..request
        };
        self.open(request);
        if let (Some(_), Some((_, later, _))) = (position, self.open.last()) {
            assert_eq!(check::resumable(&earlier, later), Ok(()));
        }
        self.over.push(earlier);
    }

    fn dispatch(&mut self) {
        assert!(
            self.dispatcher
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    /// Dispatches everything, lets everybody read to the end, and judges.
    fn judge(mut self) {
        self.registry.close(EndReason::Closed);
        let mut rounds = 0;
        while self
            .dispatcher
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            rounds += 1;
            assert!(rounds < 1000, "the dispatcher ends after the close");
        }
        // A reader lets others run now and then, at the latest after some steps, and every watch ends.
        let mut rounds = 0;
        while !self.open.is_empty() {
            self.read(0, 1000);
            rounds += 1;
            assert!(rounds < 10_000, "a watch of a closed registry ends");
        }
        let registry = &self.registry;
        assert_eq!((registry.watcher_count(), registry.selection_count()), (0, 0));
        assert_eq!((registry.lagging_count(), registry.watchers().len()), (0, 0));
        let truth = Truth::new(self.truth);
        for observed in &self.over {
            if let Err(violation) = check::all(observed, &truth) {
                panic!("{violation}\n{observed:#?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_watch_keeps_its_promises(actions in actions()) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.judge();
    }

    #[test]
    fn a_position_is_what_it_is_printed_as(keyspace in any::<u64>(), revision in any::<u64>()) {
        let position = Position { keyspace: KeyspaceId(keyspace), revision: Revision(revision) };
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    }
}
