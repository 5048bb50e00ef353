//! `native_fanout_1000`, `native_cpu_per_delivery`, `native_put_under_1000_watchers`: the same as
//! [`etcdapi_fanout`](super::etcdapi_fanout) with 1000 watches, through our own gRPC API.
//!
//! **How.** As there; the driver has the stubs that tonic generates, and decodes and reads everything too.
//!
//! **Fairness.** Tidewatch's own API beside its etcd API, and beside etcd's.
//!
//! **Unit.** Deliveries a second; nanoseconds of the server's CPU for a delivery; puts a second.

use anyhow::Result;

use super::Bench;
use super::etcdapi_fanout::{drive, ours};
use crate::alternate::{Plan, alternate, median};
use crate::driver::{Outcome, Protocol};
use crate::row::{Better, Row};
use crate::server;

const FANOUT: &str = "native_fanout_1000";
const CPU: &str = "native_cpu_per_delivery";
const PUT: &str = "native_put_under_1000_watchers";

const WATCHES: usize = 1000;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[FANOUT, CPU, PUT],
    run,
};

fn run(plan: Plan) -> Result<Vec<Row>> {
    let [native, etcdapi, etcd35] = alternate(
        plan,
        FANOUT,
        [
            ("tidewatch", || {
                drive::<WATCHES>(Protocol::Native, server::tidewatch)
            }),
            ("tidewatch's etcd API", ours::<WATCHES>),
            ("etcd-3.5", || drive::<WATCHES>(Protocol::Etcd, server::etcd35)),
        ],
    )?;
    let rows = |name, unit, better, figure: fn(&Outcome) -> f64| {
        let of = |outcomes: &[Outcome]| median(outcomes.iter().map(figure).collect());
        let ours = of(&native);
        [("etcdapi", of(&etcdapi)), ("etcd-3.5", of(&etcd35))]
            .map(|(peer, theirs)| Row::new(name, unit, better, ours, peer, theirs))
    };
    Ok([
        rows(FANOUT, "deliveries/s", Better::More, |outcome| outcome.deliveries),
        rows(CPU, "ns", Better::Less, |outcome| outcome.cpu),
        rows(PUT, "puts/s", Better::More, |outcome| outcome.puts),
    ]
    .concat())
}
