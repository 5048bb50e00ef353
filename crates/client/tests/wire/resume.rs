//! Watches whose connections break, and servers that come back as they were, or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake::{Act, KEYSPACE, SOON, Server, at, say, soon};
use bytes::Bytes;
use tidewatch_client::{
    Batch, BatchKind, Client, EndReason, Ended, KeyRange, Reconnect, Revision, Watch, key, prefix,
};
use tidewatch_core::watch::WatchBuilder;
use tidewatch_core::{Clock, Error, KeyspaceId, ManualClock};
use tidewatch_proto::error::to_status;
use tidewatch_proto::v1;
use tonic::Status;

async fn start(watch: WatchBuilder) -> Watch {
    soon("a watch starts", watch.start()).await.unwrap()
}

fn all(client: &Client) -> WatchBuilder {
    client.watch(KeyRange::all())
}

async fn next(watch: &mut Watch) -> Batch {
    soon("a batch arrives", watch.next()).await.unwrap()
}

async fn end(watch: &mut Watch) -> Ended {
    soon("the watch ends", watch.next()).await.unwrap_err()
}

fn keys(batch: &Batch) -> Vec<String> {
    let name = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    batch.iter().map(|event| name(event.key())).collect()
}

/// The next batch is of this revision and has these keys.
async fn expect(watch: &mut Watch, revision: u64, names: &[&str]) {
    let batch = next(watch).await;
    assert_eq!(
        (batch.revision(), &keys(&batch)[..]),
        (
            Revision(revision),
            &names.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
        )
    );
}

fn after(request: &v1::WatchRequest) -> Option<u64> {
    match request.start {
        Some(v1::watch_request::Start::After(position)) => {
            assert_eq!(position.keyspace_id, KEYSPACE);
            Some(position.revision)
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_connection_cut_between_revisions_is_not_noticed_by_the_reader() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    server.plan([say::created(6), say::events(8, &["b"], false)]);
    let mut watch = start(all(&client)).await;
    assert_eq!(watch.created(), at(5));
    expect(&mut watch, 6, &["a"]).await;
    assert_eq!(after(&server.request().await), None);
    server.cut();
    expect(&mut watch, 8, &["b"]).await;
    assert_eq!(after(&server.request().await), Some(6));
    assert_eq!(watch.position(), Some(at(8)));
}

#[tokio::test]
async fn a_watch_that_has_seen_nothing_goes_on_after_its_boundary() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5)]);
    server.plan([Act::Cut]);
    server.plan([say::created(5), Act::Cut]);
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    let mut watch = start(all(&client)).await;
    server.cut();
    expect(&mut watch, 6, &["a"]).await;
    assert_eq!(after(&server.request().await), None);
    for _ in 0..3 {
        assert_eq!(after(&server.request().await), Some(5));
    }
}

#[tokio::test]
async fn a_connection_cut_before_the_watch_was_created_is_tried_again() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([Act::Cut]);
    server.plan([Act::Fail(Status::unavailable("not yet"))]);
    server.plan([Act::EndStream]);
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    let mut watch = start(all(&client)).await;
    expect(&mut watch, 6, &["a"]).await;
}

#[tokio::test]
async fn a_revision_that_arrived_in_part_is_completed_without_repetition() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([
        say::created(5),
        say::events(6, &["x"], false),
        say::events(7, &["a", "b"], true),
    ]);
    server.plan([
        say::created(6),
        say::events(7, &["a"], true),
        say::events(7, &["b", "c"], true),
        say::events(7, &["d"], false),
        say::events(8, &["y"], false),
    ]);
    let mut watch = start(all(&client)).await;
    expect(&mut watch, 6, &["x"]).await;
    expect(&mut watch, 7, &["a", "b"]).await;
    assert_eq!(watch.position(), Some(at(6)));
    server.cut();
    let piece = next(&mut watch).await;
    assert!(piece.is_partial());
    assert_eq!(keys(&piece), ["c"]);
    expect(&mut watch, 7, &["d"]).await;
    expect(&mut watch, 8, &["y"]).await;
    server.request().await;
    assert_eq!(after(&server.request().await), Some(6));
}

