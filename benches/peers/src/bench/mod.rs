//! The benches, one file each, and the table of them.
//!
//! A bench that needs processes of its own (a server to measure against, a driver that must not share our runtime) is a file
//! here like the others, whose measurements start and end them; what they run is a binary of this package in `src/bin`, as
//! [`idle_watcher`] does it.

use anyhow::Result;

use crate::alternate::Plan;
use crate::row::Row;

pub mod directive_load;
pub mod directive_visible;
pub mod docker_event;
pub mod docker_quiet;
pub mod docker_resync;
pub mod durable_put;
pub mod etcdapi_fanout;
pub mod fanout_burst;
pub mod fanout_single;
pub mod flat;
pub mod fleet_fanout;
pub mod fleet_size;
pub mod idle_stream;
pub mod idle_watcher;
pub mod latency;
pub mod mass_drop;
pub mod native_fanout;
pub mod put_isolation;
pub mod tier_latency;

mod fanout;

/// A measurement, and how the rows that come out of it are called.
#[derive(Debug)]
pub struct Bench {
    /// The names that one chooses it by.
    pub names: &'static [&'static str],
    /// Measures, and returns one row or more for each name: one for each peer, so that name and peer tell a row from others.
    pub run: fn(Plan) -> Result<Vec<Row>>,
}

/// All there are, in the order in which they run.
pub const BENCHES: &[Bench] = &[
    fanout_burst::BENCH,
    fanout_single::BENCH,
    latency::BENCH,
    idle_watcher::ONE_KEY,
    idle_watcher::KEY_EACH,
    idle_watcher::AFTER_BURST,
    mass_drop::BENCH,
    put_isolation::LAGGING,
    put_isolation::OTHER_KEYS,
    flat::BENCH,
    etcdapi_fanout::HUNDRED,
    etcdapi_fanout::THOUSAND,
    etcdapi_fanout::FIVE_THOUSAND,
    durable_put::BENCH,
    native_fanout::BENCH,
    idle_stream::BENCH,
    fleet_fanout::BENCH,
    fleet_size::HUNDRED_THOUSAND,
    fleet_size::MILLION,
    tier_latency::BENCH,
    docker_event::BENCH,
    docker_resync::BENCH,
    docker_quiet::BENCH,
    directive_load::BENCH,
    directive_visible::OVER_ETCD,
    directive_visible::OVER_KEYSPACE,
];
