//! What an embedded keyspace promises beyond every other backend: how it gets on with its journal,
//! its driver and its bounds.

mod bound;
mod durability;
mod lifecycle;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::clock::ManualClock;
use crate::conformance::{MemoryJournal, block_on, drive};
use crate::error::Error;
use crate::key::KeyRange;
use crate::keyspace::Keyspace;
use crate::settings::Settings;
use crate::txn::RangeRequest;
use crate::watch::{BatchKind, Watch};

/// A keyspace on a journal, with everything that can be moved by hand.
struct Rig {
    ks: Keyspace,
    journal: MemoryJournal,
    clock: ManualClock,
}

impl Rig {
    async fn open(journal: &MemoryJournal, settings: Settings) -> Self {
        let clock = ManualClock::new();
        let builder = Keyspace::builder().journal(journal.clone()).settings(settings);
        let ks = builder.clock(Arc::new(clock.clone())).open().await.unwrap();
        Self {
            ks,
            journal: journal.clone(),
            clock,
        }
    }

    /// Runs `body` with the driver beside it.
    fn run(body: impl AsyncFnOnce(&Self)) {
        Self::run_on(&MemoryJournal::new(), Settings::default(), body);
    }

    fn run_on(journal: &MemoryJournal, settings: Settings, body: impl AsyncFnOnce(&Self)) {
        block_on(async {
            let rig = Self::open(journal, settings).await;
            drive(rig.ks.driver(), body(&rig)).await;
        });
    }

    async fn keys(&self) -> Vec<String> {
        let (_, response) = self.ks.range(RangeRequest::new(KeyRange::all())).await.unwrap();
        let keys = response.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()));
        keys.map(Result::unwrap).collect()
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

fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn is_silent(watch: &mut Watch) -> bool {
    watch
        .poll_next_batch(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

/// The revisions that a watch delivers up to its end.
async fn revisions_to_the_end(watch: &mut Watch) -> Vec<u64> {
    let mut revisions = Vec::new();
    while let Ok(batch) = watch.next().await {
        if batch.kind() == BatchKind::Events {
            revisions.push(batch.revision().0);
        }
    }
    revisions
}

fn is_journal_error<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Journal(_)))
}
