//! `docker_resync_{100,500,1000,5000}`: a full resync that finds nothing changed, beside Docker's own list call.
//!
//! **How.** A private daemon with so many containers, all with rows. In turn: `Reconciler::reconcile_once`, with all that belongs
//! to it (lease, who the daemon is, list, decoding, reading what is written, planning), and a bare `GET /containers/json?all=1` on a
//! connection of its own, read to its end and not looked at. Of 21 each the median.
//!
//! **Fairness.** The same daemon within the same second. Containers are created and never started, which Docker lists faster
//! than running ones: against us, since its share is smaller.
//!
//! **Unit.** Milliseconds.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tidewatch_core::Keyspace;
use tidewatch_docker::{Engine, Reconciler};

use super::Bench;
use crate::alternate::{Plan, median};
use crate::row::{Better, Row};
use crate::server::Dockerd;
use crate::two_workers::{self, now};

const SIZES: [(usize, &str); 4] = [
    (100, "docker_resync_100"),
    (500, "docker_resync_500"),
    (1000, "docker_resync_1000"),
    (5000, "docker_resync_5000"),
];

/// Of each side, at each size.
const TIMES: usize = 21;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[SIZES[0].1, SIZES[1].1, SIZES[2].1, SIZES[3].1],
    run,
};

fn run(_: Plan) -> Result<Vec<Row>> {
    let docker = Arc::new(Dockerd::start()?);
    two_workers::run(async move {
        let keyspace = Keyspace::memory();
        tokio::spawn(keyspace.driver());
        keyspace
            .put("/workloads/bench", r#"{"id":"bench","kind":"stack"}"#)
            .await?;
        let engine = Engine::at(&format!("unix://{}", docker.socket().display()))?;
        let mut reconciler = Reconciler::builder("h1".parse()?, engine.clone())
            .inspect(engine)
            .keyspace(keyspace.clone())
            .build();
        let mut made = 0;
        let mut rows = Vec::new();
        for (size, name) in SIZES {
            let daemon = docker.clone();
            let made_before = made;
            tokio::task::spawn_blocking(move || {
                (made_before..size).try_for_each(|n| daemon.create(&format!("c{n}")).map(drop))
            })
            .await??;
            made = size;
            reconciler.reconcile_once().await?;
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..TIMES {
                let began = now();
                let report = reconciler.reconcile_once().await?;
                ours.push(began.elapsed().as_secs_f64() * 1e3);
                ensure!(
                    report.changes.is_empty() && report.untracked.is_empty(),
                    "{report:?}"
                );
                let daemon = docker.clone();
                let took = tokio::task::spawn_blocking(move || {
                    let began = now();
                    daemon.list().map(|_| began.elapsed().as_secs_f64() * 1e3)
                });
                theirs.push(took.await??);
            }
            let row = Row::new(
                name,
                "ms",
                Better::Less,
                median(ours),
                "Docker's list",
                median(theirs),
            );
            // At most 1.2 times as long.
            rows.push(if size == 1000 {
                row.at_least(1.0 / 1.2)
            } else {
                row
            });
        }
        Ok(rows)
    })
}
