//! Random operations on an embedded keyspace, compared with the simplest thing that could be one: a
//! copy of the whole map for each revision.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod model {
    pub(crate) mod action;
    pub(crate) mod map;
    pub(crate) mod reader;
}

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use model::action::{Action, actions};
use model::map::{Map, Refused, kind};
use model::reader::{self, Readers};
use proptest::prelude::*;
use tidewatch_core::conformance::{MemoryJournal, block_on, drive};
use tidewatch_core::txn::{RangeRequest, Txn};
use tidewatch_core::watch::BatchKind;
use tidewatch_core::{
    Error, KeyRange, Keyspace, LeaseId, ManualClock, Revision, Settings, WatchSettings, watch::EventRef,
};

/// A keyspace and what it ought to be.
struct World {
    ks: Keyspace,
    clock: ManualClock,
    journal: Option<MemoryJournal>,
    map: Map,
    readers: Readers,
    /// The next commit fails.
    armed: bool,
}

/// Runs the actions, with a restart of the keyspace wherever one is asked for.
fn run(actions: Vec<Action>, journal: Option<&MemoryJournal>, quota: u64) {
    let mut actions = VecDeque::from(actions);
    let clock = ManualClock::new();
    let mut map = Map::new(quota);
    let mut armed = false;
    let mut kept = Vec::new();
    loop {
        let settings = Settings {
            quota_bytes: quota,
            watch: WatchSettings {
                room: reader::ROOM,
                ..WatchSettings::default()
            },
            ..Settings::default()
        };
        let readers;
        (map, armed, readers) = block_on(async {
            let mut builder = Keyspace::builder().settings(settings);
            if let Some(journal) = journal {
                builder = builder.journal(journal.clone());
            }
            let ks = builder.clock(Arc::new(clock.clone())).open().await.unwrap();
            let mut world = World {
                ks: ks.clone(),
                clock: clock.clone(),
                journal: journal.cloned(),
                map,
                readers: Readers::default(),
                armed,
            };
            drive(ks.driver(), async {
                world.check_history().await;
                if journal.is_some() {
                    world.readers.resume(&world.ks, kept).await;
                } else {
                    Readers::refuse(&world.ks, kept).await;
                }
                while let Some(action) = actions.pop_front() {
                    if matches!(action, Action::Restart) {
                        break;
                    }
                    world.act(action).await;
                    world.check_state().await;
                }
                world.check_history().await;
                (world.map, world.armed, world.readers)
            })
            .await
        });
        kept = readers.part(&map);
        if actions.is_empty() {
            return;
        }
        if journal.is_none() {
            // Memory does not survive: the rest is another keyspace's.
            map = Map::new(quota);
        }
        map.restart();
    }
}

impl World {
    async fn act(&mut self, action: Action) {
        match action {
            Action::Txn(txn) => self.txn(txn).await,
            Action::Read(request) => self.read(request).await,
            Action::Grant(id, secs) => {
                let granted = self.ks.lease_grant(Some(id), Duration::from_secs(secs)).await;
                let wanted = if self.map.leases.contains_key(&id) {
                    Err("exists")
                } else if self.fails() {
                    Err("journal")
                } else {
                    self.map.grant(id, secs);
                    Ok(())
                };
                assert_eq!(granted.map(|_| ()).map_err(|error| kind(&error)), wanted);
            }
            Action::Revoke(id) => {
                let revoked = self.ks.lease_revoke(id).await;
                let wanted = if !self.map.leases.contains_key(&id) {
                    Err("no lease")
                } else if self.fails() {
                    Err("journal")
                } else {
                    self.map.end_lease(id);
                    Ok(self.map.current())
                };
                let revoked = revoked.map(|header| header.revision);
                assert_eq!(revoked.map_err(|error| kind(&error)), wanted);
            }
            Action::KeepAlive(id) => {
                let kept = self.ks.lease_keep_alive(id).await;
                let wanted = self.map.keep_alive(id).ok_or("no lease");
                let kept = kept.map(|(_, ttl)| ttl.as_secs());
                assert_eq!(kept.map_err(|error| kind(&error)), wanted);
            }
            Action::Advance(secs) => {
                self.clock.advance(Duration::from_secs(secs));
                settle().await;
                self.map.now += secs;
                if self.map.has_expired() && !self.fails() {
                    self.map.expire();
                }
            }
            Action::Compact(share) => {
                // One before the oldest up to one after the current.
                let (oldest, current) = (self.map.oldest.0, self.map.current().0);
                let count = usize::try_from(current + 3 - oldest).unwrap();
                let to = Revision(oldest - 1 + share.index(count) as u64);
                let compacted = self.ks.compact(to).await;
                let wanted = self.map.compact(to);
                assert_eq!(
                    compacted.map(|_| ()).map_err(|error| kind(&error)),
                    wanted,
                    "{to}"
                );
                self.check_history().await;
            }
            Action::Watch(asked) => self.readers.watch(&self.ks, &self.map, asked).await,
            Action::Follow(at, count) => self.readers.read(at, count),
            Action::FailNextCommit => {
                if let Some(journal) = &self.journal
                    && !std::mem::replace(&mut self.armed, true)
                {
                    journal.fail_commit(1);
                }
            }
            Action::Restart => unreachable!("a restart is the caller's business"),
        }
    }

