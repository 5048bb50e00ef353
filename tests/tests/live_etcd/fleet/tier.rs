//! A server on a server on an etcd.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use etcd_client::Client;
use tidewatch_core::txn::{PutRequest, RangeRequest, Txn};
use tidewatch_core::watch::BatchKind;
use tidewatch_core::{Error, Revision, prefix};
use tidewatch_etcd::Version;
use tidewatch_tests::etcd_cluster::EtcdCluster;

use super::{PREFIX, Server, key, next, next_events};

/// The server next to an etcd, and one on that server.
async fn tiers(etcd: &EtcdCluster) -> anyhow::Result<(Server, Server)> {
    let near = Server::on(etcd.endpoints()).await?;
    let far = Server::on([near.program.endpoint()]).await?;
    Ok((near, far))
}

#[tokio::test]
async fn positions_and_the_identity_are_the_same_on_each_tier() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let (near, far) = tiers(&etcd).await?;
    let (keyspace, theirs) = (far.ks.status().await?.keyspace, near.ks.status().await?.keyspace);
    assert_eq!(keyspace, theirs);
    let mut at_far = far.watch().await?;
    let by_far = far.ks.put(key("k"), "by the far one").await?;
    let by_near = near.ks.put(key("k"), "by the near one").await?;
    assert_eq!(
        next_events(&mut at_far).await?,
        (by_far.0, vec!["k=by the far one".to_owned()])
    );
    // What is left of one's watch is to be had on the other, and back.
    let mut position = at_far.position();
    for (server, revision, value) in [
        (&near, by_near, "by the near one"),
        (&far, far.ks.put(key("k"), "next").await?, "next"),
        (&near, near.ks.put(key("k"), "last").await?, "last"),
    ] {
        let mut watch = server.ks.watch(prefix(PREFIX)?).resume(position).start().await?;
        assert_eq!(
            next_events(&mut watch).await?,
            (revision.0, vec![format!("k={value}")])
        );
        position = watch.position();
    }
    // To clients of etcd's it is one cluster.
    let mut ids = Vec::new();
    for server in [&near, &far] {
        let answer = Client::connect([server.program.endpoint()], None)
            .await?
            .status()
            .await?;
        ids.push(answer.header().context("no header")?.cluster_id());
    }
    assert_eq!(ids, [keyspace.0, keyspace.0]);
    Ok(())
}

#[tokio::test]
async fn a_lease_of_the_far_tier_is_one_of_etcds() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let (near, far) = tiers(&etcd).await?;
    let mut watches = [near.watch().await?, far.watch().await?];
    let (_, grant) = far.ks.lease_grant(None, Duration::from_secs(600)).await?;
    let put = PutRequest {
        lease: Some(grant.id),
        ..PutRequest::new(key("held"), "v")
    };
    let written = far.ks.txn(Txn::new().put(put)).await?.header.revision;
    let mut direct = Client::connect(etcd.endpoints(), None).await?;
    let id = grant.id.0;
    ensure!(
        direct
            .leases()
            .await?
            .leases()
            .iter()
            .any(|lease| lease.id() == id)
    );
    let (_, remaining) = far.ks.lease_keep_alive(grant.id).await?;
    assert_eq!(remaining, Duration::from_secs(600));
    let revoked = direct.lease_revoke(id).await?;
    let revoked = u64::try_from(revoked.header().context("no header")?.revision())?;
    for watch in &mut watches {
        assert_eq!(next_events(watch).await?, (written.0, vec!["held=v".to_owned()]));
        assert_eq!(
            next_events(watch).await?,
            (revoked, vec!["held deleted".to_owned()])
        );
    }
    let gone = far.ks.lease_keep_alive(grant.id).await;
    ensure!(matches!(gone, Err(Error::LeaseNotFound { .. })), "{gone:?}");
    Ok(())
}

#[tokio::test]
async fn a_compaction_that_the_far_tier_is_asked_for_is_etcds() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let (near, far) = tiers(&etcd).await?;
    let first = far.ks.put(key("k"), "1").await?;
    let last = far.ks.put(key("k"), "2").await?;
    far.ks.compact(last).await?;
    let old = |revision: Revision| -> anyhow::Result<RangeRequest> {
        Ok(RangeRequest {
            revision: Some(revision),
            ..RangeRequest::new(tidewatch_core::key(key("k"))?)
        })
    };
    for server in [&near, &far] {
        let refused = server.ks.range(old(first)?).await;
        let is_right = matches!(refused, Err(Error::Compacted { requested, oldest }) if requested == first && oldest == last);
        ensure!(is_right, "{refused:?}");
        let (_, kept) = server.ks.range(old(last)?).await?;
        assert_eq!(kept.kvs[0].value, "2");
    }
    let options = etcd_client::GetOptions::new().with_revision(i64::try_from(first.0)?);
    let mut direct = Client::connect(etcd.endpoints(), None).await?;
    let refused = direct.get(key("k"), Some(options)).await.map(drop);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.to_string().contains("compacted")),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_others_write_outside_of_the_namespace_holds_up_nobody_on_the_far_tier() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let near = Server::with(etcd.endpoints(), &["--etcd-namespace", "/ours/"]).await?;
    near.ks.put(key("k"), "1").await?;
    let mut direct = Client::connect(etcd.endpoints(), None).await?;
    direct.put("/others/k", "x", None).await?;
    let far = Server::on([near.program.endpoint()]).await?;
    let theirs = direct.put("/others/k", "y", None).await?;
    let theirs = u64::try_from(theirs.header().context("no header")?.revision())?;
    // Whether its watch is believed depends on the etcd; that it is answered does not.
    let mut believed = Vec::new();
    for client in [
        &mut direct,
        &mut Client::connect([near.program.endpoint()], None).await?,
    ] {
        let status = client.status().await?;
        let version = Version::parse(status.version()).context("no version")?;
        believed.push(version.tells_progress_truly());
    }
    assert_eq!(believed[0], believed[1]);
    let request = RangeRequest::new(tidewatch_core::key(key("k"))?);
    let (header, found) = far.ks.range(request).await?;
    assert_eq!((header.revision.0, &*found.kvs[0].value), (theirs, &b"1"[..]));
    let mut watch = far.watch().await?;
    let mut with_snapshot = far.ks.watch(prefix(PREFIX)?).with_snapshot().start().await?;
    while next(&mut with_snapshot).await?.kind() != BatchKind::SnapshotEnd {}
    direct.put("/others/k", "z", None).await?;
    let written = near.ks.put(key("k"), "2").await?;
    for watch in [&mut watch, &mut with_snapshot] {
        assert_eq!(next_events(watch).await?, (written.0, vec!["k=2".to_owned()]));
    }
    assert_eq!(far.status()?["upstream"]["relists"], 0, "{}", far.status()?);
    Ok(())
}