#[tokio::test]
async fn a_snapshot_that_was_interrupted_begins_anew() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([
        say::created_for_snapshot(5),
        say::snapshot_begin(5),
        say::snapshot(5, &["a"]),
    ]);
    server.plan([
        say::created_for_snapshot(9),
        say::snapshot_begin(9),
        say::snapshot(9, &["b"]),
        say::snapshot_end(9),
    ]);
    server.plan([say::created(9), say::events(10, &["c"], false)]);
    let mut watch = start(all(&client).with_snapshot()).await;
    assert_eq!(next(&mut watch).await.kind(), BatchKind::SnapshotBegin);
    expect(&mut watch, 5, &["a"]).await;
    assert_eq!(watch.position(), None);
    server.cut();
    let begin = next(&mut watch).await;
    assert_eq!(
        (begin.kind(), begin.revision()),
        (BatchKind::SnapshotBegin, Revision(9))
    );
    expect(&mut watch, 9, &["b"]).await;
    assert_eq!(next(&mut watch).await.kind(), BatchKind::SnapshotEnd);
    server.cut();
    expect(&mut watch, 10, &["c"]).await;
    assert!(server.request().await.snapshot);
    assert!(server.request().await.snapshot);
    let last = server.request().await;
    assert!(!last.snapshot);
    assert_eq!(after(&last), Some(9));
}

#[tokio::test]
async fn progress_moves_the_place_to_go_on_of_a_watch_whose_keys_rest() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([
        say::created(5),
        say::progress(900),
        say::events(901, &["a"], false),
        say::progress(950),
        say::events(951, &["b"], true),
    ]);
    server.plan([say::created(950), say::events(951, &["b", "c"], false)]);
    let mut watch = start(all(&client)).await;
    // Nobody asked for progress, so none is shown.
    expect(&mut watch, 901, &["a"]).await;
    expect(&mut watch, 951, &["b"]).await;
    server.cut();
    expect(&mut watch, 951, &["c"]).await;
    assert_eq!(server.request().await.progress_interval_ms, Some(10_000));
    assert_eq!(after(&server.request().await), Some(950));
}

#[tokio::test]
async fn a_server_that_comes_back_with_another_keyspace_ends_the_watch() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    server.plan([
        say::created_in(8, 6, true),
        say::ended(EndReason::KeyspaceChanged {
            actual: KeyspaceId(8),
            current: Revision(3),
        }),
    ]);
    let mut watch = start(all(&client)).await;
    expect(&mut watch, 6, &["a"]).await;
    server.cut();
    let ended = end(&mut watch).await;
    assert!(
        matches!(
            ended.reason,
            EndReason::KeyspaceChanged {
                actual: KeyspaceId(8),
                current: Revision(3)
            }
        ),
        "{ended:?}"
    );
    assert_eq!((ended.last_delivered, ended.resume), (Some(Revision(6)), None));
}

#[tokio::test]
async fn a_watch_whose_place_was_compacted_meanwhile_ends_and_says_so() {
    let server = Server::start().await;
    let client = server.client().await;
    let compacted = || EndReason::Compacted {
        requested: Revision(7),
        oldest: Revision(100),
    };
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    server.plan([say::created(6), say::ended(compacted())]);
    let mut watch = start(all(&client)).await;
    expect(&mut watch, 6, &["a"]).await;
    server.cut();
    let ended = end(&mut watch).await;
    assert!(matches!(
        ended.reason,
        EndReason::Compacted {
            requested: Revision(7),
            oldest: Revision(100)
        }
    ));
    assert_eq!(ended.resume, None);
}

/// What a client's watches tell about their connection.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Reconnect>>>);

