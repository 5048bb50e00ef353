//! Watches through restarts of the server: nothing lost, nothing twice, or a clear end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewatch_client::{Batch, BatchKind, Client, EndReason, Ended, Watch};
use tidewatch_core::check::{self, Observed, Truth};
use tidewatch_core::txn::{PutRequest, Txn};
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{Error, Keyspace, Record, Revision, key, prefix};

use crate::rig::{TestServer, within};

/// What a watch is asked for here, on the builder and for the checker.
fn request() -> WatchRequest {
    let mut request = WatchRequest::new([prefix("/w/").unwrap()]);
    request.view.prev_kv = true;
    request
}

async fn start(client: &Client) -> (Watch, Observed) {
    let watch = client.watch(prefix("/w/").unwrap()).with_prev_kv();
    let watch = within("a watch", watch.start()).await.unwrap();
    let observed = Observed::new(request(), watch.created());
    (watch, observed)
}

/// Follows the watch until it has seen this revision, or ends.
async fn follow(watch: &mut Watch, observed: &mut Observed, until: Revision) -> Option<Ended> {
    loop {
        match within("a batch", watch.next()).await {
            Ok(batch) => {
                let done = batch.revision() >= until && !batch.is_partial();
                observed.see(batch);
                if done {
                    return None;
                }
            }
            Err(ended) => {
                observed.end(ended.clone());
                return Some(ended);
            }
        }
    }
}

/// The whole history, as somebody reads it who comes after everything has happened.
async fn truth(client: &Client, until: Revision) -> Truth {
    let watch = client.watch(tidewatch_core::KeyRange::all()).with_prev_kv();
    let watch = watch.from_revision(Revision(2)).start();
    let mut watch = within("a watch of the history", watch).await.unwrap();
    let mut records: Vec<Arc<Record>> = Vec::new();
    let mut pieces = Vec::new();
    while watch.last_delivered() < Some(until) {
        let batch: Batch = within("the history", watch.next()).await.unwrap();
        if batch.kind() == BatchKind::Events {
            pieces.extend(batch.iter().map(tidewatch_core::watch::EventRef::to_owned));
            if !batch.is_partial() {
                records.push(Arc::new(Record {
                    revision: batch.revision(),
                    time: batch.time(),
                    events: std::mem::take(&mut pieces).into(),
                }));
            }
        }
    }
    Truth::new(records)
}

/// Writes until it is told to stop, whatever happens to the server, and returns what was acknowledged.
async fn write(keyspace: Keyspace, writer: usize, stop: Arc<AtomicBool>) -> Vec<(Revision, String)> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{writer}-{n}");
        // Some revisions have several events, some of which are nobody's business.
        let mut txn = Txn::new().put(PutRequest::new(format!("/w/{writer}"), value.clone()));
        if n % 3 == 0 {
            txn = txn.put(PutRequest::new(format!("/w/{writer}/more"), value.clone()));
            txn = txn.put(PutRequest::new(format!("/other/{writer}"), value.clone()));
        }
        if n % 7 == 6 {
            txn = txn.delete(key(format!("/w/{}/more", writer + 1)).unwrap());
        }
        match keyspace.txn(txn).await {
            Ok(answer) => acknowledged.push((answer.header.revision, value)),
            Err(Error::OutcomeUnknown(_) | Error::Unavailable(_) | Error::Closed) => {}
            Err(error) => panic!("a write failed: {error:?}"),
        }
    }
    acknowledged
}

