//! Nothing lost, nothing twice, whatever happens to etcd.

use tidewatch_core::{EventKind, Revision};
use tidewatch_etcd::{Delivery, SnapshotReason, Update};
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::tcp_proxy::TcpProxy;

use super::{Reader, client, put};

#[tokio::test]
async fn a_killed_member_and_cut_connections_lose_nothing_and_repeat_nothing() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let mut writer = client(etcd.endpoints()).await;
    let mut reader = Reader::new([proxy.address()], 0);
    reader.until_live().await;
    let mut written = Vec::new();
    for round in 0..4 {
        for number in 0..20 {
            written.push(put(&writer, &format!("{}", number % 7), format!("{round}")).await);
            if number == 10 {
                if round == 2 {
                    etcd.kill(0);
                    etcd.restart(0).unwrap();
                    writer = client(etcd.endpoints()).await;
                } else {
                    proxy.cut();
                }
            }
        }
        let last = *written.last().unwrap();
        reader
            .until("the last write", |reader| reader.records.last() == Some(&last))
            .await;
    }
    assert_eq!(reader.records, written);
    assert_eq!(reader.snapshots.len(), 1, "history was there all the time");
    assert!(reader.interruptions >= 3);
    reader.until_equal(&writer).await;
}

#[tokio::test]
async fn members_that_die_one_after_the_other_lose_nothing_and_repeat_nothing() {
    let Some(mut etcd) = EtcdCluster::for_test(3) else {
        return;
    };
    let mut reader = Reader::new(etcd.endpoints(), 0);
    reader.until_live().await;
    let mut written = Vec::new();
    for member in 0..3 {
        let others = (0..3).filter(|&other| other != member);
        let writer = client(others.map(|other| etcd.address(other).to_string()).collect()).await;
        // Elections refuse writes for a moment; those that were not refused count.
        etcd.kill(member);
        let mut done = 0;
        while done < 20 {
            let answer = writer
                .kv_client()
                .put("/watched/key", format!("{member}-{done}"), None)
                .await;
            if let Ok(answer) = answer {
                written.push(u64::try_from(answer.header().unwrap().revision()).unwrap());
                done += 1;
            }
        }
        etcd.restart(member).unwrap();
        let last = *written.last().unwrap();
        reader
            .until("the last write", |reader| reader.records.last() >= Some(&last))
            .await;
    }
    // A write whose answer was lost may be there too.
    let missing: Vec<_> = written
        .iter()
        .filter(|revision| !reader.records.contains(revision))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {written:?} are missing");
    assert!(reader.records.is_sorted_by(|a, b| a < b), "{:?}", reader.records);
    assert_eq!(reader.snapshots.len(), 1);
}

#[tokio::test]
async fn compaction_past_a_reader_is_told_as_what_changed() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let writer = client(etcd.endpoints()).await;
    put(&writer, "gone", "1").await;
    put(&writer, "kept", "1").await;
    let mut reader = Reader::new([proxy.address()], 0);
    reader.until_live().await;
    proxy.refuse(true);
    proxy.cut();
    reader
        .until("an interruption", |reader| reader.interruptions > 0)
        .await;
    writer.kv_client().delete("/watched/gone", None).await.unwrap();
    let last = put(&writer, "new", "1").await;
    writer
        .kv_client()
        .compact(i64::try_from(last).unwrap(), None)
        .await
        .unwrap();
    proxy.refuse(false);
    let change = tokio::time::timeout(super::CEILING, async {
        loop {
            if let Some(Update::Delivery(delivery)) = reader.feed.next().await
                && let Some(change) = reader.mirror.apply(delivery)
            {
                return change;
            }
        }
    });
    let change = change.await.unwrap();
    assert_eq!(change.snapshot, Some(SnapshotReason::Compacted));
    let events: Vec<_> = change
        .events
        .iter()
        .map(|event| (event.kind, &event.kv.key[..]))
        .collect();
    assert_eq!(
        events,
        [
            (EventKind::Delete, &b"/watched/gone"[..]),
            (EventKind::Put, &b"/watched/new"[..])
        ]
    );
    reader.until_equal(&writer).await;
}