impl Reports {
    fn teller(&self) -> impl Fn(&Reconnect) + Send + Sync + 'static {
        let reports = self.0.clone();
        move |report| reports.lock().unwrap().push(report.clone())
    }

    fn all(&self) -> Vec<Reconnect> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_draining_server_is_left_alone_for_as_long_as_it_says() {
    let server = Server::start().await;
    let reports = Reports::default();
    let clock = ManualClock::new();
    let client = Client::builder(&server.endpoint)
        .clock(Arc::new(clock.clone()))
        .on_reconnect(reports.teller())
        .connect()
        .await
        .unwrap();
    let retry_after = Duration::from_secs(7);
    server.plan([
        say::created(5),
        say::events(6, &["a"], false),
        say::ended(EndReason::Draining { retry_after }),
    ]);
    server.plan([say::created(6), say::events(7, &["b"], false)]);
    let mut watch = start(all(&client)).await;
    expect(&mut watch, 6, &["a"]).await;
    let reader = tokio::spawn(async move {
        expect(&mut watch, 7, &["b"]).await;
    });
    soon("the watch reports", async {
        while reports.all().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let [
        Reconnect::Lost {
            retry_in,
            attempt: 1,
            resume,
            error,
        },
    ] = &reports.all()[..]
    else {
        panic!("{:?}", reports.all());
    };
    assert_eq!(error, "the server is shutting down");
    assert_eq!(*resume, Some(at(6)));
    assert!(*retry_in >= retry_after && *retry_in <= retry_after + Duration::from_millis(100));
    server.request().await;
    clock.advance(*retry_in);
    soon("the watch goes on", reader).await.unwrap();
    assert_eq!(after(&server.request().await), Some(6));
    let last = reports.all().pop().unwrap();
    assert_eq!(
        last,
        Reconnect::Resumed {
            attempts: 1,
            resume: Some(at(6))
        }
    );
    assert_eq!(last.to_string(), "connected again, going on after revision 6");
}

#[tokio::test]
async fn what_cannot_get_better_ends_the_watch_and_what_can_does_not() {
    let denied = Error::PermissionDenied {
        reason: "the grant is gone".into(),
    };
    let limit = Error::LimitExceeded {
        what: "watchers",
        limit: 1,
    };
    for (status, goes_on) in [
        (to_status(&denied), false),
        (Status::unimplemented("no watches here"), false),
        (Status::out_of_range("the message is too large"), false),
        (to_status(&limit), true),
        (Status::internal("h2 protocol error"), true),
        (Status::unavailable("try again"), true),
        (to_status(&Error::Closed), true),
    ] {
        let server = Server::start().await;
        let client = server.client().await;
        let text = status.to_string();
        server.plan([say::created(5)]);
        server.plan([Act::Fail(status)]);
        server.plan([say::created(5), say::events(6, &["a"], false)]);
        let mut watch = start(all(&client)).await;
        server.cut();
        let ended = soon("a batch or the end", watch.next()).await.err();
        assert_eq!(ended.is_none(), goes_on, "{text}: {ended:?}");
        assert!(ended.is_none_or(|ended| ended.resume == Some(at(5))));
    }
}

#[tokio::test]
async fn a_watch_that_the_server_does_not_want_does_not_start() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([Act::Fail(to_status(&Error::LimitExceeded {
        what: "watchers",
        limit: 3,
    }))]);
    let refused = soon("a refusal", all(&client).start()).await.unwrap_err();
    assert_eq!(refused.to_string(), "limit of 3 watchers exceeded");
    // What is wrong with it is found before it is sent.
    let invalid = all(&client).progress_every(Duration::ZERO).start().await;
    assert!(matches!(
        invalid,
        Err(Error::InvalidArgument { what: "watch", .. })
    ));
    server.request().await;
}

#[tokio::test]
async fn a_watch_gives_up_after_as_long_as_it_was_told_and_says_where_to_go_on() {
    let server = Server::start().await;
    let clock = ManualClock::new();
    let client = Client::builder(&server.endpoint)
        .clock(Arc::new(clock.clone()))
        .give_up_after(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    server.plan([say::created(5)]);
    let mut watch = start(all(&client)).await;
    server.cut();
    // Nothing further is planned, so every attempt is refused.
    let passing = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_millis(500));
            tokio::task::yield_now().await;
        }
    });
    let ended = end(&mut watch).await;
    passing.abort();
    assert!(
        matches!(ended.reason, EndReason::Failed(Error::Unavailable(_))),
        "{ended:?}"
    );
    assert_eq!(ended.resume, Some(at(5)));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let server = Server::start().await;
    let clock = ManualClock::new();
    let client = Client::builder(&server.endpoint)
        .clock(Arc::new(clock.clone()))
        .connect()
        .await
        .unwrap();
    server.plan([say::created(5)]);
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    let mut watch = start(all(&client).progress_every(Duration::from_secs(1))).await;
    server.request().await;
    let reader = tokio::spawn(async move { expect(&mut watch, 6, &["a"]).await });
    // The time it waited for the answer to its request is over; what it sleeps for now is a sign of life.
    let silence = clock.now() + Duration::from_secs(3);
    soon("the reader waits", async {
        while clock.next_deadline() != Some(silence) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    clock.advance(Duration::from_secs(3));
    soon("the watch tries again", async {
        while clock.next_deadline().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    clock.advance(Duration::from_millis(100));
    assert_eq!(after(&server.request().await), Some(5));
    soon("the watch goes on", reader).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_dies_without_a_word_is_found_and_replaced() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5)]);
    server.plan([say::created(5), say::events(6, &["a"], false)]);
    let mut watch = start(all(&client)).await;
    server.swallow();
    assert!(tidewatch_client::DEAD_AFTER < SOON);
    expect(&mut watch, 6, &["a"]).await;
}

