//! Backfills from a member that says what it is told to, with time by hand.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use tidewatch_core::store::Listing;
use tidewatch_core::watch::{Archive as _, ArchiveReader};
use tidewatch_core::{BoxFuture, Event, KeyValue, KeyspaceId, ManualClock, Position, Settings};

use super::*;
use crate::backend::fill::{MAX_BACKFILLS, Older};
use crate::header::Header;
use crate::machine::{Dialed, ListRequest, Page};
use crate::transport::{Answer, Connection};

const BELIEVED: Version = Version::new(3, 5, 13);
const OLD: Version = Version::new(3, 4, 23);

/// Where the cache begins.
const WATCHABLE: u64 = 900_000;

/// What a member does.
struct Says {
    version: Version,
    is_tidewatch: bool,
    /// Whose it is.
    cluster: u64,
    marker: Marker,
    refuses: Option<Failure>,
    dials: usize,
    /// What every watch says when it is made.
    at_once: fn(from: u64) -> Vec<Message>,
    /// What comes next on any watch.
    next: VecDeque<Message>,
}

#[derive(Clone)]
struct Member(Arc<Mutex<Says>>);

struct Stream(Member, VecDeque<Message>);

const CLUSTER: u64 = 7;

fn marker(id: u64) -> Marker {
    Marker::with_id(&Namespace::new("").unwrap(), id)
}

fn keyspace() -> KeyspaceId {
    marker(1).keyspace(CLUSTER)
}

impl Says {
    fn header(&self) -> Header {
        Header {
            cluster: self.cluster,
            ..header()
        }
    }
}

fn header() -> Header {
    Header {
        cluster: CLUSTER,
        member: 1,
        revision: Revision(WATCHABLE + 50),
        term: 2,
    }
}

fn change(revision: u64, bytes: usize) -> Message {
    let kv = KeyValue {
        key: "/a".into(),
        value: vec![b'v'; bytes].into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    };
    Message {
        header: header(),
        events: vec![Event::put(kv, None)],
        ..Message::default()
    }
}

