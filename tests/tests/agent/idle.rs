//! What an agent on which nothing happens asks of its server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewatch_core::conformance::{Call, Intercept, intercepted};
use tidewatch_core::{BoxFuture, Clock, Error, Keyspace, LeaseId, ManualClock, Revision};
use tidewatch_docker::fake::FakeDocker;
use tidewatch_docker::{Container, Herald, Reconciler, ReconcilerStatus};

/// Passes everything on, and counts it.
struct Counting {
    inner: Keyspace,
    calls: Mutex<BTreeMap<Call, usize>>,
    reports: AtomicUsize,
}

impl Counting {
    /// The calls since the last time, and the reports.
    fn take(&self) -> (BTreeMap<Call, usize>, usize) {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        (calls, self.reports.swap(0, Ordering::Relaxed))
    }
}

/// One call, as a client makes it.
impl Herald for Counting {
    fn keep_alive<'a>(
        &'a self,
        _: &'a ReconcilerStatus,
        lease: LeaseId,
        _: Revision,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        self.reports.fetch_add(1, Ordering::Relaxed);
        let kept = self.inner.lease_keep_alive(lease);
        Box::pin(async move { kept.await.map(|_| true) })
    }
}

impl Intercept for Counting {
    fn before(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn pass(clock: &ManualClock, time: Duration) {
    let until = clock.now() + time;
    while clock.now() < until {
        clock.advance(Duration::from_millis(100));
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_idle_agent_keeps_its_lease_alive_and_reads_what_is_new_once_a_resync() {
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let inner = Keyspace::builder().clock(shared.clone()).open().await.unwrap();
    tokio::spawn(inner.driver());
    let counting = Arc::new(Counting {
        inner: inner.clone(),
        calls: Mutex::default(),
        reports: AtomicUsize::default(),
    });
    let docker = FakeDocker::new("d1");
    let mut container = Container::new("c1", "blog-web-1");
    container.labels = [
        ("com.docker.compose.project".to_owned(), "blog".to_owned()),
        ("com.docker.compose.service".to_owned(), "web".to_owned()),
    ]
    .into();
    docker.put_silently(container);
    let reconciler = Reconciler::builder("h1".parse().unwrap(), docker.clone())
        .keyspace(intercepted(&inner, counting.clone()))
        .events(docker.clone())
        .inspect(docker)
        .clock(shared)
        .herald(counting.clone())
        .seed(7)
        .build();
    let status = reconciler.status();
    tokio::spawn(reconciler.run(std::future::pending()));
    pass(&clock, Duration::from_secs(130)).await;
    counting.take();
    let (resyncs, revision) = (status.snapshot().resyncs, inner.status().await.unwrap().revision);
    pass(&clock, Duration::from_secs(600)).await;
    let resyncs = usize::try_from(status.snapshot().resyncs - resyncs).unwrap();
    let (calls, reports) = counting.take();
    assert!((9..=11).contains(&resyncs), "{resyncs}");
    assert_eq!(calls, [(Call::Txn, resyncs)].into());
    assert!((175..=182).contains(&reports), "one every 3.3 s: {reports}");
    assert_eq!(
        inner.status().await.unwrap().revision,
        revision,
        "and nothing is written"
    );
}