#[tokio::test]
async fn another_server_takes_over() {
    let (first, second) = (Server::start().await, Server::start().await);
    first.plan([say::created(5)]);
    second.plan([say::created(5), say::events(6, &["a"], false)]);
    let client = Client::builder(&first.endpoint)
        .endpoint(&second.endpoint)
        .connect()
        .await
        .unwrap();
    let mut watch = start(all(&client)).await;
    first.cut();
    expect(&mut watch, 6, &["a"]).await;
    assert_eq!(after(&second.request().await), Some(5));
}

#[tokio::test]
async fn a_dropped_watch_is_gone_at_the_server_at_once() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5)]);
    let watch = start(all(&client)).await;
    server.open_streams(1).await;
    drop(watch);
    server.open_streams(0).await;
}

#[tokio::test]
async fn closing_the_client_ends_its_watches_and_refuses_calls() {
    let server = Server::start().await;
    let client = server.client().await;
    server.plan([say::created(5)]);
    let mut watch = start(client.watch(key("/a").unwrap())).await;
    client.close();
    let ended = end(&mut watch).await;
    assert!(matches!(ended.reason, EndReason::Closed));
    assert_eq!(ended.resume, Some(at(5)));
    assert!(matches!(client.keyspace().get("/a").await, Err(Error::Closed)));
    assert!(matches!(all(&client).start().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_reader_that_is_stuck_stops_the_server_and_nobody_else() {
    const MESSAGES: u64 = 64;
    let server = Server::start().await;
    let client = server.client().await;
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    let flood = (6..6 + MESSAGES).map(|revision| say::large_events(revision, &["a"], false, &value));
    server.plan([say::created(5)].into_iter().chain(flood));
    server.plan([say::created(5), say::events(6, &["b"], false)]);
    let mut stuck = start(client.watch(prefix("/stuck/").unwrap())).await;
    let mut other = start(client.watch(prefix("/other/").unwrap())).await;

    // The server has stopped when it takes nothing more during many calls.
    let mut said = server.said();
    soon("the server stops", async {
        loop {
            for _ in 0..200 {
                client
                    .keyspace()
                    .lease_keep_alive(tidewatch_core::LeaseId(1))
                    .await
                    .unwrap();
            }
            if std::mem::replace(&mut said, server.said()) == server.said() {
                break;
            }
        }
    })
    .await;
    // Beside the window there are the sockets' own buffers.
    assert!(said < 24, "{said} messages of 1 MiB are on their way");
    expect(&mut other, 6, &["b"]).await;

    for revision in 6..6 + MESSAGES {
        let batch = next(&mut stuck).await;
        assert_eq!(batch.revision(), Revision(revision));
        assert_eq!(batch.iter().next().unwrap().value().len(), value.len());
    }
}
