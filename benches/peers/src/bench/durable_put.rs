//! `durable_put_64`: acknowledged puts a second, by 64 writers over gRPC, each of which is on disk when it is acknowledged.
//!
//! **How.** A server with nothing in it, and the driver of [`etcdapi_fanout`](super::etcdapi_fanout) without watches: 8000 puts
//! of 128 B by 64 writers on 10 connections, each writer waiting for its answer before the next put.
//!
//! **Fairness.** The same driver and the same API for both. Both have their data in the folder for temporary files, so
//! on the same disk, and as they come both sync before they acknowledge: etcd its log, ours SQLite's with
//! `synchronous=FULL`. Both put what waits into one sync.
//!
//! **Unit.** Puts a second.

use anyhow::Result;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::driver::{Load, Protocol, in_a_process};
use crate::row::{Better, Row};
use crate::server::{self, Server, Storage};

const NAME: &str = "durable_put_64";

/// Measured puts.
const PUTS: usize = 8000;

/// The bench.
pub const BENCH: Bench = Bench { names: &[NAME], run };

fn run(plan: Plan) -> Result<Vec<Row>> {
    let [ours, etcd35, etcd34] = alternate(
        plan,
        NAME,
        [
            ("tidewatch", || puts(server::tidewatch)),
            ("etcd-3.5", || puts(server::etcd35)),
            ("etcd-3.4", || puts(server::etcd34)),
        ],
    )?
    .map(median);
    let row = |peer, theirs| Row::new(NAME, "puts/s", Better::More, ours, peer, theirs);
    Ok(vec![
        row("etcd-3.5", etcd35).at_least(1.5),
        row("etcd-3.4", etcd34),
    ])
}

fn puts(start: fn(Storage) -> Result<Server>) -> Result<f64> {
    let load = Load {
        watches: 0,
        puts: PUTS,
    };
    Ok(in_a_process(Protocol::Etcd, &start(Storage::Disk)?, load)?.puts)
}
