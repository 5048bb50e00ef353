//! `native_idle_stream_bytes`, `etcdapi_idle_stream_bytes`: memory of a server for each watch that has a stream of its own and
//! waits.
//!
//! **How.** A server with nothing in it; a driver opens 10 connections and on each 1000 streams with a watch of the same
//! prefix, each told that it is there. What the server's process has then of memory of its own (`RssAnon`), less what it had
//! before, over 10 000.
//!
//! **Fairness.** The same for all; connections are counted in, a thousandth of one for each watch. Garbage that etcd has
//! not collected yet counts as well: it is memory that the machine has to have. (etcd's documentation tells 350 B for a watch, 18 kB for a stream and 17 kB for a connection.)
//!
//! **Unit.** Bytes a watch.

use anyhow::Result;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::driver::{Load, Protocol, in_a_process};
use crate::row::{Better, Row};
use crate::server::{self, Server, Storage};

const NATIVE: &str = "native_idle_stream_bytes";
const ETCDAPI: &str = "etcdapi_idle_stream_bytes";

const WATCHES: usize = 10_000;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[NATIVE, ETCDAPI],
    run,
};

fn run(plan: Plan) -> Result<Vec<Row>> {
    let [native, etcdapi, etcd35] = alternate(
        plan,
        NATIVE,
        [
            ("tidewatch", || bytes(Protocol::Native, server::tidewatch)),
            ("tidewatch's etcd API", || {
                bytes(Protocol::Etcd, server::tidewatch)
            }),
            ("etcd-3.5", || bytes(Protocol::Etcd, server::etcd35)),
        ],
    )?
    .map(median);
    let row = |name, ours| Row::new(name, "B", Better::Less, ours, "etcd-3.5", etcd35);
    Ok(vec![row(NATIVE, native), row(ETCDAPI, etcdapi)])
}

fn bytes(protocol: Protocol, start: fn(Storage) -> Result<Server>) -> Result<f64> {
    let load = Load {
        watches: WATCHES,
        puts: 0,
    };
    Ok(in_a_process(protocol, &start(Storage::Memory)?, load)?.idle_bytes)
}
