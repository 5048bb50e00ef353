//! `fleet_fanout_1000`, `fleet_put_under_1000_watchers`: 1000 watchers of a server whose keyspace is in etcd, beside 1000 watchers
//! directly on that etcd.
//!
//! **How.** The driver of [`etcdapi_fanout`](super::etcdapi_fanout), with its 64 writers, through etcd's API: once on
//! `tidewatch serve --etcd`, so that every put goes on to an etcd of its own, and once on an etcd.
//!
//! **Fairness.** etcd 3.5.1 for both, with its data in a file system in memory. With us there is one process more on the same cores.
//!
//! **Unit.** Deliveries a second; puts a second.

use anyhow::Result;

use super::Bench;
use super::etcdapi_fanout::drive;
use crate::alternate::{Plan, alternate, median};
use crate::driver::{Outcome, Protocol};
use crate::row::{Better, Row};
use crate::server;

const FANOUT: &str = "fleet_fanout_1000";
const PUT: &str = "fleet_put_under_1000_watchers";

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[FANOUT, PUT],
    run,
};

fn run(plan: Plan) -> Result<Vec<Row>> {
    let [ours, etcd] = alternate(
        plan,
        FANOUT,
        [
            ("tidewatch on etcd", || {
                drive::<1000>(Protocol::Etcd, server::tidewatch_on_etcd)
            }),
            ("etcd-3.5", || drive::<1000>(Protocol::Etcd, server::etcd35)),
        ],
    )?;
    let row = |name, unit, figure: fn(&Outcome) -> f64| {
        let of = |outcomes: &[Outcome]| median(outcomes.iter().map(figure).collect());
        Row::new(name, unit, Better::More, of(&ours), "etcd-3.5", of(&etcd))
    };
    Ok(vec![
        row(FANOUT, "deliveries/s", |outcome| outcome.deliveries),
        row(PUT, "puts/s", |outcome| outcome.puts),
    ])
}
