//! Many watches, large revisions, readers that stop, and backups.

use tidewatch_client::{ErrorKind, Watch};
use tidewatch_core::txn::{PutRequest, Txn};
use tidewatch_core::{Revision, key, prefix};

use crate::rig::{TestServer, within};

/// More than fit one connection, and than the streams that servers commonly allow on one.
const WATCHES: usize = 450;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_of_one_client_all_get_the_event_and_all_go() {
    let server = TestServer::in_memory().await;
    let client = server.client().await;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let started = client.watch(key("/a").unwrap()).start();
        watches.push(within("a watch", started).await.unwrap());
    }
    let revision = client.keyspace().put("/a", "1").await.unwrap();
    for watch in &mut watches {
        assert_eq!(
            within("the event", watch.next()).await.unwrap().revision(),
            revision
        );
    }
    drop(watches);
    within("the watches to go", async {
        while client.status().await.unwrap().watchers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A revision of about 1.3 MiB, which is several messages.
fn large() -> Txn {
    (0..100).fold(Txn::new(), |txn, n| {
        txn.put(PutRequest::new(format!("/large/{n:03}"), vec![b'v'; 13 << 10]))
    })
}

async fn whole_revision(watch: &mut Watch) -> (Revision, usize, usize) {
    let (mut events, mut pieces) = (0, 0);
    loop {
        let batch = within("a piece", watch.next()).await.unwrap();
        events += batch.len();
        pieces += 1;
        if !batch.is_partial() {
            return (batch.revision(), events, pieces);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stops_nobody_and_gets_everything_when_it_goes_on() {
    const ROUNDS: usize = 40;
    let server = TestServer::in_memory().await;
    let client = server.client().await;
    let mut stuck = client.watch(prefix("/large/").unwrap()).start().await.unwrap();
    let mut other = client.watch(prefix("/large/").unwrap()).start().await.unwrap();
    let mut revisions = Vec::new();
    for _ in 0..ROUNDS {
        let written = within("a write", client.keyspace().txn(large())).await.unwrap();
        revisions.push(written.header.revision);
        let (revision, events, pieces) = whole_revision(&mut other).await;
        assert_eq!((revision, events), (written.header.revision, 100));
        assert!(pieces > 1, "a revision this large does not fit one message");
    }
    for revision in revisions {
        let (delivered, events, _) = whole_revision(&mut stuck).await;
        assert_eq!((delivered, events), (revision, 100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_of_which_a_part_was_read_before_a_kill_is_completed_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestServer::start(Some(dir.path().into())).await;
    let client = server.client().await;
    let mut watch = client.watch(prefix("/large/").unwrap()).start().await.unwrap();
    let written = client.keyspace().txn(large()).await.unwrap().header.revision;
    let first = within("a piece", watch.next()).await.unwrap();
    assert!(first.is_partial());
    assert!(watch.position().unwrap().revision < written);
    server.kill();
    let _server = TestServer::start_on(Some(dir.path().into()), server.port.clone()).await;
    let mut keys: Vec<_> = first.iter().map(|event| event.key().clone()).collect();
    while watch.position().unwrap().revision < written {
        let piece = within("a piece", watch.next()).await.unwrap();
        keys.extend(piece.iter().map(|event| event.key().clone()));
    }
    let expected: Vec<_> = (0..100).map(|n| format!("/large/{n:03}")).collect();
    assert_eq!(keys, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_arrives_whole_and_holds_what_was_written_before() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(Some(dir.path().into())).await;
    let client = server.client().await;
    client.keyspace().txn(large()).await.unwrap();
    let written = client.keyspace().put("/a", "kept").await.unwrap();
    let status = client.keyspace().status().await.unwrap();

    let mut backup = within("a backup", client.backup()).await.unwrap();
    assert!(backup.revision() >= written);
    assert_eq!((backup.keyspace(), backup.format()), (status.keyspace, "sqlite"));
    let mut copy = Vec::new();
    while let Some(data) = within("data", backup.next()).await.unwrap() {
        copy.extend_from_slice(&data);
    }
    assert!(backup.size().is_none_or(|size| size == copy.len() as u64));
    assert!(copy.starts_with(b"SQLite format 3\0"));

    let in_memory = TestServer::in_memory().await;
    let error = in_memory.client().await.backup().await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Unreachable, "{error}");
}
