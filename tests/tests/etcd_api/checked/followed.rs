//! A stream with watches of many kinds, and what was seen of each.

use std::collections::BTreeMap;
use std::time::Duration;

use tidewatch_core::check::{self, Observed, Truth};
use tidewatch_core::watch::{EndReason, Ended, Start, View, WatchRequest};
use tidewatch_core::{Batch, BatchKind, Event, KeyRange, KeyValue, KeyspaceId, LeaseId, Position, Revision};
use tidewatch_core::{key, prefix};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_client::WatchClient;
use tidewatch_proto::etcdserverpb::watch_create_request::FilterType;
use tidewatch_proto::mvccpb::{self, event::EventType};

use crate::rig::TestServer;
use crate::watching::{NO_WATCH, Watching, revision, watch};

/// What may be sent ahead of a slow reader, in bytes; and how long it pauses.
const SMALL_WINDOW: u32 = 16 << 10;
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Followed {
    stream: Watching,
    slow: bool,
    watches: BTreeMap<i64, Seen>,
    /// What was seen before the server was restarted, with what was seen after it.
    earlier: Vec<Seen>,
}

/// A watch and what it said.
struct Seen {
    request: WatchRequest,
    observed: Observed,
    /// From where it is resumed, as etcd's own client does that.
    next: u64,
    over: bool,
}

/// The kinds of watches; `last` is the revision there is.
fn kinds(last: i64) -> Vec<WatchRequest> {
    let all = || prefix("/k/").unwrap();
    let last = Revision(u64::try_from(last).unwrap());
    let view = View::default();
    let with = |range: KeyRange, start, view, progress: bool| WatchRequest {
        start,
        view,
        progress_interval: progress.then_some(Duration::from_secs(1)),
        ..WatchRequest::new([range])
    };
    vec![
        with(all(), Start::Now, view, false),
        with(
            all(),
            Start::At(Revision(2).max(Revision(last.0.saturating_sub(50)))),
            view,
            true,
        ),
        with(
            all(),
            Start::Now,
            View {
                prev_kv: true,
                ..view
            },
            true,
        ),
        with(
            all(),
            Start::Now,
            View {
                no_put: true,
                prev_kv: true,
                ..view
            },
            true,
        ),
        with(
            all(),
            Start::Now,
            View {
                no_delete: true,
                ..view
            },
            false,
        ),
        with(
            key("/k/3").unwrap(),
            Start::Now,
            View {
                prev_kv: true,
                ..view
            },
            false,
        ),
        with(
            KeyRange::from_key("/k/5"),
            Start::At(Revision(last.0 + 40)),
            view,
            true,
        ),
        with(
            tidewatch_core::range("/k/1", "/k/2").unwrap(),
            Start::At(last.next()),
            view,
            false,
        ),
    ]
}

impl Followed {
    pub(super) async fn start(server: &TestServer, seed: u64, last: i64) -> Self {
        let mut followed = Self::open(server, seed % 2 == 1).await;
        for request in kinds(last) {
            followed.begin(request).await;
        }
        followed
    }

    async fn open(server: &TestServer, slow: bool) -> Self {
        let mut endpoint = server.endpoint();
        if slow {
            endpoint = endpoint.initial_stream_window_size(SMALL_WINDOW);
        }
        let client = WatchClient::new(endpoint.connect().await.unwrap());
        Self {
            stream: Watching::over(client),
            slow,
            watches: BTreeMap::new(),
            earlier: Vec::new(),
        }
    }

    async fn begin(&mut self, request: WatchRequest) {
        let id = i64::try_from(self.watches.len()).unwrap() + 1;
        let asked = wire(&request, id);
        self.stream
            .ask(pb::watch_request::RequestUnion::CreateRequest(asked))
            .await;
        // Others may have something to say in between.
        let created = loop {
            let response = self.stream.next().await;
            if response.created {
                break response;
            }
            self.see(&response);
        };
        assert!(!created.canceled, "{created:?}");
        let header = created.header.as_ref().unwrap();
        let boundary = match request.start {
            Start::At(start) => start.prev(),
            Start::Now | Start::After(_) => Revision(u64::try_from(header.revision).unwrap()),
        };
        let position = Position {
            keyspace: KeyspaceId(header.cluster_id),
            revision: boundary,
        };
        let seen = Seen {
            observed: Observed::new(request.clone(), position),
            next: boundary.next().0,
            request,
            over: false,
        };
        self.watches.insert(id, seen);
    }

    /// Notes what is said, until the stream breaks off.
    pub(super) async fn follow(mut self) -> Self {
        for n in 0_u64.. {
            if n % 16 == 0 {
                self.stream.try_ask_progress().await;
            }
            if self.slow {
                tokio::time::sleep(PAUSE).await;
            }
            match self.stream.try_next().await {
                Some(response) => self.see(&response),
                None => break,
            }
        }
        self
    }

