//! Those who watch: they stall, die, and go on from where they were.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tidewatch_core::watch::{Delivery, OnOverflow, Prev, Start, WatchId, WatchRequest};
use tidewatch_core::{
    Backend, Batch, BatchKind, Clock as _, EndReason, Ended, Error, KeyspaceId, Position, Revision, Watch,
};

use super::coverage::Kind;
use super::dice::Dice;
use super::draw;
use super::executor::turns;
use super::relay::Relay;
use super::tale::Tale;
use super::world::{Stage, World};

/// More entries than a page of a snapshot has, which is 128.
const LARGE_SNAPSHOT: usize = 128;

/// What somebody who subscribes does next.
enum Plan {
    /// Another tale.
    Anew(WatchRequest),
    /// The same one.
    GoOn(WatchRequest),
}

/// Watches as long as there is something to watch.
pub(crate) async fn follow(world: Rc<World>, at: usize, dice: Dice) {
    let me = Subscriber { world, at, dice };
    while me.world.stage() < Stage::Closing {
        let source = me.source().await;
        let plan = me.plan();
        let (Plan::Anew(request) | Plan::GoOn(request)) = &plan;
        match source.watch(request.clone()).await {
            Ok(watch) => {
                me.begin(plan, &watch, &source);
                me.read(watch, &source).await;
            }
            Err(Error::LimitExceeded { .. }) => {
                me.world.chronicle.count(Kind::TooMany);
                me.note("there are too many already");
            }
            Err(Error::Closed) => {}
            Err(error) => me.world.chronicle.violated(&me, error),
        }
        me.world.sleep(&me.dice, 1..=300).await;
    }
}

/// Where a watch is opened.
enum Source {
    /// In this life of the keyspace. Not held: a handle would keep it alive.
    Keyspace(u64, Weak<dyn Backend>),
    Relay(Rc<Relay>),
}

impl Source {
    async fn watch(&self, request: WatchRequest) -> Result<Watch, Error> {
        match self {
            Self::Keyspace(_, backend) => match backend.upgrade() {
                Some(backend) => backend.watch(request).await,
                None => Err(Error::Closed),
            },
            Self::Relay(relay) => relay.registry.watch(request),
        }
    }
}

struct Subscriber {
    world: Rc<World>,
    at: usize,
    dice: Dice,
}

impl fmt::Display for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watcher {}", self.at)
    }
}

impl Subscriber {
    fn note(&self, what: impl fmt::Display) {
        self.world.chronicle.note(self, what);
    }

    async fn source(&self) -> Source {
        if self.dice.chance(350)
            && let Some(relay) = self.world.relay()
        {
            return Source::Relay(relay);
        }
        let keyspace = self.world.keyspace().await;
        Source::Keyspace(self.world.life(), Arc::downgrade(keyspace.backend()))
    }

    fn plan(&self) -> Plan {
        let (world, dice) = (&self.world, &self.dice);
        let tales = world.tales(self.at);
        let last = tales.last().filter(|tale| !tale.over);
        if let Some((tale, position)) = last.and_then(|tale| Some((tale, tale.position()?))) {
            if world.stage() > Stage::Storm {
                return Plan::GoOn(tale.resuming(position));
            }
            return match dice.below(100) {
                0..80 => Plan::GoOn(tale.resuming(position)),
                80..88 => {
                    world.chronicle.count(Kind::ResumedEarlier);
                    let revision = Revision(dice.number(0..=position.revision.0));
                    Plan::Anew(tale.resuming(Position { revision, ..position }))
                }
                88 => {
                    let keyspace = KeyspaceId(position.keyspace.0 ^ 1);
                    Plan::Anew(tale.resuming(Position { keyspace, ..position }))
                }
                89 => {
                    let revision = Revision(world.journal.disk().truth.revision().0 + dice.number(1..=40));
                    Plan::Anew(tale.resuming(Position { revision, ..position }))
                }
                _ => Plan::Anew(self.another()),
            };
        }
        drop(tales);
        let mut request = self.another();
        if world.stage() > Stage::Storm {
            // From where it can go on for good.
            request.start = Start::Now;
        }
        Plan::Anew(request)
    }

    fn another(&self) -> WatchRequest {
        let current = self.world.ledger().floor().max(Revision::INITIAL);
        draw::watch(&self.dice, current, self.world.settings.watch.room)
    }