    /// Whether the commit that is due now was to fail.
    fn fails(&mut self) -> bool {
        std::mem::replace(&mut self.armed, false)
    }

    async fn txn(&mut self, txn: Txn) {
        let answer = self.ks.txn(txn.clone()).await;
        if let Err(invalid) = txn.validate() {
            assert_eq!(kind(&answer.unwrap_err()), kind(&invalid));
            return;
        }
        let wanted = self.map.evaluate(&txn);
        let changes = wanted.as_ref().is_ok_and(|outcome| !outcome.events.is_empty());
        let wanted: Result<_, Refused> = match wanted {
            Ok(_) if changes && self.fails() => Err("journal"),
            Ok(outcome) => Ok((
                outcome.succeeded,
                outcome.responses.clone(),
                self.map.commit(outcome),
            )),
            Err(refused) => Err(refused),
        };
        let answer =
            answer.map(|response| (response.succeeded, response.responses, response.header.revision));
        assert_eq!(answer.map_err(|error| kind(&error)), wanted, "{txn:#?}");
    }

    async fn read(&self, request: RangeRequest) {
        let answer = self.ks.range(request.clone()).await;
        let answer = answer.map(|(header, response)| {
            assert_eq!(header.revision, self.map.current());
            response
        });
        let wanted = self.map.read(&request);
        assert_eq!(answer.map_err(|error| kind(&error)), wanted, "{request:#?}");
    }

    /// Compares all that can be read, at every revision.
    async fn check_state(&self) {
        let (oldest, current) = (self.map.oldest, self.map.current());
        for revision in (oldest.0..=current.0).map(Revision) {
            let (_, response) = self.ks.range(at(revision)).await.unwrap();
            let wanted: Vec<_> = self.map.at(revision).values().cloned().collect();
            assert_eq!(response.kvs, wanted, "at {revision}");
        }
        let future = self.ks.range(at(current.next())).await.unwrap_err();
        assert!(matches!(future, Error::FutureRevision { .. }), "{future}");
        let compacted = self.ks.range(at(oldest.prev())).await.unwrap_err();
        assert!(matches!(compacted, Error::Compacted { .. }), "{compacted}");

        let status = self.ks.status().await.unwrap();
        assert_eq!((status.oldest, status.revision), (oldest, current));
        assert_eq!(status.keys, self.map.at(current).len() as u64);
        assert_eq!(status.bytes, self.map.used());
        let ids: Vec<_> = self.map.leases.keys().copied().collect();
        assert_eq!(status.leases, ids.len() as u64);
        assert_eq!(self.ks.lease_list().await.unwrap().1, ids);
        for id in (1..=4).map(LeaseId) {
            let info = self.ks.lease_info(id).await.map(|(_, info)| {
                let keys: Vec<_> = info.keys;
                (info.granted.as_secs(), info.remaining.as_secs(), keys)
            });
            assert_eq!(info.map_err(|error| kind(&error)), self.map.lease_info(id));
        }
    }

    /// Compares the records that are kept, with what was there before each event.
    async fn check_history(&self) {
        let wanted = self.map.records();
        if wanted.is_empty() {
            return;
        }
        let watch = self.ks.watch(KeyRange::all()).with_prev_kv();
        let mut watch = watch.from_revision(self.map.oldest).start().await.unwrap();
        for (revision, events) in wanted {
            let batch = watch.next().await.unwrap();
            assert_eq!((batch.kind(), batch.revision()), (BatchKind::Events, revision));
            let seen: Vec<_> = batch.iter().map(EventRef::to_owned).collect();
            assert_eq!(seen, events, "of {revision}");
        }
    }
}

fn at(revision: Revision) -> RangeRequest {
    RangeRequest {
        revision: Some(revision),
        ..RangeRequest::new(KeyRange::all())
    }
}

/// Lets the driver do what it can do by now.
async fn settle() {
    let mut rounds = 0;
    poll_fn(|cx| {
        rounds += 1;
        if rounds > 4 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn quota() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(u64::MAX), 1 => 8..40_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_keyspace_in_memory_does_what_a_map_with_copies_does(actions in actions(), quota in quota()) {
        run(actions, None, quota);
    }

    #[test]
    fn a_keyspace_with_a_journal_does_what_a_map_with_copies_does(actions in actions(), quota in quota()) {
        run(actions, Some(&MemoryJournal::new()), quota);
    }
}