    /// Goes on with the watches that are not over, as etcd's client does.
    pub(super) async fn resume(mut self, server: &TestServer) -> Self {
        let mut later = Self::open(server, self.slow).await;
        later.earlier = std::mem::take(&mut self.earlier);
        for (_, seen) in std::mem::take(&mut self.watches) {
            if !seen.over {
                later
                    .begin(WatchRequest {
                        start: Start::At(Revision(seen.next)),
                        ..seen.request.clone()
                    })
                    .await;
            }
            later.earlier.push(seen);
        }
        later
    }

    /// Reads until every watch has everything up to a revision, or is over.
    pub(super) async fn read_to(mut self, last: i64) -> Self {
        let last = u64::try_from(last).unwrap();
        while self.watches.values().any(|seen| !seen.over && seen.next <= last) {
            self.stream.ask_progress().await;
            loop {
                let response = self.stream.next().await;
                self.see(&response);
                let answered = response.watch_id == NO_WATCH;
                if answered || self.watches.values().all(|seen| seen.over) {
                    break;
                }
            }
        }
        self
    }

    fn see(&mut self, response: &pb::WatchResponse) {
        let progress = response.events.is_empty() && !response.canceled;
        if response.watch_id == NO_WATCH {
            assert!(progress, "{response:?}");
            let told = self.watches.values_mut().filter(|seen| !seen.over);
            told.for_each(|seen| seen.see(Batch::progress(at(revision(response)))));
            return;
        }
        let seen = self.watches.get_mut(&response.watch_id).expect("a watch of ours");
        assert!(!seen.over, "after its end: {response:?}");
        if response.canceled {
            assert!(response.compact_revision > 0, "{response:?}");
            seen.over = true;
            let mut last = seen.observed.batches().iter();
            let last = last
                .rfind(|batch| batch.kind() == BatchKind::Events)
                .map(Batch::revision);
            seen.observed.end(Ended {
                reason: EndReason::Compacted {
                    requested: Revision(seen.next),
                    oldest: at(response.compact_revision),
                },
                last_delivered: last,
                resume: None,
            });
        } else if progress {
            seen.see(Batch::progress(at(revision(response))));
        } else {
            let view = seen.request.view;
            let revision_of = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
            for events in response.events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
                let revision = at(revision_of(&events[0]));
                let events = events.iter().map(event).collect();
                seen.see(Batch::events(revision, None, events, view, false));
            }
            assert!(seen.next <= at(revision(response)).next().0, "{response:?}");
        }
    }

    /// Judges all that was seen, and returns how many events that were.
    pub(super) fn judge(self, truth: &Truth) -> usize {
        let all = self.earlier.into_iter().chain(self.watches.into_values());
        let mut events = 0;
        for seen in all {
            if let Err(violation) = check::all(&seen.observed, truth) {
                panic!("{violation}\n{:#?}", seen.observed);
            }
            events += seen.observed.batches().iter().map(Batch::len).sum::<usize>();
        }
        events
    }
}

impl Seen {
    fn see(&mut self, batch: Batch) {
        self.next = self.next.max(batch.revision().next().0);
        self.observed.see(batch);
    }
}

fn wire(request: &WatchRequest, id: i64) -> pb::WatchCreateRequest {
    let range = &request.ranges[0];
    let end = match range.end() {
        key::RangeEnd::Single => String::new(),
        key::RangeEnd::Before(end) => String::from_utf8(end.to_vec()).unwrap(),
        key::RangeEnd::Unbounded => "\0".into(),
    };
    let mut asked = watch(std::str::from_utf8(range.start()).unwrap(), &end);
    asked.watch_id = id;
    asked.prev_kv = request.view.prev_kv;
    asked.progress_notify = request.progress_interval.is_some();
    if request.view.no_put {
        asked.filters.push(FilterType::Noput.into());
    }
    if request.view.no_delete {
        asked.filters.push(FilterType::Nodelete.into());
    }
    if let Start::At(start) = request.start {
        asked.start_revision = i64::try_from(start.0).unwrap();
    }
    asked
}

fn event(event: &mvccpb::Event) -> Event {
    let kv = entry(event.kv.as_ref().unwrap());
    let prev = event.prev_kv.as_ref().map(entry);
    if event.r#type() == EventType::Put {
        return Event::put(kv, prev);
    }
    Event {
        kind: tidewatch_core::EventKind::Delete,
        kv,
        prev,
    }
}

fn entry(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: at(kv.create_revision),
        mod_revision: at(kv.mod_revision),
        version: u64::try_from(kv.version).unwrap(),
        lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
    }
}

fn at(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap())
}
