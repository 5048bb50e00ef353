//! The same scenarios on a real etcd and on ours, through three clients: what differs is a bug, or is listed in
//! `docs/etcd-compatibility.md`.

use std::net::SocketAddr;

use tidewatch_tests::etcd::{RealEtcd, etcdctl_for_test};

use crate::compare::{Face, Pair, Side, scenarios};
use crate::crate_client::CrateClient;
use crate::ctl::Ctl;
use crate::scenario::Scenario;
use crate::stubs::Stubs;
use crate::table;

#[tokio::test]
async fn scenarios_over_generated_stubs() -> anyhow::Result<()> {
    all_scenarios(0, Stubs::connect).await
}

#[tokio::test]
async fn scenarios_over_the_etcd_client_crate() -> anyhow::Result<()> {
    Box::pin(all_scenarios(0, CrateClient::connect)).await
}

/// A server that keeps its keyspace in an etcd answers as that one does, where servers of ours do at all.
#[tokio::test]
async fn scenarios_on_a_server_whose_keyspace_is_in_an_etcd() -> anyhow::Result<()> {
    all_scenarios(1, Stubs::connect).await
}

#[tokio::test]
async fn scenarios_through_a_server_on_a_server_on_an_etcd() -> anyhow::Result<()> {
    all_scenarios(2, Stubs::connect).await
}

async fn all_scenarios<F: Face>(
    tiers: usize,
    connect: impl AsyncFn(SocketAddr) -> anyhow::Result<F>,
) -> anyhow::Result<()> {
    let Some(pair) = Pair::for_test(tiers)? else {
        return Ok(());
    };
    let side = async |address| Side::new(address, connect(address).await?).await;
    let (mut theirs, mut ours) = (side(pair.theirs).await?, side(pair.ours).await?);
    scenarios(table(tiers), &mut theirs, &mut ours).await
}

/// Where an etcd differs from a keyspace of ours, a server whose keyspace is in one is between the two.
fn table(tiers: usize) -> impl Iterator<Item = &'static Scenario> {
    table::all().filter(move |scenario| tiers == 0 || scenario.differs.is_none())
}

#[tokio::test]
async fn scenarios_over_etcdctl() -> anyhow::Result<()> {
    over_etcdctl(0).await
}

#[tokio::test]
async fn scenarios_over_etcdctl_on_a_server_whose_keyspace_is_in_an_etcd() -> anyhow::Result<()> {
    over_etcdctl(1).await
}

#[tokio::test]
async fn scenarios_over_etcdctl_through_a_server_on_a_server_on_an_etcd() -> anyhow::Result<()> {
    over_etcdctl(2).await
}

async fn over_etcdctl(tiers: usize) -> anyhow::Result<()> {
    let (Some(pair), Some(ctl)) = (Pair::for_test(tiers)?, etcdctl_for_test()) else {
        return Ok(());
    };
    let side = async |address| Side::new(address, Ctl::new(ctl.clone(), address)).await;
    let (mut theirs, mut ours) = (side(pair.theirs).await?, side(pair.ours).await?);
    // A process for each step: those that only the wire can tell apart are left to the other clients.
    let table = table(tiers).filter(|scenario| !Ctl::is_too_much(scenario));
    scenarios(table, &mut theirs, &mut ours).await
}

/// Rows that no scenario shows, because they are about time, memory, or what a client cannot see.
const UNSEEN: &[&str] = &[
    "answers of any size",
    "a compaction at revision 0 or 1 succeeds once",
    "a full keyspace raises the alarm NOSPACE",
    "hashes are of etcd's files",
    "a request for progress that comes while a watch lags is dropped",
    "`progress_notify` every ten minutes",
    "a response is cut (`fragment`) above 2 MiB",
    "`prev_kv` is missing where the entry before was compacted",
    "each transaction is a response of its own",
    "a stream whose client has ended its side",
    "as many watches as there is memory",
    "members advertise what they are told to",
];

#[test]
fn what_differs_is_what_the_documentation_lists() {
    let text = include_str!("../../../docs/etcd-compatibility.md");
    let (_, list) = text.split_once("| with etcd |").expect("the list");
    let rows = list.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    let mut known: Vec<_> = table::all().filter_map(|scenario| scenario.differs).collect();
    known.extend(UNSEEN);
    let mut missing = known.clone();
    for row in rows {
        let begins = |beginning: &&str| row.starts_with(*beginning);
        assert!(
            known.iter().any(begins),
            "no scenario shows this, nor is it among those that none can: {row}"
        );
        missing.retain(|beginning| !begins(beginning));
    }
    assert_eq!(missing, Vec::<&str>::new(), "not listed");
}

/// An etcd of another minor version, which has learned some of what we differ from 3.4 in.
#[tokio::test]
async fn scenarios_with_a_newer_etcd() -> anyhow::Result<()> {
    let Some(etcd) = RealEtcd::newer_for_test() else {
        return Ok(());
    };
    let pair = Pair::of(etcd)?;
    let side = async |address| Side::new(address, Stubs::connect(address).await?).await;
    let table = table::all().filter(|scenario| scenario.differs.is_none());
    scenarios(table, &mut side(pair.theirs).await?, &mut side(pair.ours).await?).await
}
