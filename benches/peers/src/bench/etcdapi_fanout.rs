//! `etcdapi_fanout_100`, `_1000`, `_5000`, `etcdapi_cpu_per_delivery`, `etcdapi_put_under_1000_watchers`: a server that many
//! watch through etcd's API while 64 write to it, beside etcd and NATS.
//!
//! **How.** Each repetition starts a server with nothing in it and drives it from a process of its own with `etcd-client`:
//! 10 connections, a stream for each watch, all of one prefix, 4000 puts of 128 B by 64 writers on the same connections. What
//! exactly is counted is told in [`driver`](crate::driver).
//! - `etcdapi_fanout_…`: deliveries a second with so many watches, until the last has everything.
//! - `etcdapi_cpu_per_delivery`: the server's CPU in the run with 1000 over its deliveries; `_100` and `_5000` for information.
//! - `etcdapi_put_under_1000_watchers`: answered puts a second in the run with 1000.
//!
//! **Fairness.** One driver for etcd and for us, which decodes all that is sent and reads every value; ours is `tidewatch serve`
//! as it is shipped, with its journal. Data of all is in a file system in memory where there is one (`/dev/shm`), so that
//! no disk has a part in it, while everybody still writes and syncs. Server and driver share the machine's cores.
//! NATS speaks another protocol, for which the driver has a reader that does as little as it can; it keeps nothing, and
//! its "put" is one that the server has taken. It is core NATS, without `JetStream`.
//!
//! **Unit.** Deliveries a second; nanoseconds of the server's CPU for a delivery; puts a second.

use anyhow::Result;

use super::Bench;
use crate::alternate::{Plan, alternate, median};
use crate::driver::{Load, Outcome, Protocol, in_a_process};
use crate::row::{Better, Row};
use crate::server::{self, Storage};

/// Measured puts.
pub(super) const PUTS: usize = 4000;

const FANOUT_100: &str = "etcdapi_fanout_100";
const FANOUT_1000: &str = "etcdapi_fanout_1000";
const FANOUT_5000: &str = "etcdapi_fanout_5000";
const CPU_100: &str = "etcdapi_cpu_per_delivery_100";
const CPU_1000: &str = "etcdapi_cpu_per_delivery";
const CPU_5000: &str = "etcdapi_cpu_per_delivery_5000";
const PUT_1000: &str = "etcdapi_put_under_1000_watchers";

/// With 100 watches.
pub const HUNDRED: Bench = Bench {
    names: &[FANOUT_100, CPU_100],
    run: |plan| {
        let measured = Measured::of::<100>(plan, FANOUT_100)?;
        let fanout = measured.deliveries(FANOUT_100, 4.0);
        Ok([fanout, measured.cpu(CPU_100, None)].concat())
    },
};

/// With 1000.
pub const THOUSAND: Bench = Bench {
    names: &[FANOUT_1000, CPU_1000, PUT_1000],
    run: |plan| {
        let measured = Measured::of::<1000>(plan, FANOUT_1000)?;
        let fanout = measured.deliveries(FANOUT_1000, 5.0);
        Ok([
            fanout,
            measured.cpu(CPU_1000, Some(10.0)),
            measured.puts(PUT_1000, 5.0),
        ]
        .concat())
    },
};

/// With 5000.
pub const FIVE_THOUSAND: Bench = Bench {
    names: &[FANOUT_5000, CPU_5000],
    run: |plan| {
        let measured = Measured::of::<5000>(plan, FANOUT_5000)?;
        let fanout = measured.deliveries(FANOUT_5000, 5.0);
        Ok([fanout, measured.cpu(CPU_5000, None)].concat())
    },
};

/// What came of all repetitions, by side.
struct Measured {
    ours: Vec<Outcome>,
    etcd35: Vec<Outcome>,
    etcd34: Vec<Outcome>,
    nats: Vec<Outcome>,
}

impl Measured {
    fn of<const WATCHES: usize>(plan: Plan, bench: &'static str) -> Result<Self> {
        let [ours, etcd35, etcd34, nats] = alternate(
            plan,
            bench,
            [
                ("tidewatch", ours::<WATCHES>),
                ("etcd-3.5", || drive::<WATCHES>(Protocol::Etcd, server::etcd35)),
                ("etcd-3.4", || drive::<WATCHES>(Protocol::Etcd, server::etcd34)),
                ("nats", || drive::<WATCHES>(Protocol::Nats, server::nats)),
            ],
        )?;
        Ok(Self {
            ours,
            etcd35,
            etcd34,
            nats,
        })
    }

    fn deliveries(&self, name: &'static str, target: f64) -> Vec<Row> {
        let [etcd35, etcd34, nats] =
            self.rows(name, "deliveries/s", Better::More, |outcome| outcome.deliveries);
        vec![etcd35.at_least(target), etcd34, nats.at_least(1.0)]
    }

    fn cpu(&self, name: &'static str, target: Option<f64>) -> Vec<Row> {
        let [mut etcd35, etcd34, nats] = self.rows(name, "ns", Better::Less, |outcome| outcome.cpu);
        etcd35.at_least = target;
        vec![etcd35, etcd34, nats]
    }

    fn puts(&self, name: &'static str, target: f64) -> Vec<Row> {
        let [etcd35, etcd34, _] = self.rows(name, "puts/s", Better::More, |outcome| outcome.puts);
        vec![etcd35.at_least(target), etcd34]
    }

    fn rows(
        &self,
        name: &'static str,
        unit: &'static str,
        better: Better,
        figure: fn(&Outcome) -> f64,
    ) -> [Row; 3] {
        let of = |outcomes: &[Outcome]| median(outcomes.iter().map(figure).collect());
        let ours = of(&self.ours);
        [
            ("etcd-3.5", of(&self.etcd35)),
            ("etcd-3.4", of(&self.etcd34)),
            ("nats", of(&self.nats)),
        ]
        .map(|(peer, theirs)| Row::new(name, unit, better, ours, peer, theirs))
    }
}

/// Ours, through etcd's API.
pub(super) fn ours<const WATCHES: usize>() -> Result<Outcome> {
    drive::<WATCHES>(Protocol::Etcd, server::tidewatch)
}

/// Starts a server and drives it.
pub(super) fn drive<const WATCHES: usize>(
    protocol: Protocol,
    start: fn(Storage) -> Result<server::Server>,
) -> Result<Outcome> {
    let load = Load {
        watches: WATCHES,
        puts: PUTS,
    };
    in_a_process(protocol, &start(Storage::Memory)?, load)
}
