//! An etcd that goes back to what it once was while servers share it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tidewatch_core::txn::RangeRequest;
use tidewatch_core::watch::BatchKind;
use tidewatch_core::{EndReason, Ended, KeyValue, KeyspaceId, Position, Watch, prefix};
use tidewatch_tests::etcd_cluster::EtcdCluster;

use super::{CEILING, PREFIX, Server, key, lines, next, next_events};

/// How much of its history etcd loses.
const LOST: usize = 50;

/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// Which keyspace a watch is told that there is now instead, and nothing before that.
async fn replaced(watch: &mut Watch) -> anyhow::Result<KeyspaceId> {
    let next = tokio::time::timeout(CEILING, watch.next()).await;
    match next.context("the watch is told nothing")? {
        Err(Ended {
            reason: EndReason::KeyspaceChanged { actual, .. },
            resume: None,
            ..
        }) => Ok(actual),
        other => bail!("the watch is told something else: {other:?}"),
    }
}

/// A watch that has got its snapshot.
async fn with_snapshot(server: &Server) -> anyhow::Result<Watch> {
    let mut watch = server.ks.watch(prefix(PREFIX)?).with_snapshot().start().await?;
    while next(&mut watch).await?.kind() != BatchKind::SnapshotEnd {}
    Ok(watch)
}

/// The next thing a watch is told, which is a snapshot, whole.
async fn next_snapshot(watch: &mut Watch) -> anyhow::Result<Vec<String>> {
    let begin = next(watch).await?;
    ensure!(begin.kind() == BatchKind::SnapshotBegin, "{begin:?}");
    let mut entries = Vec::new();
    loop {
        let batch = next(watch).await?;
        match batch.kind() {
            BatchKind::Snapshot => entries.extend(lines(&batch)),
            BatchKind::SnapshotEnd => return Ok(entries),
            other => bail!("{other:?} in a snapshot"),
        }
    }
}

/// What the tests have written, by the first answer there is, with its revision.
async fn entries(server: &Server) -> anyhow::Result<Vec<(String, String, u64)>> {
    let request = RangeRequest::new(prefix(PREFIX)?);
    let answer = tokio::time::timeout(CEILING, async {
        loop {
            match server.ks.range(request.clone()).await {
                Ok((_, found)) => return found,
                // It is not there again yet.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    let found = answer.await.context("nothing can be read")?;
    let entry = |kv: KeyValue| {
        let name = kv.key.escape_ascii().to_string();
        let value = kv.value.escape_ascii().to_string();
        (name, value, kv.mod_revision.0)
    };
    Ok(found.kvs.into_iter().map(entry).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_restored_is_one_other_keyspace_to_the_clients_of_all_its_servers()
-> anyhow::Result<()> {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let servers = [
        Server::on(etcd.endpoints()).await?,
        Server::on(etcd.endpoints()).await?,
    ];
    let [one, other] = &servers;
    let kept = one.ks.put(key("k"), "kept").await?;
    let snapshot = etcd.save_snapshot()?;
    for round in 0..LOST {
        one.ks.put(key("k"), format!("lost {round}")).await?;
    }
    let last = other.ks.put(key("of-the-future"), "lost").await?;
    let before = one.ks.status().await?.keyspace;
    let mut plain = [one.watch().await?, other.watch().await?];
    let mut snapshots = [with_snapshot(one).await?, with_snapshot(other).await?];
    let position = plain[0].position().context("it has a position")?;
    assert_eq!(position.revision, last);

    etcd.restore(&snapshot)?;

    for server in &servers {
        assert_eq!(
            entries(server).await?,
            [(key("k"), "kept".to_owned(), kept.0)],
            "the first that is read"
        );
    }
    let [told, told_by_other] = [replaced(&mut plain[0]).await?, replaced(&mut plain[1]).await?];
    assert_eq!(told, told_by_other);
    assert_ne!(told, before);
    for (server, watch) in servers.iter().zip(&mut snapshots) {
        assert_eq!(next_snapshot(watch).await?, ["k=kept"]);
        assert_eq!(server.ks.status().await?.keyspace, told);
        assert_eq!(server.status()?["keyspace_id"], told.to_string());
    }
    // What was true of the old one is of no use in the new one.
    for server in &servers {
        let mut stale = server.ks.watch(prefix(PREFIX)?).resume(position).start().await?;
        assert_eq!(replaced(&mut stale).await?, told);
    }

    let [mut at_one, mut at_other] = [one.watch().await?, other.watch().await?];
    for (writer, value) in [(one, "by one"), (other, "by the other")] {
        let written = writer.ks.put(key("k"), value).await?;
        ensure!(written < last, "its history has not gone back");
        for watch in snapshots.iter_mut().chain([&mut at_one, &mut at_other]) {
            assert_eq!(next_events(watch).await?, (written.0, vec![format!("k={value}")]));
        }
        for server in &servers {
            assert_eq!(entries(server).await?, [(key("k"), value.to_owned(), written.0)]);
        }
        let position = Position {
            keyspace: told,
            revision: written,
        };
        assert_eq!(
            (at_one.position(), at_other.position()),
            (Some(position), Some(position))
        );
    }
    Ok(())
}
