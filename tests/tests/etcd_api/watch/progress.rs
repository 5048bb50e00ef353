//! Telling how far a watch, or a stream of them, is.

use std::time::Duration;

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;

use crate::rig::{TestServer, config, durable};
use crate::watching::{NO_WATCH, Watching, revision, watch, watch_from};

/// The shortest interval there is.
const INTERVAL: Duration = Duration::from_millis(100);

fn notified(request: pb::WatchCreateRequest) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        progress_notify: true,
        ..request
    }
}

async fn often_told() -> (TestServer, crate::rig::Kv) {
    let mut config = config();
    config.etcd_progress_interval = INTERVAL;
    TestServer::with(config).await
}

/// Waits for an answer to a request for progress; what comes before it must be events.
async fn progress(stream: &mut Watching) -> (i64, i64) {
    let mut seen = 0;
    loop {
        let response = stream.next().await;
        if response.events.is_empty() {
            assert_eq!(response.watch_id, NO_WATCH, "{response:?}");
            return (revision(&response), seen);
        }
        let last = response.events.last().unwrap();
        seen = seen.max(last.kv.as_ref().unwrap().mod_revision);
    }
}

/// `TestWatchWithProgressNotify`, `TestWatchWithProgressNotifyNoEvent`,
/// `TestConfigurableWatchProgressNotifyInterval`
#[tokio::test]
async fn an_idle_watch_is_told_how_far_it_is_and_the_others_are_not() {
    let (server, mut kv) = often_told().await;
    let mut stream = Watching::on(&server).await;
    let silent = stream.begin(watch("/a", "")).await;
    let told = stream.begin(notified(watch("/a", ""))).await;
    for at in 1..4 {
        // Writes elsewhere are progress too. Before it come those that were on their way before the write.
        loop {
            let response = stream.next().await;
            assert!(response.events.is_empty() && !response.canceled, "{response:?}");
            assert_eq!(response.watch_id, told, "{silent} did not ask");
            assert!(revision(&response) <= at, "{response:?}");
            if revision(&response) == at {
                break;
            }
        }
        kv.put("/elsewhere", "1").await;
    }
}

/// `TestWatchRequestProgress`
#[tokio::test]
async fn a_request_for_progress_is_answered_once_for_all_with_the_current_revision() {
    for watches in [1, 10] {
        let (server, mut kv) = TestServer::start().await;
        let mut stream = Watching::on(&server).await;
        stream.ask_progress().await;
        for _ in 0..watches {
            stream.begin(watch("/a", "/c")).await;
        }
        kv.put("/a", "1").await;
        kv.put("/elsewhere", "1").await;
        // Not what was dispatched at some time, but all there is, as soon as it is.
        loop {
            stream.ask_progress().await;
            let (revision, seen) = progress(&mut stream).await;
            assert!(seen <= revision);
            if revision == 3 {
                break;
            }
        }
        stream.assert_silent().await;
    }
}

/// `TestV3WatchProgressWaitsForSync`; etcd issue 15220: an answer that is ahead of events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_waits_until_every_watch_has_delivered_its_history() {
    const WRITES: i64 = 3000;
    let (server, mut kv) = TestServer::start().await;
    for _ in 0..WRITES {
        kv.put("/a", "1").await;
    }
    let mut stream = Watching::on(&server).await;
    // All at once, so that progress is asked for before the history has been read.
    for request in [watch("/b", ""), watch_from("/a", "", 2)] {
        stream.ask(RequestUnion::CreateRequest(request)).await;
    }
    stream.ask_progress().await;
    for id in 0..2 {
        let created = stream.next().await;
        assert!(created.created && created.watch_id == id, "{created:?}");
    }
    let (revision, seen) = progress(&mut stream).await;
    assert_eq!((revision, seen), (WRITES + 1, WRITES + 1));
}

