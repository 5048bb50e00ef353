//! Writers, readers and watchers of one keyspace at the same time, on several threads.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewatch_core::conformance::MemoryJournal;
use tidewatch_core::txn::{PutRequest, RangeRequest, Txn};
use tidewatch_core::{EndReason, Keyspace, Revision, Watch, prefix};

const WRITERS: usize = 4;
const WRITES: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_memory_everybody_sees_one_history() {
    check(Keyspace::memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_journal_everybody_sees_one_history() {
    let builder = Keyspace::builder().journal(MemoryJournal::new());
    check(builder.open().await.unwrap()).await;
}

async fn check(ks: Keyspace) {
    let driver = tokio::spawn(ks.driver());
    let done = Arc::new(AtomicBool::new(false));
    let watch = ks.watch(prefix("/pair/").unwrap()).start().await.unwrap();
    let watcher = tokio::spawn(watch_pairs(watch));
    let readers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(read_pairs(ks.clone(), done.clone())))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_pairs(ks.clone(), writer)))
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
    acknowledged.sort_unstable();
    let wanted: Vec<_> = (2..).map(Revision).take(WRITERS * WRITES).collect();
    assert_eq!(acknowledged, wanted, "each write has a revision of its own");
    ks.close();
    driver.await.unwrap();
    assert_eq!(watcher.await.unwrap(), wanted, "and each was delivered, in order");
}

/// Writes the same value to two keys at once, again and again.
async fn write_pairs(ks: Keyspace, writer: usize) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for at in 0..WRITES {
        let value = format!("{writer}-{at}");
        let txn = Txn::new()
            .put(PutRequest::new("/pair/left", value.clone()))
            .put(PutRequest::new("/pair/right", value));
        let revision = ks.txn(txn).await.unwrap().header.revision;
        let seen = ks.status().await.unwrap().revision;
        assert!(seen >= revision, "what is acknowledged can be read");
        assert!(revisions.last().is_none_or(|last| revision > *last));
        revisions.push(revision);
    }
    revisions
}

/// Never sees one half of a pair, nor time going back.
async fn read_pairs(ks: Keyspace, done: Arc<AtomicBool>) {
    let mut last = Revision::INITIAL;
    while !done.load(Ordering::Acquire) {
        let request = RangeRequest::new(prefix("/pair/").unwrap());
        let (header, response) = ks.range(request).await.unwrap();
        assert!(header.revision >= last);
        last = header.revision;
        if let [left, right] = &response.kvs[..] {
            assert_eq!(left.value, right.value);
            assert_eq!((left.mod_revision, right.mod_revision), (last, last));
        } else {
            assert_eq!(last, Revision::INITIAL);
        }
        tokio::task::yield_now().await;
    }
}

async fn watch_pairs(mut watch: Watch) -> Vec<Revision> {
    let mut revisions = Vec::new();
    loop {
        match watch.next().await {
            Ok(batch) => {
                let values: Vec<_> = batch.iter().map(|event| event.value().clone()).collect();
                assert!(
                    values.len() == 2 && values[0] == values[1],
                    "a revision is delivered whole"
                );
                revisions.push(batch.revision());
            }
            Err(ended) => {
                assert!(matches!(ended.reason, EndReason::Closed), "{ended:?}");
                return revisions;
            }
        }
    }
}
