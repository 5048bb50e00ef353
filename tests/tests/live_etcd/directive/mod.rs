//! The directive store on a real etcd: every flaw of a plain get-then-watch loop, beside such a loop, and every fault.

mod certificate;
mod fault;
mod flaw;
mod life;
mod naive;
mod paced;
mod right;
mod start;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tidewatch_directives::{Connection, DirectiveStore, Status};
use tidewatch_etcd::EtcdDirectiveStore;
use tidewatch_tests::wait::eventually_async;

/// The key of the tests.
const KEY: &str = "/directives";

/// How long to wait for something that must come. Reached only where a test fails.
const CEILING: Duration = Duration::from_secs(60);

/// A set of directives with these ids, which live for an hour.
fn set(ids: &[&str]) -> String {
    set_with_ttl(ids, 3600)
}

fn set_with_ttl(ids: &[&str], ttl: u64) -> String {
    let directives: Vec<_> = ids
        .iter()
        .map(|id| format!(r#"{{"id":"{id}","level":"debug","ttl_secs":{ttl}}}"#))
        .collect();
    format!(r#"{{"directives":[{}]}}"#, directives.join(","))
}

/// Puts directives, and whatever else, where nothing stands in between.
#[derive(Clone)]
struct Publisher(Client);

impl Publisher {
    async fn new(endpoints: Vec<String>) -> Self {
        Self(Client::connect(endpoints, None).await.expect("etcd is there"))
    }

    /// Returns its revision.
    async fn publish(&self, value: impl Into<Vec<u8>>) -> i64 {
        let answer = self.0.kv_client().put(KEY, value, None).await;
        let answer = answer.expect("etcd takes a put");
        answer.header().expect("answers have headers").revision()
    }

    async fn delete(&self) {
        let answer = self.0.kv_client().delete(KEY, None).await;
        assert_eq!(answer.expect("etcd takes a deletion").deleted(), 1);
    }

    /// Makes history that concerns nobody, and forgets all of it.
    async fn compact(&self) {
        let mut kv = self.0.kv_client();
        let mut revision = 0;
        for _ in 0..10 {
            let put = kv.put("/elsewhere", "x", None).await.expect("etcd takes a put");
            revision = put.header().expect("answers have headers").revision();
        }
        kv.compact(revision, None).await.expect("etcd compacts");
    }
}

/// A store without anything special, which reads at these addresses.
async fn store(endpoints: impl IntoIterator<Item = impl ToString>) -> EtcdDirectiveStore {
    let endpoints = endpoints.into_iter().map(|endpoint| endpoint.to_string());
    let store = EtcdDirectiveStore::builder(endpoints, KEY)
        .start_budget(CEILING)
        .connect();
    store.await.expect("etcd is there")
}

/// The ids of the directives that live, in order.
fn ids(store: &impl DirectiveStore) -> Vec<String> {
    let snapshot = store.load();
    let mut ids: Vec<_> = snapshot
        .live()
        .map(|in_force| in_force.directive().id().to_owned())
        .collect();
    ids.sort();
    ids
}

async fn until(mut holds: impl FnMut() -> bool) -> bool {
    eventually_async(CEILING, || std::future::ready(holds())).await
}

/// Waits until exactly these are in force.
async fn until_ids(store: &impl DirectiveStore, expected: &[&str]) {
    assert!(
        until(|| ids(store) == expected).await,
        "expected {expected:?}, found {:?}; {:?}",
        ids(store),
        store.status()
    );
}

/// Waits until the status is like this.
async fn until_status(store: &impl DirectiveStore, holds: impl Fn(&Status) -> bool) -> Status {
    let held = until(|| holds(&store.status())).await;
    assert!(held, "the status does not come; it is {:?}", store.status());
    store.status()
}

async fn until_live(store: &impl DirectiveStore) {
    until_status(store, |status| status.connection == Connection::Live).await;
}

/// Waits until the connection is interrupted, and tells why.
async fn until_interrupted(store: &impl DirectiveStore) -> Arc<str> {
    let interrupted = |status: &Status| matches!(status.connection, Connection::Interrupted { .. });
    match until_status(store, interrupted).await.connection {
        Connection::Interrupted { error, .. } => error,
        // It was a moment ago.
        _ => "".into(),
    }
}
