//! One keyspace on several servers.

use anyhow::ensure;
use serde_json::Value;
use tidewatch_core::prefix;
use tidewatch_tests::etcd::etcdctl_for_test;
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::watch_check::WatchCheck;

use super::moving::Moving;
use super::{PREFIX, Server, key, next_events};

#[tokio::test]
async fn a_put_through_either_server_or_etcdctl_is_seen_on_both_at_the_same_revision() -> anyhow::Result<()> {
    let (Some(etcd), Some(ctl)) = (EtcdCluster::for_test(1), etcdctl_for_test()) else {
        return Ok(());
    };
    let (one, other) = (
        Server::on(etcd.endpoints()).await?,
        Server::on(etcd.endpoints()).await?,
    );
    let mut watches = [one.watch().await?, other.watch().await?];
    let by_one = one.ks.put(key("k"), "by one").await?;
    let by_other = other.ks.put(key("k"), "by the other").await?;
    let done = ctl
        .command(
            etcd.address(0),
            &["put", &key("k"), "by hand", "--write-out=json"],
        )
        .output()?;
    ensure!(done.status.success(), "{done:?}");
    let answer: Value = serde_json::from_slice(&done.stdout)?;
    let by_hand = answer["header"]["revision"].as_u64().unwrap_or_default();
    for watch in &mut watches {
        for (revision, value) in [
            (by_one.0, "by one"),
            (by_other.0, "by the other"),
            (by_hand, "by hand"),
        ] {
            assert_eq!(next_events(watch).await?, (revision, vec![format!("k={value}")]));
        }
    }
    // A position is one on both, and so is the keyspace.
    let position = watches[0].position();
    let mut moved = other.ks.watch(prefix(PREFIX)?).resume(position).start().await?;
    let last = one.ks.put(key("k"), "last").await?;
    assert_eq!(
        next_events(&mut moved).await?,
        (last.0, vec!["k=last".to_owned()])
    );
    let (status, theirs) = (one.status()?, other.status()?);
    assert_eq!(status["backend"], "etcd");
    assert_eq!(status["keyspace_id"], theirs["keyspace_id"]);
    assert_eq!(status["upstream"]["state"], "live", "{status}");
    assert_eq!(status["upstream"]["endpoints"][0], etcd.endpoints()[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_move_from_one_server_to_the_other_and_back_lose_nothing() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let (one, other) = (
        Server::on(etcd.endpoints()).await?,
        Server::on(etcd.endpoints()).await?,
    );
    let check = WatchCheck::new(fastrand::u64(..));
    let moving = || Moving::among([one.ks.clone(), other.ks.clone()]);
    let report = check.run(&moving(), &moving(), std::future::ready(())).await?;
    ensure!(report.found.is_empty(), "{report}");
    ensure!(report.counts.resumed() > 0, "{report}");
    Ok(())
}