/// How often the server is killed under its writers and watches.
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_through_kills_without_loss_or_repetition_and_acknowledged_writes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestServer::start(Some(dir.path().into())).await;
    let client = server.client().await;
    let (mut watch, mut observed) = start(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write(client.keyspace(), writer, stop.clone())))
        .collect();

    let mut highest = Revision(0);
    for _ in 0..KILLS {
        // In the middle of things: at least this many more revisions have come.
        let some_more = Revision(watch.position().unwrap().revision.0 + 40);
        assert!(follow(&mut watch, &mut observed, some_more).await.is_none());
        server.kill();
        server = TestServer::start_on(Some(dir.path().into()), server.port.clone()).await;
        let revision = within("the status", client.keyspace().status())
            .await
            .unwrap()
            .revision;
        assert!(
            revision >= highest,
            "the revision went back from {highest} to {revision}"
        );
        highest = revision;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(within("a writer", writer).await.unwrap());
    }
    let last = within("a last write", client.keyspace().put("/w/last", ""))
        .await
        .unwrap();
    assert!(follow(&mut watch, &mut observed, last).await.is_none());

    let truth = truth(&client, last).await;
    check::all(&observed, &truth).unwrap();
    for (revision, value) in acknowledged {
        let found = observed
            .batches()
            .iter()
            .filter(|batch| batch.revision() == revision)
            .flat_map(Batch::iter)
            .any(|event| event.value() == value.as_bytes());
        assert!(found, "{value} was acknowledged at {revision} and is not there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_through_a_drain() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestServer::start(Some(dir.path().into())).await;
    let client = server.client().await;
    let (mut watch, mut observed) = start(&client).await;
    let first = client.keyspace().put("/w/a", "1").await.unwrap();
    assert!(follow(&mut watch, &mut observed, first).await.is_none());
    server.drain();
    let addr = server.addr;
    let reader = tokio::spawn(async move {
        let ended = follow(&mut watch, &mut observed, first.next()).await;
        (observed, ended)
    });
    within("the server to end", async {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.kill();
    let server = TestServer::start_on(Some(dir.path().into()), server.port.clone()).await;
    let client = server.client().await;
    let second = client.keyspace().put("/w/a", "2").await.unwrap();
    let (observed, ended) = within("the reader", reader).await.unwrap();
    assert!(ended.is_none(), "{ended:?}");
    check::all(&observed, &truth(&client, second).await).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_everything_is_another_keyspace() {
    let mut server = TestServer::in_memory().await;
    let client = server.client().await;
    let (mut watch, mut observed) = start(&client).await;
    let written = client.keyspace().put("/w/a", "1").await.unwrap();
    assert!(follow(&mut watch, &mut observed, written).await.is_none());
    server.kill();
    let server = TestServer::start_on(None, server.port.clone()).await;
    let status = server.client().await.keyspace().status().await.unwrap();
    let ended = follow(&mut watch, &mut observed, Revision(u64::MAX))
        .await
        .unwrap();
    assert!(
        matches!(ended.reason, EndReason::KeyspaceChanged { actual, current }
            if actual == status.keyspace && current == status.revision),
        "{ended:?}"
    );
    assert_eq!((ended.last_delivered, ended.resume), (Some(written), None));
    check::stream(&observed).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_from_before_a_compaction_is_told_so() {
    let server = TestServer::in_memory().await;
    let client = server.client().await;
    let (watch, _) = start(&client).await;
    let saved = watch.position();
    drop(watch);
    for n in 0..5 {
        client.keyspace().put("/w/a", n.to_string()).await.unwrap();
    }
    let oldest = client.keyspace().put("/w/a", "last").await.unwrap();
    client.keyspace().compact(oldest).await.unwrap();
    let mut watch = client
        .watch(prefix("/w/").unwrap())
        .resume(saved)
        .start()
        .await
        .unwrap();
    let ended = within("the end", watch.next()).await.unwrap_err();
    let told = EndReason::Compacted {
        requested: saved.unwrap().revision.next(),
        oldest,
    };
    assert_eq!(format!("{:?}", ended.reason), format!("{told:?}"));
    assert_eq!(ended.resume, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_began_with_a_snapshot_goes_on_with_its_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestServer::start(Some(dir.path().into())).await;
    let client = server.client().await;
    for n in 0..20 {
        client.keyspace().put(format!("/w/{n}"), "v").await.unwrap();
    }
    let asked = WatchRequest {
        snapshot: true,
        ..request()
    };
    let watch = client
        .watch(prefix("/w/").unwrap())
        .with_prev_kv()
        .with_snapshot();
    let mut watch = watch.start().await.unwrap();
    let mut observed = Observed::new(asked, watch.created());
    while watch.position().is_none() {
        observed.see(within("the snapshot", watch.next()).await.unwrap());
    }
    server.kill();
    let server = TestServer::start_on(Some(dir.path().into()), server.port.clone()).await;
    let last = server
        .client()
        .await
        .keyspace()
        .put("/w/0", "changed")
        .await
        .unwrap();
    assert!(follow(&mut watch, &mut observed, last).await.is_none());
    let begins = observed
        .batches()
        .iter()
        .filter(|batch| batch.kind() == BatchKind::SnapshotBegin);
    assert_eq!(
        begins.count(),
        1,
        "a snapshot that was complete is not sent again"
    );
    check::all(&observed, &truth(&client, last).await).unwrap();
}