impl Transport for Member {
    fn dial(&self, _: usize) -> Answer<(Dialed, Box<dyn Connection>)> {
        let mut says = self.0.lock().unwrap();
        says.dials += 1;
        let answer = match &says.refuses {
            Some(failure) => Err(failure.clone()),
            None => Ok((
                Dialed {
                    version: Some(says.version),
                    is_tidewatch: says.is_tidewatch,
                    header: header(),
                },
                Box::new(self.clone()) as Box<dyn Connection>,
            )),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Connection for Member {
    fn list(&self, _: ListRequest) -> Answer<Page> {
        Box::pin(std::future::pending())
    }

    fn check(&self, request: CheckRequest) -> Answer<Checked> {
        let says = self.0.lock().unwrap();
        let kv = KeyValue {
            key: request.range.start().clone(),
            value: says.marker.encode(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: None,
        };
        let checked = Checked {
            header: says.header(),
            found: Some(kv),
        };
        Box::pin(std::future::ready(Ok(checked)))
    }

    fn open(&self, request: OpenRequest) -> Answer<Box<dyn WatchStream>> {
        let said = (self.0.lock().unwrap().at_once)(request.from.0);
        let stream: Box<dyn WatchStream> = Box::new(Stream(self.clone(), said.into()));
        Box::pin(std::future::ready(Ok(stream)))
    }
}

impl WatchStream for Stream {
    fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<Result<Message, Failure>> {
        let said = self.1.pop_front();
        let said = said.or_else(|| self.0.0.lock().unwrap().next.pop_front());
        let header = self.0.0.lock().unwrap().header();
        said.map_or(Poll::Pending, |message| {
            Poll::Ready(Ok(Message { header, ..message }))
        })
    }

    /// An older etcd answers whatever is on its way; a newer one has something on its way for ever here.
    fn ask_progress(&mut self) {
        if self.0.0.lock().unwrap().version == OLD {
            self.1.push_back(Message {
                header: header(),
                ..Message::default()
            });
        }
    }
}

struct Rig {
    member: Member,
    fills: Arc<Fills>,
    clock: ManualClock,
    work: BoxFuture<'static, ()>,
}

impl Rig {
    fn new(version: Version, at_once: fn(u64) -> Vec<Message>) -> Self {
        let clock = ManualClock::new();
        let now = Position {
            keyspace: keyspace(),
            revision: Revision(WATCHABLE - 1),
        };
        let listing = Listing {
            keyspace: now.keyspace,
            revision: now.revision,
            entries: Vec::new(),
        };
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let replica = Replica::new(listing, None, shared.clone(), Settings::default()).unwrap();
        let fills = Fills::new(now);
        let member = Member(Arc::new(Mutex::new(Says {
            version,
            is_tidewatch: false,
            cluster: CLUSTER,
            marker: marker(1),
            refuses: None,
            dials: 0,
            at_once,
            next: VecDeque::new(),
        })));
        let filling = Filling {
            fills: fills.clone(),
            transport: Arc::new(member.clone()),
            endpoints: 1,
            namespace: Namespace::new("").unwrap(),
            replica,
            cluster: Arc::new(AtomicU64::new(CLUSTER)),
            is_tidewatch: false,
            clock: shared,
        };
        let work = Box::pin(async move { filling.run().await });
        Self {
            member,
            fills,
            clock,
            work,
        }
    }

    fn says(&self) -> std::sync::MutexGuard<'_, Says> {
        self.member.0.lock().unwrap()
    }

    fn open(&self, after: u64) -> Box<dyn ArchiveReader> {
        Older(self.fills.clone()).open(Position {
            keyspace: keyspace(),
            revision: Revision(after),
        })
    }

    /// Lets time go by.
    fn go(&mut self, time: Duration) {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            let _endless = self.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.clock.advance(Duration::from_millis(20));
        }
    }
}

fn poll(reader: &mut Box<dyn ArchiveReader>, after: u64) -> Poll<Result<Vec<u64>, String>> {
    let mut cx = Context::from_waker(Waker::noop());
    let read = reader.poll_read(Revision(after), 2, &mut cx);
    read.map_ok(|chunk| chunk.records.iter().map(|record| record.revision.0).collect())
        .map_err(|reason| format!("{reason:?}"))
}

fn nothing(_: u64) -> Vec<Message> {
    Vec::new()
}

/// More than a backfill holds.
fn much(from: u64) -> Vec<Message> {
    (from..from + 20)
        .map(|revision| change(revision, 1 << 20))
        .collect()
}

#[test]
fn the_silence_of_an_older_etcd_proves_nothing() {
    let mut rig = Rig::new(OLD, nothing);
    let mut reader = rig.open(10);
    assert!(poll(&mut reader, 10).is_pending());
    rig.go(QUIET * 10);
    assert!(
        poll(&mut reader, 10).is_pending(),
        "it may still have more to tell"
    );
    rig.says().next.push_back(change(50, 1));
    rig.go(CATCH_UP_INTERVAL * 2);
    assert_eq!(poll(&mut reader, 10), Poll::Ready(Ok(vec![50])));
    rig.go(QUIET * 10);
    assert!(poll(&mut reader, 50).is_pending());
    rig.says().next.push_back(change(WATCHABLE + 3, 1));
    rig.go(CATCH_UP_INTERVAL * 2);
    assert_eq!(poll(&mut reader, 50), Poll::Ready(Ok(vec![WATCHABLE + 3])));
    assert_eq!(rig.fills.running(), 0, "the cache has what follows");
}

#[test]
fn backfills_that_stand_still_leave_their_places_to_those_who_wait() {
    for (version, at_once) in [(OLD, nothing as fn(u64) -> Vec<Message>), (BELIEVED, much)] {
        let mut rig = Rig::new(version, at_once);
        let places: Vec<_> = (1..=MAX_BACKFILLS as u64).rev().map(|at| at * 20_000).collect();
        let mut stuck: Vec<_> = places.iter().map(|_| rig.open(0)).collect();
        for (reader, after) in stuck.iter_mut().zip(&places) {
            assert!(poll(reader, *after).is_pending());
        }
        rig.go(STALLED_AFTER * 3);
        assert_eq!(rig.fills.running(), MAX_BACKFILLS, "nobody waits for a place");
        let mut late = rig.open(5);
        assert!(poll(&mut late, 5).is_pending());
        assert!(rig.fills.has_queued());
        rig.go(STALLED_AFTER * 2);
        assert!(poll(&mut late, 5).is_pending(), "its own is begun");
        assert!(!rig.fills.has_queued(), "{version}");
        if version == BELIEVED {
            rig.go(CATCH_UP_INTERVAL);
            assert_eq!(poll(&mut late, 5), Poll::Ready(Ok(vec![6, 7])));
            // Whoever lost its place goes on where it was.
            assert!(poll(&mut stuck[0], places[0]).is_pending());
            rig.go(CATCH_UP_INTERVAL);
            let next = vec![places[0] + 1, places[0] + 2];
            assert_eq!(poll(&mut stuck[0], places[0]), Poll::Ready(Ok(next)));
        }
    }
}

#[test]
fn a_full_backfill_whose_reader_has_gone_goes_on_for_one_further_along() {
    let mut rig = Rig::new(BELIEVED, much);
    let (mut gone, mut other) = (rig.open(10), rig.open(40));
    assert!(poll(&mut gone, 10).is_pending());
    rig.go(CATCH_UP_INTERVAL);
    assert!(poll(&mut other, 40).is_pending());
    drop(gone);
    rig.says().next.push_back(change(41, 1));
    rig.go(CATCH_UP_INTERVAL * 2);
    assert_eq!(poll(&mut other, 40), Poll::Ready(Ok(vec![41])));
}

#[test]
fn what_is_denied_ends_those_who_read() {
    let mut rig = Rig::new(BELIEVED, nothing);
    rig.says().refuses = Some(Failure::new(FailureKind::Denied, "permission denied"));
    let mut reader = rig.open(10);
    assert!(poll(&mut reader, 10).is_pending());
    rig.go(CATCH_UP_INTERVAL);
    let Poll::Ready(Err(reason)) = poll(&mut reader, 10) else {
        panic!("it goes on");
    };
    assert!(reason.contains("PermissionDenied"), "{reason}");
}

#[test]
fn what_another_cluster_or_keyspace_says_is_not_this_ones_history() {
    let mut rig = Rig::new(BELIEVED, |from| vec![change(from, 1)]);
    let mut reader = rig.open(10);
    // A Tidewatch has no marker.
    for (is_tidewatch, cluster, marker) in [(true, CLUSTER + 1, marker(1)), (false, CLUSTER, marker(2))] {
        {
            let mut says = rig.says();
            (says.is_tidewatch, says.cluster, says.marker) = (is_tidewatch, cluster, marker);
        }
        assert!(poll(&mut reader, 10).is_pending());
        rig.go(MAX_PAUSE);
        assert!(poll(&mut reader, 10).is_pending());
    }
    rig.says().marker = marker(1);
    rig.go(MAX_PAUSE);
    assert_eq!(poll(&mut reader, 10), Poll::Ready(Ok(vec![11])));
}

#[test]
fn nobody_is_dialed_for_a_backfill_that_nobody_reads() {
    let mut rig = Rig::new(BELIEVED, nothing);
    rig.says().refuses = Some(Failure::unreachable("refused"));
    let mut reader = rig.open(10);
    assert!(poll(&mut reader, 10).is_pending());
    rig.go(MAX_PAUSE);
    drop(reader);
    let dials = rig.says().dials;
    rig.go(MAX_PAUSE * 3);
    assert_eq!((rig.says().dials, rig.fills.running()), (dials, 0));
}