    fn begin(&self, plan: Plan, watch: &Watch, source: &Source) {
        let chronicle = &self.world.chronicle;
        let created = watch.created();
        let mut tales = self.world.tales(self.at);
        match plan {
            Plan::Anew(request) => {
                self.note(format_args!(
                    "watches {:?}, {:?}, after {}, {:?}, {:?} {:?}",
                    request.ranges,
                    request.start,
                    created.revision,
                    request.view,
                    request.on_overflow,
                    request.room
                ));
                self.count(&request);
                tales.push(Tale::begin(request, created, watch.position()));
            }
            Plan::GoOn(request) => {
                self.note(format_args!("resumes after {}", created.revision));
                chronicle.count(Kind::Resumed);
                if matches!(source, Source::Keyspace(life, _) if *life > 1) {
                    chronicle.count(Kind::ResumedLater);
                }
                if let Some(tale) = tales.last_mut() {
                    chronicle.judge(self, tale.go_on(request, created));
                }
            }
        }
        if let (Source::Relay(_), Some(tale)) = (source, tales.last_mut()) {
            self.note("at the relay");
            chronicle.count(Kind::FromRelay);
            tale.relayed = true;
        }
    }

    fn count(&self, request: &WatchRequest) {
        let chronicle = &self.world.chronicle;
        let current = self.world.journal.disk().truth.revision();
        match request.start {
            Start::Now if request.snapshot => chronicle.count(Kind::FromSnapshot),
            Start::Now => chronicle.count(Kind::FromNow),
            Start::At(revision) if revision > current => chronicle.count(Kind::FromFuture),
            Start::At(_) | Start::After(_) => chronicle.count(Kind::FromPast),
        }
        match &request.ranges[..] {
            [range] if range.as_single().is_some() => chronicle.count(Kind::OneKey),
            [range] if range.as_slash_prefix().is_some() => chronicle.count(Kind::Prefix),
            [_] => chronicle.count(Kind::OtherRange),
            _ => chronicle.count(Kind::ManyRanges),
        }
        if request.view.no_put || request.view.no_delete {
            chronicle.count(Kind::FilteredOut);
        }
    }

    /// Reads until the watch ends, or its reader does.
    async fn read(&self, mut watch: Watch, source: &Source) {
        let Self { world, dice, .. } = self;
        let mut first = true;
        loop {
            if world.stage() == Stage::Storm {
                match dice.below(100) {
                    0..5 => {
                        self.note("stalls");
                        world.chronicle.count(Kind::Stalled);
                        world.sleep(dice, 50..=4000).await;
                    }
                    5..7 => {
                        self.note("dies");
                        world.chronicle.count(Kind::Died);
                        return self.leave();
                    }
                    7..20 => turns(dice.number(1..=5)).await,
                    20..24 => watch.request_progress(),
                    _ => {}
                }
            }
            let refused = std::mem::take(&mut first) && self.is_ahead(source).await;
            let next = self.next(&mut watch).await;
            if refused && !matches!(next, Some(Err(_))) {
                world
                    .chronicle
                    .violated(self, "a position ahead of the history is accepted");
            }
            match next {
                None => {}
                Some(Ok(Delivery::Batch(batch))) => self.hear(&batch, &watch),
                Some(Ok(Delivery::Batches(batches))) => {
                    if batches.iter().count() > 1 {
                        world.chronicle.count(Kind::Together);
                    }
                    batches.iter().for_each(|batch| self.hear(&batch, &watch));
                }
                Some(Err(ended)) => return self.end(ended, watch.id(), source),
            }
        }
    }

    /// Whether the watch was to go on after what is not there yet.
    async fn is_ahead(&self, source: &Source) -> bool {
        let Some(Start::After(position)) = self.world.tales(self.at).last().map(|tale| tale.start) else {
            return false;
        };
        let current = match source {
            Source::Keyspace(_, backend) => match backend.upgrade() {
                Some(backend) => backend.status().await.ok().map(|status| status.revision),
                None => None,
            },
            Source::Relay(relay) => Some(relay.current()),
        };
        current.is_some_and(|current| position.revision > current)
    }