/// A stream on which something is always under way, so that its watches never have nothing left to deliver all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_answered_under_load_with_what_every_watch_was_sent_and_nothing_more() {
    const WATCHES: i64 = 200;
    const ANSWERS: usize = 20;
    let (server, kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    for _ in 0..WATCHES {
        stream.begin(watch("/k/", "/k0")).await;
    }
    let writers = (0..4).map(|writer| {
        let mut kv = kv.clone();
        tokio::spawn(async move {
            loop {
                kv.put(&format!("/k/{writer}"), "1").await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    // Each revision is an event of each watch.
    let mut last = vec![1; usize::try_from(WATCHES).unwrap()];
    let (mut told, mut answers) = (1, 0);
    stream.ask_progress().await;
    while answers < ANSWERS {
        let response = stream.next().await;
        if response.watch_id == NO_WATCH {
            let revision = revision(&response);
            assert!(revision >= told, "{revision} after {told}");
            assert!(last.iter().all(|last| *last == revision), "{revision}: {last:?}");
            (told, answers) = (revision, answers + 1);
            stream.ask_progress().await;
            continue;
        }
        let last = &mut last[usize::try_from(response.watch_id).unwrap()];
        for event in &response.events {
            let revision = event.kv.as_ref().unwrap().mod_revision;
            assert_eq!(revision, *last + 1, "{response:?}");
            *last = revision;
        }
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// `TestV3WatchProgressWaitsForSyncNoEvents`
#[tokio::test]
async fn progress_is_told_to_a_watch_of_the_past_in_which_nothing_matches() {
    let (server, mut kv) = TestServer::start().await;
    for _ in 0..10 {
        kv.put("/a", "1").await;
    }
    let mut stream = Watching::on(&server).await;
    stream.begin(watch_from("/none", "", 5)).await;
    stream.ask_progress().await;
    assert_eq!(progress(&mut stream).await, (11, 0));
}

#[tokio::test]
async fn progress_is_never_below_where_a_watch_starts() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    stream.begin(watch("/a", "")).await;
    stream.begin(watch_from("/a", "", 4)).await;
    stream.ask_progress().await;
    // Nothing can be told yet, and nobody is woken by what is written elsewhere.
    stream.assert_silent().await;
    for _ in 0..3 {
        kv.put("/elsewhere", "1").await;
    }
    assert_eq!(progress(&mut stream).await, (4, 0));
}

#[tokio::test]
async fn a_watch_that_leaves_owes_no_progress() {
    let (server, mut kv) = TestServer::start().await;
    let mut stream = Watching::on(&server).await;
    stream.begin(watch("/a", "")).await;
    let far = stream.begin(watch_from("/a", "", 1000)).await;
    stream.ask_progress().await;
    stream.ask_progress().await;
    stream.assert_silent().await;
    stream.cancel(far).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let response = stream.next().await;
        told.push((response.watch_id, response.canceled, revision(&response)));
    }
    // Two requests, the second of which came while the first could not be answered.
    told.sort_unstable();
    assert_eq!(told, [(NO_WATCH, false, 1), (NO_WATCH, false, 1), (far, true, 1)]);
    kv.put("/a", "1").await;
    assert_eq!(stream.take(0, 1).await, ["PUT /a=1@2"]);
}

/// `TestV3WatchProgressOnMemberRestart`; etcd issue 15248.
#[tokio::test]
async fn nothing_is_delivered_again_to_who_resumes_from_progress_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut kv) = TestServer::with(durable(dir.path())).await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch("/a", "")).await;
    kv.put("/a", "1").await;
    kv.put("/elsewhere", "1").await;
    stream.take(id, 1).await;
    let mut reached = 0;
    while reached < 3 {
        stream.ask_progress().await;
        (reached, _) = progress(&mut stream).await;
    }
    server.stop().await.unwrap();

    let (server, mut kv) = TestServer::with(durable(dir.path())).await;
    let mut stream = Watching::on(&server).await;
    let id = stream.begin(watch_from("/a", "", reached + 1)).await;
    let again = stream.begin(watch_from("/a", "", 1)).await;
    assert_eq!(
        stream.take(again, 1).await,
        ["PUT /a=1@2"],
        "the history is there"
    );
    kv.put("/a", "2").await;
    let events = stream.take_each(2, 1).await;
    assert_eq!(events[&id], ["PUT /a=2@4"]);
}
