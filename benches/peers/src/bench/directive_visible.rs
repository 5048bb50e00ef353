//! `directive_visible_etcd`, `directive_visible_keyspace`: from publishing a set of directives until a store has it in force, beside
//! what the put alone takes.
//!
//! **How.** A store follows a key: one of etcd 3.5.1, or one of a keyspace in this process that keeps its data in memory. The
//! publisher puts the same kind of set again and again, each with another id, and takes the time from before the put until the
//! put is acknowledged, and until a task that waits for changes of the store has seen the set in a snapshot. The next put comes
//! after both. One repetition is 500 puts after 50 unmeasured ones; its figures are medians.
//!
//! **Fairness.** The put is a part of both figures, so that the ratio says what being followed costs beyond it. For etcd there
//! is also a bare watch of `etcd-client`'s on the same key and a connection of its own, which takes no part in deciding what is in force.
//!
//! **Unit.** Microseconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidewatch_core::{Keyspace, SystemClock};
use tidewatch_directives::{Changes, DirectiveStore, KeyspaceDirectiveStore};
use tidewatch_etcd::EtcdDirectiveStore;
use tokio::sync::mpsc;

use super::Bench;
use crate::alternate::{Side, alternate, median, percentile};
use crate::row::{Better, Row};
use crate::server::{self, Storage};
use crate::two_workers::{self, now};

const ETCD: &str = "directive_visible_etcd";
const KEYSPACE: &str = "directive_visible_keyspace";

const KEY: &str = "/directives";
const WARM_UP: usize = 50;
const MEASURED: usize = 500;

/// Through the store over etcd.
pub const OVER_ETCD: Bench = Bench {
    names: &[ETCD],
    run: |plan| {
        let sides: [Side<Times>; 2] = [("tidewatch", store_on_etcd), ("etcd-client", bare_watch)];
        let [ours, bare] = alternate(plan, ETCD, sides)?;
        let [put, visible] = medians(&ours);
        let [_, bare] = medians(&bare);
        let row = |peer, theirs| Row::new(ETCD, "µs", Better::Less, visible, peer, theirs);
        Ok(vec![row("the put alone", put), row("a bare watch", bare)])
    },
};

/// Through the store over a keyspace of this process.
pub const OVER_KEYSPACE: Bench = Bench {
    names: &[KEYSPACE],
    run: |plan| {
        let sides: [Side<Times>; 1] = [("tidewatch", store_on_keyspace)];
        let [ours] = alternate(plan, KEYSPACE, sides)?;
        let [put, visible] = medians(&ours);
        Ok(vec![Row::new(
            KEYSPACE,
            "µs",
            Better::Less,
            visible,
            "the put alone",
            put,
        )])
    },
};

/// What one repetition says, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    put: f64,
    visible: f64,
}

fn medians(repetitions: &[Times]) -> [f64; 2] {
    let of = |figure: fn(&Times) -> f64| median(repetitions.iter().map(figure).collect());
    [of(|times| times.put), of(|times| times.visible)]
}

fn store_on_etcd() -> Result<Times> {
    let etcd = server::etcd35(Storage::Memory)?;
    let endpoint = etcd.addr().to_string();
    two_workers::run(async move {
        let store = EtcdDirectiveStore::connect([&endpoint], KEY, SystemClock::shared()).await?;
        let seen = seen_by(store.changes());
        let client = etcd_client::Client::connect([&endpoint], None).await?;
        let times = publish(client, seen).await;
        drop(store);
        times
    })
}

fn bare_watch() -> Result<Times> {
    let etcd = server::etcd35(Storage::Memory)?;
    let endpoint = etcd.addr().to_string();
    two_workers::run(async move {
        let mut watching = etcd_client::Client::connect([&endpoint], None).await?;
        let mut watch = watching.watch(KEY, None).await?;
        let (sender, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(response)) = watch.message().await {
                if !response.events().is_empty() && sender.send(now()).is_err() {
                    return;
                }
            }
        });
        publish(etcd_client::Client::connect([&endpoint], None).await?, seen).await
    })
}

fn store_on_keyspace() -> Result<Times> {
    two_workers::run(async {
        let keyspace = Keyspace::memory();
        tokio::spawn(keyspace.driver());
        let store = KeyspaceDirectiveStore::builder(keyspace.clone()).start();
        store.connected().await;
        let seen = seen_by(store.changes());
        publish(keyspace, seen).await
    })
}

/// When a store had another set in force, for each change.
fn seen_by(mut changes: Changes) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            if sender.send(now()).is_err() {
                return;
            }
        }
    });
    seen
}

/// Puts sets, one after the other.
async fn publish(mut to: impl Put, mut seen: mpsc::UnboundedReceiver<Instant>) -> Result<Times> {
    // A store may report the state in which it begins, and takes a moment for it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    while seen.try_recv().is_ok() {}
    let (mut puts, mut visible) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + MEASURED {
        let directive = serde_json::json!({"id": format!("d{number}"), "level": "debug", "ttl_secs": 3600});
        let set = serde_json::json!({ "directives": [directive] }).to_string();
        let started = now();
        to.put(set).await?;
        let acknowledged = now();
        let seen = seen.recv().await.context("nobody follows the key any more")?;
        if number >= WARM_UP {
            puts.push(acknowledged - started);
            visible.push(seen - started);
        }
    }
    let micros = |times: &mut Vec<_>| percentile(times, 0.5).as_secs_f64() * 1e6;
    Ok(Times {
        put: micros(&mut puts),
        visible: micros(&mut visible),
    })
}

/// Where sets are published.
trait Put {
    async fn put(&mut self, set: String) -> Result<()>;
}

impl Put for etcd_client::Client {
    async fn put(&mut self, set: String) -> Result<()> {
        self.kv_client().put(KEY, set, None).await?;
        Ok(())
    }
}

impl Put for Keyspace {
    async fn put(&mut self, set: String) -> Result<()> {
        Self::put(self, KEY, set).await?;
        Ok(())
    }
}
