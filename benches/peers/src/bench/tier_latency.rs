//! `tier_latency_1`, `tier_latency_2`: what each server between an etcd and a watcher adds.
//!
//! **How.** An etcd 3.5.1, a server with its keyspace in it, and one with its keyspace in that server. The same watch on all three,
//! each by `etcd-client` on a connection of its own; 500 puts into the etcd, one after the other has arrived everywhere. From
//! before the put until each watch has it, the median.
//!
//! **Fairness.** The watches hear of the same put, so that what etcd takes is in all of them. They share two cores, and who comes later waits for
//! those before.
//!
//! **Unit.** Microseconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, WatchOptions};
use tokio::sync::mpsc;

use super::Bench;
use crate::alternate::{Plan, percentile};
use crate::payload;
use crate::row::{Better, Row};
use crate::server::{self, Storage};
use crate::two_workers::{self, now};

const ONE: &str = "tier_latency_1";
const TWO: &str = "tier_latency_2";

const KEY: &str = "/tier/key";
const WARM_UP: usize = 50;
const MEASURED: usize = 500;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[ONE, TWO],
    run,
};

fn run(_: Plan) -> Result<Vec<Row>> {
    let second = server::tidewatch_above(server::tidewatch_on_etcd(Storage::Memory)?)?;
    let first = second.upstream().context("it has a tier below")?;
    let etcd = first.upstream().context("that has an etcd")?;
    let tiers = [etcd, first, &second].map(|server| server.addr().to_string());
    let [etcd, one, two] = two_workers::run(async move {
        let mut watches = Vec::new();
        for endpoint in &tiers {
            watches.push(arrivals(endpoint).await?);
        }
        let [etcd, _, _] = &tiers;
        let mut client = Client::connect([etcd], None).await?;
        let mut times = [const { Vec::new() }; 3];
        for number in 0..WARM_UP + MEASURED {
            let began = now();
            client.put(KEY, payload::numbered(number as u64), None).await?;
            for (watch, times) in watches.iter_mut().zip(&mut times) {
                let arrived = watch.recv().await.context("a watch ended")?;
                if number >= WARM_UP {
                    times.push(arrived - began);
                }
            }
        }
        Ok(times.map(|mut times: Vec<Duration>| percentile(&mut times, 0.5).as_secs_f64() * 1e6))
    })?;
    let row = |name, ours| Row::new(name, "µs", Better::Less, ours, "etcd-3.5", etcd);
    Ok(vec![row(ONE, one), row(TWO, two)])
}

/// When each event of the key came.
async fn arrivals(endpoint: &str) -> Result<mpsc::UnboundedReceiver<Instant>> {
    let mut client = Client::connect([endpoint], None).await?;
    let mut watch = client.watch(KEY, Some(WatchOptions::new())).await?;
    let created = watch.message().await?.context("the watch ended")?;
    ensure!(created.created() && !created.canceled(), "{created:?}");
    let (sender, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let _connection = client;
        while let Ok(Some(response)) = watch.message().await {
            let at = now();
            for _ in response.events() {
                if sender.send(at).is_err() {
                    return;
                }
            }
        }
    });
    Ok(arrivals)
}
