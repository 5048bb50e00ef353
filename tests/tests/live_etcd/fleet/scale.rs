//! Many watchers, and few watches in etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tidewatch_client::Client;
use tidewatch_core::prefix;
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::wait::eventually_async;
use tokio::task::JoinSet;

use super::{CEILING, PREFIX, Server, key, lines, next};

/// How many watches there are in etcd.
const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";

const WATCHERS: usize = 10_000;

/// As many as a server gives a client by default, in the end.
const CONNECTIONS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_are_at_most_five_watches_in_etcd_also_right_after_a_restart()
-> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let etcd = Arc::new(etcd);
    let mut server = Server::on(etcd.endpoints()).await?;
    let before = server.ks.put(key("begin"), "").await?;
    let (started, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut watchers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = Client::builder(server.program.endpoint()).connect().await?;
        for _ in 0..WATCHERS / CONNECTIONS {
            let (ks, started, seen) = (client.keyspace(), started.clone(), seen.clone());
            watchers.spawn(async move {
                let mut watch = ks
                    .watch(prefix(PREFIX)?)
                    .from_revision(before.next())
                    .start()
                    .await?;
                started.fetch_add(1, Ordering::Relaxed);
                for expected in ["k=1", "k=2"] {
                    let events = loop {
                        let batch = next(&mut watch).await?;
                        if !batch.is_empty() {
                            break lines(&batch);
                        }
                    };
                    ensure!(events == [expected], "{events:?} instead of {expected}");
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(watch)
            });
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    let most = tokio::task::spawn_blocking({
        let (etcd, done) = (etcd.clone(), done.clone());
        move || {
            let mut most = 0.0_f64;
            while !done.load(Ordering::Relaxed) {
                most = most.max(etcd.metric(0, WATCHES)?);
                std::thread::sleep(Duration::from_millis(5));
            }
            anyhow::Ok(most)
        }
    });
    let all = |counter: &Arc<AtomicUsize>, many: usize| {
        let counter = counter.clone();
        eventually_async(CEILING, move || {
            let is_reached = counter.load(Ordering::Relaxed) >= many;
            std::future::ready(is_reached)
        })
    };
    ensure!(all(&started, WATCHERS).await, "only {started:?} have begun");
    server.ks.put(key("k"), "1").await?;
    ensure!(
        all(&seen, WATCHERS).await,
        "only {seen:?} have seen the first put"
    );
    // All of them come back at once, to a server that has just read what there is.
    let server = tokio::task::spawn_blocking(move || {
        server.program.crash_and_restart()?;
        anyhow::Ok(server)
    });
    let server = server.await??;
    server.ks.put(key("k"), "2").await?;
    ensure!(
        all(&seen, 2 * WATCHERS).await,
        "only {seen:?} have seen what came then"
    );
    let mut kept = Vec::new();
    while let Some(watch) = watchers.join_next().await {
        kept.push(watch??);
    }
    done.store(true, Ordering::Relaxed);
    let most = most.await??;
    ensure!(most <= 5.0, "{most} watches in etcd");
    let status = server.status()?;
    let all_of_them = status["watchers"].as_u64().context("no watchers")?;
    ensure!(all_of_them >= WATCHERS as u64, "{status}");
    Ok(())
}
