//! `docker_event_to_watch`: from Docker's event to a client's watch; and what churn costs.
//!
//! **How.** A private daemon, a server with its journal, a client with a watch on `/containers/` over gRPC, and a
//! subscription of our own to the daemon's events. 100 containers are started and killed one after the other. For each the time
//! from the arrival of `start` and `die` at our subscription to the arrival of the row in that state at the client; and from
//! there to the answer of an inspection that is asked for when the event arrives.
//!
//! `docker_start_to_watch` and `docker_end_to_watch` are the same times apart. Docker tells of an end before it is complete: it
//! lists the container as running for some ten milliseconds more, and an inspection waits. Nobody who takes the state
//! from Docker and not from the event can show it earlier.
//!
//! Then `docker_churn`: as many threads as there are cores start and kill containers for ten seconds, as fast as the daemon
//! lets them.
//!
//! **Fairness.** Both subscriptions are on the same daemon, so that what it takes to tell is in neither. There is no peer: the
//! figures stand beside what is promised, or beside what the daemon itself uses.
//!
//! **Unit.** Milliseconds; starts a second; milliseconds of CPU a start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidewatch_client::{Client, Watch, prefix};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Bench;
use crate::alternate::{Plan, percentile};
use crate::process::cpu;
use crate::row::{Better, Row};
use crate::server::{self, Dockerd, Told};
use crate::two_workers::{self, now};

const LATENCY: &str = "docker_event_to_watch";
const START: &str = "docker_start_to_watch";
const END: &str = "docker_end_to_watch";
const RATE: &str = "docker_churn_starts_per_second";
const CPU: &str = "docker_churn_cpu_per_start";

const CONTAINERS: usize = 100;
const CHURN: Duration = Duration::from_secs(10);
const CHURNERS: usize = 2;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[LATENCY, START, END, RATE, CPU],
    run,
};

fn run(_: Plan) -> Result<Vec<Row>> {
    let docker = Arc::new(Dockerd::start()?);
    let server = server::tidewatch_on(&docker.socket())?;
    let (addr, pid) = (server.addr(), server.pid());
    let rows = two_workers::run(async move {
        let client = Client::builder(format!("http://{addr}")).connect().await?;
        let declared = r#"{"id":"bench","kind":"stack"}"#;
        client.keyspace().put("/workloads/bench", declared).await?;
        let ids = (0..CONTAINERS).map(|n| docker.create(&format!("c{n}")));
        let ids: Vec<String> = ids.collect::<Result<_>>()?;
        let mut watch = client.watch(prefix("/containers/")?).start().await?;
        let mut events = docker.events()?;
        let mut rows = latency(&docker, &ids, &mut watch, &mut events).await?;
        rows.extend(churn(&docker, &ids, pid, &mut watch, &mut events).await?);
        anyhow::Ok(rows)
    });
    drop(server);
    rows
}

async fn latency(
    docker: &Arc<Dockerd>,
    ids: &[String],
    watch: &mut Watch,
    events: &mut UnboundedReceiver<Told>,
) -> Result<Vec<Row>> {
    let (mut starts, mut ends) = (Lags::default(), Lags::default());
    for id in ids {
        for (verb, action, state, lags) in [
            ("start", "start", "running", &mut starts),
            ("kill", "die", "stopped", &mut ends),
        ] {
            let (daemon, target) = (docker.clone(), id.clone());
            let acted = tokio::task::spawn_blocking(move || daemon.act(&target, verb));
            let settled = async {
                let told = told(events, id, action).await?;
                let (daemon, target) = (docker.clone(), id.clone());
                let inspected = tokio::task::spawn_blocking(move || daemon.inspect(&target));
                inspected.await??;
                Ok((told, now()))
            };
            let ((told, inspected), shown) = tokio::try_join!(settled, shown(watch, id, state))?;
            lags.shown.push(shown.saturating_duration_since(told));
            lags.inspected.push(inspected - told);
            acted.await??;
        }
    }
    let row = |name, lags: &mut Vec<Duration>, fraction, peer, theirs: f64| {
        let ours = percentile(lags, fraction).as_secs_f64() * 1e3;
        Row::new(name, "ms", Better::Less, ours, peer, theirs)
    };
    let inspected = |lags: &mut Lags| percentile(&mut lags.inspected, 0.5).as_secs_f64() * 1e3;
    let (start_inspected, end_inspected) = (inspected(&mut starts), inspected(&mut ends));
    let mut both = [&starts.shown[..], &ends.shown].concat();
    let inspection = "Docker's own inspection";
    Ok(vec![
        row(LATENCY, &mut both, 0.5, "5 ms at p50", 5.0).at_least(1.0),
        row(LATENCY, &mut both, 0.99, "50 ms at p99", 50.0).at_least(1.0),
        row(START, &mut starts.shown, 0.5, inspection, start_inspected),
        row(END, &mut ends.shown, 0.5, inspection, end_inspected),
    ])
}

/// From an event's arrival until somebody shows what it tells.
#[derive(Default)]
struct Lags {
    shown: Vec<Duration>,
    inspected: Vec<Duration>,
}

/// When the daemon's own event came.
async fn told(events: &mut UnboundedReceiver<Told>, id: &str, action: &str) -> Result<Instant> {
    loop {
        let told = events.recv().await.context("the events ended")?;
        if told.id == id && told.action == action {
            return Ok(told.at);
        }
    }
}

/// When the row came that says so.
async fn shown(watch: &mut Watch, id: &str, state: &str) -> Result<Instant> {
    let state = format!("\"state\":\"{state}\"");
    loop {
        let batch = watch.next().await?;
        let at = now();
        for event in &batch {
            let value = String::from_utf8_lossy(event.value());
            if value.contains(id) && value.contains(&state) {
                return Ok(at);
            }
        }
    }
}

async fn churn(
    docker: &Arc<Dockerd>,
    ids: &[String],
    server: u32,
    watch: &mut Watch,
    events: &mut UnboundedReceiver<Told>,
) -> Result<Vec<Row>> {
    let over = Arc::new(AtomicBool::new(false));
    let before = (cpu(server)?, cpu(docker.pid())?, now());
    let churners: Vec<_> = (0..CHURNERS)
        .map(|n| {
            let (docker, over) = (docker.clone(), over.clone());
            let own: Vec<_> = ids.iter().skip(n).step_by(CHURNERS).cloned().collect();
            tokio::task::spawn_blocking(move || {
                for id in own.iter().cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    docker.act(id, "start")?;
                    docker.act(id, "kill")?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    // What is told has to be read, or the server would have a slow watcher.
    let read = async { while watch.next().await.is_ok() {} };
    tokio::select! {
        () = tokio::time::sleep(CHURN) => {}
        () = read => {}
    }
    let after = (cpu(server)?, cpu(docker.pid())?);
    let took = before.2.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for churner in churners {
        churner.await??;
    }
    let mut starts = 0_u32;
    while let Ok(told) = events.try_recv() {
        starts += u32::from(told.action == "start");
    }
    let starts = f64::from(starts.max(1));
    let each = |used: Duration| used.as_secs_f64() * 1e3 / starts;
    let (ours, theirs) = (
        each(after.0.saturating_sub(before.0)),
        each(after.1.saturating_sub(before.1)),
    );
    Ok(vec![
        Row::new(RATE, "starts/s", Better::More, starts / took, "50 a second", 50.0),
        Row::new(CPU, "ms", Better::Less, ours, "dockerd", theirs),
    ])
}
