//! `tidewatch.v1.Admin`: who watches, and the end of that.

use tidewatch_proto::v1;
use tidewatch_proto::v1::admin_client::AdminClient;
use tidewatch_proto::v1::fleet_client::FleetClient;
use tidewatch_proto::v1::watch_client::WatchClient;
use tidewatch_proto::v1::watch_ended::Reason;
use tonic::Code;

use crate::rig::{CEILING, TestServer, WatchCall, config, key, prefix, put_in, watch, within};

async fn list(server: &TestServer) -> Vec<v1::Watcher> {
    page(server, v1::ListWatchersRequest::default()).await.watchers
}

async fn page(server: &TestServer, request: v1::ListWatchersRequest) -> v1::ListWatchersResponse {
    let mut client = AdminClient::new(server.channel().await);
    client.list_watchers(request).await.unwrap().into_inner()
}

/// Waits until all watchers together are like this, and returns them.
async fn listed(server: &TestServer, what: &str, holds: impl Fn(&[v1::Watcher]) -> bool) -> Vec<v1::Watcher> {
    within(what, async {
        loop {
            let watchers = list(server).await;
            if holds(&watchers) {
                return watchers;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn cancel(server: &TestServer, id: u64) -> Result<(), tonic::Status> {
    let mut client = AdminClient::new(server.channel().await);
    client
        .cancel_watcher(v1::CancelWatcherRequest { id })
        .await
        .map(drop)
}

#[tokio::test]
async fn watchers_are_listed_with_what_they_watch_and_on_which_connection() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let at = put_in(&mut client, "/a/1", "x").await;
    // Two on one connection and one on another.
    let mut one = WatchClient::new(server.channel().await);
    let request = v1::WatchRequest {
        ranges: vec![prefix("/a/"), key("/a/1"), key("/b")],
        prev_kv: true,
        no_delete: true,
        ..v1::WatchRequest::default()
    };
    let mut first = WatchCall::new(one.watch(request).await.unwrap().into_inner());
    let mut second = WatchCall::new(one.watch(watch(key("/c"))).await.unwrap().into_inner());
    let mut third = server.watch(watch(key("/c"))).await;
    let ids = [
        first.created().await.watch_id,
        second.created().await.watch_id,
        third.created().await.watch_id,
    ];
    let synced = v1::WatcherState::Synced as i32;
    let all_synced = |watchers: &[v1::Watcher]| watchers.iter().all(|watcher| watcher.state == synced);
    let watchers = listed(&server, "all to be synced", all_synced).await;
    assert_eq!(watchers.iter().map(|watcher| watcher.id).collect::<Vec<_>>(), ids);
    let told = &watchers[0];
    assert_eq!(
        told.ranges,
        [prefix("/a/"), key("/b")],
        "what others cover is left out"
    );
    assert!(told.prev_kv && told.no_delete && !told.no_put && !told.keys_only);
    assert!(told.peer.starts_with("127.0.0.1:"), "{told:?}");
    assert!(told.since.is_some() && !told.canceled);
    assert_eq!(
        (told.position, told.lag_revisions, told.lag_ms, told.pending_bytes),
        (at, 0, None, 0)
    );
    let on = |at: usize| (watchers[at].peer.as_str(), watchers[at].connection);
    assert_eq!(on(0), on(1));
    assert_ne!(on(0), on(2));
    drop(first);
    listed(&server, "the first to be gone", |watchers| watchers.len() == 2).await;
}

#[tokio::test]
async fn the_watch_of_containers_is_listed_with_its_connection_too() {
    let server = TestServer::start().await;
    let mut client = FleetClient::new(server.channel().await);
    let request = v1::WatchContainersRequest::default();
    let _stream = client.watch_containers(request).await.unwrap();
    let watchers = listed(&server, "it to be listed", |watchers| !watchers.is_empty()).await;
    assert!(watchers[0].connection > 0, "{watchers:?}");
}

#[tokio::test]
async fn the_watch_of_an_etcd_client_is_listed_with_its_connection_too() {
    use tidewatch_proto::etcdserverpb as etcd;

    let server = TestServer::start().await;
    let create = etcd::WatchCreateRequest {
        key: "/a".into(),
        ..etcd::WatchCreateRequest::default()
    };
    let request = etcd::WatchRequest {
        request_union: Some(etcd::watch_request::RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending());
    let mut client = etcd::watch_client::WatchClient::new(server.channel().await);
    let _stream = client.watch(requests).await.unwrap();
    let watchers = listed(&server, "it to be listed", |watchers| !watchers.is_empty()).await;
    assert_eq!(watchers[0].ranges, [key("/a")]);
    assert!(
        watchers[0].connection > 0 && watchers[0].peer.starts_with("127.0.0.1:"),
        "{watchers:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_seen_and_so_is_its_catching_up() {
    const EVENTS: u64 = 500;

    let server = TestServer::start().await;
    let mut stuck = server.watch_with_small_window(watch(prefix("/flood/"))).await;
    let mut reading = server.watch(watch(prefix("/flood/"))).await;
    stuck.created().await;
    reading.created().await;
    let mut client = server.keyspace().await;
    let mut last = 0;
    for n in 0..EVENTS {
        last = put_in(&mut client, &format!("/flood/{n}"), vec![0; 8 << 10]).await;
        reading.events().await;
    }
    let watchers = list(&server).await;
    let told = &watchers[0];
    assert!(told.lag_revisions > 0 && told.lag_ms.is_some(), "{told:?}");
    assert_eq!(told.position + told.lag_revisions, last);
    let each = told.pending_bytes / told.lag_revisions;
    assert!((8 << 10..9 << 10).contains(&each), "{told:?}");
    let metric = async |name: &str| {
        let page = server.get("/metrics").await.2;
        let line = page
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        let value = line.and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()));
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    assert!(metric("tidewatch_watch_lag_revisions").await != "0");
    assert!(metric("tidewatch_watch_lag_seconds").await != "0.0");
    for _ in 0..EVENTS {
        stuck.events().await;
    }
    listed(&server, "it to have caught up", |watchers| {
        watchers[0].lag_revisions == 0 && watchers[0].state == v1::WatcherState::Synced as i32
    })
    .await;
    assert_eq!(metric("tidewatch_watch_lag_revisions").await, "0");
    assert_eq!(metric("tidewatch_watch_lag_seconds").await, "0.0");
    assert_eq!(metric("tidewatch_watch_watchers{state=\"synced\"}").await, "2");
}

#[tokio::test]
async fn reading_the_past_is_lagging_and_then_catching_up() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    for n in 0..2000 {
        put_in(&mut client, "/a", n.to_string()).await;
    }
    let request = v1::WatchRequest {
        start: Some(v1::watch_request::Start::StartRevision(2)),
        ..watch(key("/a"))
    };
    let mut call = server.watch(request).await;
    call.created().await;
    for _ in 0..2000 {
        call.events().await;
    }
    within("the catch-up to be counted", async {
        while !server
            .get("/metrics")
            .await
            .2
            .contains("tidewatch_watch_catch_ups_total 1\n")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_canceled_watch_ends_at_its_client_with_a_place_to_resume_from() {
    let server = TestServer::start().await;
    let mut call = server.watch(watch(key("/a"))).await;
    let created = call.created().await;
    let mut client = server.keyspace().await;
    let at = put_in(&mut client, "/a", "1").await;
    assert_eq!(call.events().await.revision, at);
    cancel(&server, created.watch_id).await.unwrap();
    let ended = call.ended().await;
    assert!(matches!(ended.reason, Some(Reason::Canceled(_))), "{ended:?}");
    let resume = ended.resume.unwrap();
    assert_eq!((resume.keyspace_id, resume.revision), (created.keyspace_id, at));
    let page = server.get("/metrics").await.2;
    assert!(page.contains("tidewatch_watch_streams_ended_total{reason=\"canceled\"} 1\n"));
    listed(&server, "it to be gone", <[_]>::is_empty).await;
    let status = cancel(&server, created.watch_id).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.message(),
        format!("there is no watcher {}", created.watch_id)
    );
}

#[tokio::test]
async fn a_client_resumes_after_everything_but_a_cancel() {
    let server = TestServer::start().await;
    let endpoint = format!("http://{}", server.addr);
    let client = tidewatch_client::Client::builder(endpoint)
        .connect()
        .await
        .unwrap();
    let mut watch = client
        .watch(tidewatch_client::key("/a").unwrap())
        .start()
        .await
        .unwrap();
    let page = client.watchers(None).await.unwrap();
    assert_eq!((page.watchers.len(), page.more), (1, false));
    assert_eq!(page.watchers[0].id, watch.id());
    client.cancel_watcher(watch.id()).await.unwrap();
    let ended = tokio::time::timeout(CEILING, watch.next())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(ended.reason, tidewatch_client::EndReason::Canceled),
        "{ended}"
    );
    assert_eq!(ended.resume, Some(watch.created()));
    let gone = client.cancel_watcher(watch.id()).await.unwrap_err();
    assert!(matches!(gone, tidewatch_client::Error::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let server = TestServer::with(config()).await;
    let mut one = WatchClient::new(server.channel().await);
    let mut calls = Vec::new();
    let long = "k".repeat(4000);
    for n in 0..40 {
        // Together more than a page may have, in bytes.
        let ranges = (0..16)
            .map(|range| key(&format!("/{n}/{range}/{long}")))
            .collect();
        let request = v1::WatchRequest {
            ranges,
            ..v1::WatchRequest::default()
        };
        calls.push(one.watch(request).await.unwrap());
    }
    let whole = page(&server, v1::ListWatchersRequest::default()).await;
    assert!(
        whole.more && whole.watchers.len() < 40,
        "{}",
        whole.watchers.len()
    );
    for limit in [0, 1, 7] {
        let (mut ids, mut after_id) = (Vec::new(), 0);
        loop {
            let page = page(&server, v1::ListWatchersRequest { after_id, limit }).await;
            assert!(limit == 0 || page.watchers.len() <= limit as usize);
            ids.extend(page.watchers.iter().map(|watcher| watcher.id));
            after_id = *ids.last().unwrap();
            if !page.more {
                break;
            }
        }
        assert_eq!(ids.len(), 40, "{limit}");
        assert!(ids.is_sorted(), "{ids:?}");
    }
}