#[tokio::test]
async fn a_catch_up_of_many_megabytes_ends() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    let writer = client(etcd.endpoints()).await;
    let mut reader = Reader::new([proxy.address()], 0);
    reader.until_live().await;
    proxy.refuse(true);
    proxy.cut();
    reader
        .until("an interruption", |reader| reader.interruptions > 0)
        .await;
    let mut written = Vec::new();
    for number in 0..30_u8 {
        written.push(put(&writer, "large", vec![number; 1_000_000]).await);
    }
    proxy.refuse(false);
    let last = *written.last().unwrap();
    reader
        .until("the last write", |reader| reader.records.last() == Some(&last))
        .await;
    assert_eq!(reader.records, written);
    assert_eq!(reader.snapshots.len(), 1);
    reader.until_equal(&writer).await;
}

#[tokio::test]
async fn large_transactions_arrive_whole() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let writer = client(etcd.endpoints()).await;
    let mut reader = Reader::new(etcd.endpoints(), 0);
    reader.until_live().await;
    let mut sizes = Vec::new();
    for round in 0..5_u8 {
        // With what was there before, an event is twice the size of its value.
        let puts = (0..100)
            .map(|number| etcd_client::TxnOp::put(format!("/watched/{number}"), vec![round; 14_000], None));
        let txn = etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>());
        writer.kv_client().txn(txn).await.unwrap();
    }
    while sizes.len() < 5 {
        let update = tokio::time::timeout(super::CEILING, reader.feed.next())
            .await
            .unwrap();
        if let Some(Update::Delivery(Delivery::Record(record))) = &update {
            assert!(sizes.is_empty() || record.events.iter().all(|event| event.prev.is_some()));
            sizes.push(record.events.len());
        }
        reader.take(update.unwrap());
    }
    assert_eq!(sizes, [100; 5]);
}

#[tokio::test]
async fn a_long_list_is_read_in_pages_while_it_changes() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let writer = client(etcd.endpoints()).await;
    for number in 0..20 {
        let puts = (0..100)
            .map(|more| etcd_client::TxnOp::put(format!("/watched/{number:02}-{more:02}"), "x", None));
        let txn = etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>());
        writer.kv_client().txn(txn).await.unwrap();
    }
    let mut reader = Reader::new(etcd.endpoints(), 0);
    let mut pages = 0;
    let mut ended = false;
    while !ended {
        let update = tokio::time::timeout(super::CEILING, reader.feed.next())
            .await
            .unwrap();
        if let Some(Update::Delivery(delivery)) = &update {
            match delivery {
                // Perhaps once more: an etcd that does not answer in time is asked for all of it again.
                Delivery::SnapshotBegin { .. } => pages = 0,
                Delivery::Snapshot(_) => {
                    pages += 1;
                    put(&writer, &format!("during-{pages}"), "x").await;
                }
                _ => {}
            }
            ended = matches!(delivery, Delivery::SnapshotEnd { .. });
        }
        reader.take(update.unwrap());
    }
    assert!(pages > 1, "it was read in one");
    reader.until_equal(&writer).await;
    assert_eq!(
        reader.since_snapshot.len(),
        pages,
        "what was written during the list comes after it"
    );
}

#[tokio::test]
async fn the_window_behind_the_newest_revision_is_delivered_with_what_was_there_before() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let writer = client(etcd.endpoints()).await;
    let mut written = Vec::new();
    for number in 0..50 {
        written.push(put(&writer, "key", format!("{number}")).await);
    }
    let mut reader = Reader::new(etcd.endpoints(), 20);
    reader.until_live().await;
    assert_eq!(reader.records, written[30..]);
    // Where less is left than was asked for, it is what there is.
    let kept = i64::try_from(written[45]).unwrap();
    writer.kv_client().compact(kept, None).await.unwrap();
    let mut shorter = Reader::new(etcd.endpoints(), 20);
    shorter.until_live().await;
    shorter.until_equal(&writer).await;
    assert!(shorter.records.len() <= 5, "{:?}", shorter.records);
}

#[tokio::test]
async fn a_wiped_cluster_is_another_identity() {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let writer = client(etcd.endpoints()).await;
    for _ in 0..10 {
        put(&writer, "old", "1").await;
    }
    let mut reader = Reader::new(etcd.endpoints(), 0);
    reader.until_live().await;
    etcd.wipe().unwrap();
    let writer = client(etcd.endpoints()).await;
    put(&writer, "new", "1").await;
    reader
        .until("another snapshot", |reader| {
            reader.snapshots.len() > 1 && reader.mirror.at().is_some_and(|(_, at)| at < Revision(11))
        })
        .await;
    reader.until_equal(&writer).await;
    let (first, last) = (reader.snapshots[0], *reader.snapshots.last().unwrap());
    assert_eq!(last.0, SnapshotReason::Replaced);
    assert_ne!(first.1.keyspace(), last.1.keyspace());
}
