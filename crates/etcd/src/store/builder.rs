//! Setting up a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewatch_core::{BoxFuture, Clock, SystemClock, key};
use tidewatch_directives::Applier;

use super::EtcdDirectiveStore;
use super::run::Follower;
use crate::client::{Access, Tls};
use crate::error::Error;
use crate::failure::Failure;
use crate::feed::Feed;
use crate::machine::Selection;
use crate::start::{DEFAULT_START_BUDGET, LONGEST_START};

/// How long reading and writing the file of the last good set may take each: a disk takes milliseconds, and one that hangs must leave time for etcd.
const LAST_GOOD_TIMEOUT: Duration = Duration::from_secs(1);

/// A store that is being set up; see [`EtcdDirectiveStore::builder`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by `connect`"]
pub struct EtcdDirectiveStoreBuilder {
    access: Access,
    key: String,
    last_good: Option<PathBuf>,
    start_budget: Duration,
    clock: Arc<dyn Clock>,
}

impl EtcdDirectiveStoreBuilder {
    pub(super) fn new(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        key: impl Into<String>,
    ) -> Self {
        Self {
            access: Access::new(endpoints),
            key: key.into(),
            last_good: None,
            start_budget: DEFAULT_START_BUDGET,
            clock: SystemClock::shared(),
        }
    }

    /// Keeps the last good set in this file. A start during an outage begins with it, and is marked stale. A file that
    /// cannot be read, or not within a second, is reported in the status and left out.
    pub fn last_good(mut self, path: impl Into<PathBuf>) -> Self {
        self.last_good = Some(path.into());
        self
    }

    /// Connects over TLS; with [`Tls::identity`] both sides show a certificate.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.access = self.access.tls(tls);
        self
    }

    /// Reads as this user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.access = self.access.user(name, password);
        self
    }

    /// How long [`connect`](Self::connect) may take; [`DEFAULT_START_BUDGET`] unless set.
    pub fn start_budget(mut self, budget: Duration) -> Self {
        self.start_budget = budget;
        self
    }

    /// Takes the time from this clock. Pings of connections keep to the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads the key, and follows it from then on.
    ///
    /// Where etcd does not answer within the start budget, but there is a last good set on disk, that one is in force, the
    /// status says that it is stale, and attempts go on. A value that is malformed is no reason to fail either: the set before it
    /// stays in force (the one from disk, or the empty one) and the status says what is wrong.
    ///
    /// # Errors
    /// [`Error::Config`] at once; [`Error::Tls`] and [`Error::Denied`] as soon as every endpoint has been tried, whatever
    /// there is on disk, because only a person can mend them; [`Error::Unreachable`] when the start budget is used up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(self) -> Result<EtcdDirectiveStore, Error> {
        let range = key(self.key.clone().into_bytes()).map_err(|error| Error::Config {
            what: "key",
            reason: error.to_string(),
        })?;
        let transport = self.access.transport()?;
        let budget = self.clock.sleep(self.start_budget.min(LONGEST_START));
        let mut applier = Applier::new(self.clock.clone());
        if let Some(path) = &self.last_good {
            let limit = LAST_GOOD_TIMEOUT.min(self.start_budget / 2);
            applier = applier.with_last_good_within(path, limit).await;
        }
        let selection = Selection {
            range,
            prev_kv: false,
            history: 0,
        };
        let feed = Feed::new(
            selection,
            transport,
            self.access.endpoints(),
            self.access.has_password(),
            self.clock.clone(),
        );
        let mut follower = Follower::new(feed, applier);
        if !self.has_started(&mut follower, budget).await? {
            let failure = follower.last_failure();
            if !follower.has_set() {
                return Err(self.refused(failure));
            }
            tracing::warn!(error = %failure, "etcd does not answer; the last good directives are in force");
        }
        Ok(EtcdDirectiveStore {
            handle: follower.handle().clone(),
            task: tokio::spawn(follower.run()),
        })
    }

    /// Whether the key was read within the budget.
    async fn has_started(
        &self,
        follower: &mut Follower,
        budget: BoxFuture<'static, ()>,
    ) -> Result<bool, Error> {
        let started = {
            let start = std::pin::pin!(follower.start(self.access.endpoints()));
            match select(start, budget).await {
                Either::Left((outcome, budget)) => outcome.map(|()| budget),
                Either::Right(_) => return Ok(false),
            }
        };
        let budget = started.map_err(|failure| self.refused(failure))?;
        // Who is started again at once is to find what this start has read.
        let limit = select(budget, self.clock.sleep(LAST_GOOD_TIMEOUT));
        select(std::pin::pin!(follower.save()), limit).await;
        Ok(true)
    }

    fn refused(&self, source: Failure) -> Error {
        self.access.refused(&self.key, source)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use tidewatch_core::ManualClock;

    use super::*;

    fn builder(clock: &ManualClock) -> EtcdDirectiveStoreBuilder {
        // Nobody listens there.
        EtcdDirectiveStoreBuilder::new(["http://127.0.0.1:1"], "/directives").clock(Arc::new(clock.clone()))
    }

    #[test]
    fn a_disk_that_hangs_does_not_use_up_the_start() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (release, hang) = mpsc::channel::<()>();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || hang.recv().unwrap_err());
            let clock = ManualClock::new();
            let begun = clock.now();
            let connect = builder(&clock)
                .last_good("/nowhere/last-good")
                .start_budget(Duration::from_secs(3));
            let mut connect = pin!(connect.connect());
            let mut cx = Context::from_waker(Waker::noop());
            let error = loop {
                if let Poll::Ready(connected) = connect.as_mut().poll(&mut cx) {
                    break connected.unwrap_err();
                }
                assert!(
                    clock.now() <= begun + Duration::from_secs(3),
                    "it takes longer than it may"
                );
                clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            };
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            drop(release);
        });
    }

    #[tokio::test]
    async fn a_start_may_take_for_ever() {
        let clock = ManualClock::new();
        let mut connect = pin!(builder(&clock).start_budget(Duration::MAX).connect());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(connect.as_mut().poll(&mut cx).is_pending());
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let builder = EtcdDirectiveStoreBuilder::new(["http://root:s3cret@etcd-1:2379"], "/directives");
        let shown = format!("{builder:?} {}", builder.access.shown_endpoints());
        assert!(
            shown.contains("etcd-1:2379") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
