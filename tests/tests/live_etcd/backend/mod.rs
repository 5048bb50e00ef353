//! A keyspace in a real etcd.

mod conformance;
mod fault;
mod sharing;
mod start;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tidewatch_core::watch::{BatchKind, Prev};
use tidewatch_core::{Backend as _, Batch, EventKind, Keyspace, Watch};
use tidewatch_etcd::{EtcdBackend, EtcdBackendBuilder};
use tidewatch_tests::wait::eventually_async;
use tokio::task::JoinHandle;

/// How long to wait for something that must come. Generous: some of it is much, and it is only reached when a test fails.
const CEILING: Duration = Duration::from_secs(600);

/// A backend with its driver, as a server has it.
struct Served {
    backend: Arc<EtcdBackend>,
    ks: Keyspace,
    driver: JoinHandle<()>,
}

impl Served {
    async fn new(builder: EtcdBackendBuilder) -> Self {
        let backend = builder
            .start_budget(CEILING)
            .connect()
            .await
            .expect("etcd is there");
        Self {
            ks: Keyspace::new(backend.clone()),
            driver: tokio::spawn(backend.driver()),
            backend,
        }
    }

    async fn at(endpoints: impl IntoIterator<Item = impl ToString>) -> Self {
        Self::new(EtcdBackend::builder(texts(endpoints))).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn texts(endpoints: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    endpoints
        .into_iter()
        .map(|endpoint| endpoint.to_string())
        .collect()
}

async fn client(endpoints: impl IntoIterator<Item = impl ToString>) -> Client {
    Client::connect(texts(endpoints), None)
        .await
        .expect("etcd is there")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = tokio::time::timeout(CEILING, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(held.await.is_ok(), "{what} does not come");
}

async fn next(watch: &mut Watch) -> Batch {
    let next = tokio::time::timeout(CEILING, watch.next()).await;
    next.expect("there is something to say")
        .expect("the watch goes on")
}

/// The next batch of events, as its revision and what is in it.
async fn next_events(watch: &mut Watch) -> (u64, Vec<String>) {
    loop {
        let batch = next(watch).await;
        if batch.kind() == BatchKind::Events {
            return (batch.revision().0, lines(&batch));
        }
    }
}

fn lines(batch: &Batch) -> Vec<String> {
    let line = |event: tidewatch_core::watch::EventRef<'_>| {
        let before = match event.prev() {
            Prev::Entry(kv) => format!(" after {}", kv.value.escape_ascii()),
            Prev::Absent | Prev::NotRequested => String::new(),
        };
        let key = event.key().escape_ascii();
        match event.kind() {
            EventKind::Put => format!("{key}={}{before}", event.value().escape_ascii()),
            EventKind::Delete => format!("{key} deleted{before}"),
        }
    };
    batch.iter().map(line).collect()
}

/// Looks whether something holds within the ceiling.
async fn comes_to_hold<F: Future<Output = bool>>(condition: impl FnMut() -> F) -> bool {
    eventually_async(CEILING, condition).await
}