    /// The next thing, or nothing if it takes too long.
    async fn next(&self, watch: &mut Watch) -> Option<Result<Delivery, Ended>> {
        let together = self.dice.chance(400);
        let mut next = pin!(async {
            if together {
                poll_fn(|cx| watch.poll_next_delivery(cx)).await
            } else {
                watch.next().await.map(Delivery::Batch)
            }
        });
        if self.world.stage() > Stage::Storm {
            return Some(next.await);
        }
        let mut patience = self.world.clock.sleep(self.dice.millis(50..=3000));
        poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => patience.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn hear(&self, batch: &Batch, watch: &Watch) {
        self.note(Shown(batch));
        let (world, chronicle) = (&self.world, &self.world.chronicle);
        let mut tales = world.tales(self.at);
        let Some(tale) = tales.last_mut() else {
            return;
        };
        let was_to_come = matches!(tale.request.start, Start::At(_)) && tale.position().is_none();
        if was_to_come && batch.kind() == BatchKind::Events {
            chronicle.count(Kind::FutureReached);
        }
        let disk = world.journal.disk();
        if let Start::After(position) = tale.request.start
            && position.keyspace != disk.truth.keyspace
        {
            chronicle.violated(self, "a foreign position is accepted");
        }
        if batch.kind() == BatchKind::SnapshotBegin && !tale.is_silent() {
            chronicle.count(Kind::SnapshotVoid);
        }
        match tale.hear(batch, &disk.truth) {
            Ok(None) => {}
            Ok(Some(entries)) => {
                chronicle.count(Kind::SnapshotWhole);
                if entries > LARGE_SNAPSHOT {
                    chronicle.count(Kind::SnapshotLarge);
                }
            }
            Err(violation) => chronicle.violated(self, violation),
        }
        tale.keep(watch.position());
        world.ledger().told(batch.revision());
        match batch.kind() {
            BatchKind::Progress => chronicle.count(Kind::Progress),
            BatchKind::Events => {
                let room = world.settings.watch.room;
                if tale.ahead(batch.revision(), &disk.truth, room) > room {
                    chronicle.count(Kind::Behind);
                }
                for event in batch {
                    match event.prev() {
                        Prev::NotRequested => {}
                        Prev::Absent => chronicle.count(Kind::PrevAbsent),
                        Prev::Entry(_) => chronicle.count(Kind::PrevEntry),
                    }
                }
                if batch.view().keys_only {
                    chronicle.count(Kind::KeysOnly);
                }
            }
            _ => {}
        }
    }

    fn leave(&self) {
        if let Some(tale) = self.world.tales(self.at).last_mut() {
            tale.open = false;
        }
    }

    fn end(&self, ended: Ended, id: WatchId, source: &Source) {
        self.note(format_args!(
            "ends: {}, resume {:?}",
            ended.reason.name(),
            ended.resume
        ));
        let mut tales = self.world.tales(self.at);
        let Some(tale) = tales.last_mut() else {
            return;
        };
        self.world
            .chronicle
            .judge(self, self.judge(tale, &ended.reason, id, source));
        tale.end(ended);
    }

    /// Whether there was a reason to end.
    fn judge(&self, tale: &Tale, reason: &EndReason, id: WatchId, source: &Source) -> Result<(), String> {
        let chronicle = &self.world.chronicle;
        let disk = self.world.journal.disk();
        let (oldest_there, closed) = match source {
            Source::Keyspace(life, _) => (disk.oldest, self.world.has_ended(*life)),
            Source::Relay(relay) => (relay.oldest.get(), relay.is_closed()),
        };
        let right = match *reason {
            EndReason::Overflow => {
                chronicle.count(Kind::EndOverflow);
                tale.request.on_overflow == OnOverflow::Cancel
            }
            EndReason::Compacted { requested, oldest } => {
                chronicle.count(Kind::EndCompacted);
                requested < oldest && oldest <= oldest_there && requested > tale.through()
            }
            EndReason::KeyspaceChanged { actual, current } => {
                let Start::After(position) = tale.start else {
                    return Err("a watch without a position ends because of it".into());
                };
                let foreign = position.keyspace != disk.truth.keyspace;
                chronicle.count(if foreign {
                    Kind::ForeignPosition
                } else {
                    Kind::FuturePosition
                });
                // What a watch has come to the keyspace has too; the relay may be behind it.
                let ahead = position.revision > current;
                let expected = tale.start == tale.request.start || matches!(source, Source::Relay(_));
                actual == disk.truth.keyspace && (foreign || (ahead && expected))
            }
            EndReason::Closed => {
                chronicle.count(Kind::EndClosed);
                closed
            }
            EndReason::Draining { .. } => {
                chronicle.count(Kind::EndDraining);
                closed
            }
            EndReason::Canceled => {
                chronicle.count(Kind::EndCanceled);
                matches!(source, Source::Relay(relay) if relay.has_canceled(id))
            }
            _ => false,
        };
        if right {
            return Ok(());
        }
        Err(format!("no reason to end: {reason}, at {}", tale.through()))
    }
}

/// A batch, in a line.
struct Shown<'a>(&'a Batch);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(batch) = self;
        write!(f, "{:?} {}", batch.kind(), batch.revision())?;
        for event in batch.iter().take(4) {
            let value = &event.value()[..event.value().len().min(8)];
            write!(
                f,
                ", {} {} {}",
                event.kind(),
                event.key().escape_ascii(),
                value.escape_ascii()
            )?;
        }
        match batch.len() {
            0..=4 => Ok(()),
            more => write!(f, " and {} more", more - 4),
        }
    }
}
