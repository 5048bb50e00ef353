//! What operators see of watchers, and how they end one.

use tidewatch_core::watch::WatcherState;

use super::*;

#[tokio::test]
async fn watchers_are_listed_with_what_they_watch_and_for_whom() {
    let plane = Plane::new();
    let request = WatchRequest {
        view: View {
            prev_kv: true,
            ..View::default()
        },
        label: Some("127.0.0.1:9".into()),
        ..WatchRequest::new(vec![
            key("/b").unwrap(),
            prefix("/a/").unwrap(),
            key("/a/x").unwrap(),
        ])
    };
    let first = plane.registry.watch(request).unwrap();
    let second = plane.exact("/c");
    let infos = plane.registry.watchers();
    let [a, b] = infos.as_slice() else {
        panic!("{infos:?}");
    };
    assert_eq!((a.id, b.id), (first.id(), second.id()));
    assert_eq!(a.ranges, [prefix("/a/").unwrap(), key("/b").unwrap()]);
    assert_eq!(
        (a.label.as_deref(), b.label.as_deref()),
        (Some("127.0.0.1:9"), None)
    );
    assert!(a.view.prev_kv && !b.view.prev_kv);
    assert_eq!((a.state, a.position), (WatcherState::Starting, Revision(1)));
    drop(first);
    assert_eq!(plane.registry.watchers().len(), 1);
}

#[tokio::test]
async fn a_watcher_that_has_everything_does_not_lag_whatever_happens_elsewhere() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    assert!(now(watcher.next()).await.is_none());
    for _ in 0..10 {
        plane.put("/elsewhere", "v");
    }
    plane.settled().await;
    let info = &plane.registry.watchers()[0];
    assert_eq!((info.state, info.position), (WatcherState::Synced, Revision(11)));
    assert_eq!(
        (info.lag_revisions, info.pending_bytes, info.pending_since),
        (0, 0, None)
    );
}

#[tokio::test]
async fn lag_is_counted_from_the_first_event_that_was_not_taken() {
    let mut plane = Plane::new();
    let mut watcher = plane.exact("/a");
    assert!(now(watcher.next()).await.is_none());
    plane.put("/a", "1");
    plane.settled().await;
    now(watcher.next()).await.unwrap().unwrap();
    plane.put("/a", "22");
    plane.put("/elsewhere", "333");
    plane.put("/a", "4444");
    plane.settled().await;
    let chunk = plane.history.read_after(Revision(2), 9).unwrap();
    let bytes: u64 = chunk.records.iter().map(|record| record.size() as u64).sum();
    let info = &plane.registry.watchers()[0];
    assert_eq!((info.position, info.lag_revisions), (Revision(2), 3));
    assert_eq!(info.pending_bytes, bytes);
    now(watcher.next()).await.unwrap().unwrap();
    let info = &plane.registry.watchers()[0];
    assert_eq!(
        (info.position, info.lag_revisions),
        (Revision(5), 0),
        "it has taken both"
    );
}

#[tokio::test]
async fn who_reads_the_history_is_counted_and_so_is_catching_up() {
    let mut plane = Plane::new();
    let mut watch = plane.exact("/a").into_watch();
    let mut other = plane.exact("/a");
    assert!(now(watch.next()).await.is_none());
    assert!(now(other.next()).await.is_none());
    for n in 0..1000 {
        plane.put("/a", &n.to_string());
    }
    plane.settled().await;
    assert_eq!(plane.registry.lagging_count(), 0, "nobody has noticed yet");
    assert_eq!(plane.registry.slowest(), Some(Revision(1)), "but they are behind");
    next_batch(&mut watch).await;
    let registry = Arc::clone(&plane.registry);
    assert_eq!((registry.lagging_count(), registry.catch_ups()), (1, 0));
    assert_eq!(registry.watchers()[0].state, WatcherState::Lagging);
    assert_eq!(registry.slowest(), Some(Revision(1)), "the other one");
    while now(watch.next()).await.is_some() {}
    assert_eq!((registry.lagging_count(), registry.catch_ups()), (0, 1));
    assert_eq!(registry.slowest(), Some(Revision(1)));
    now(other.next()).await.unwrap().unwrap();
    assert_eq!(registry.lagging_count(), 1);
    assert!(registry.slowest() > Some(Revision(1)));
    drop(other);
    assert_eq!((registry.lagging_count(), registry.catch_ups()), (0, 1));
    assert_eq!(registry.slowest(), None, "who has everything is not behind");
}

#[tokio::test]
async fn an_operator_ends_a_watch_that_waits() {
    let plane = Plane::new();
    let mut watcher = plane.exact("/a");
    let id = watcher.id();
    let waiting = tokio::spawn(async move { watcher.next().await });
    while plane.registry.watchers()[0].state != WatcherState::Synced {
        tokio::task::yield_now().await;
    }
    assert!(plane.registry.cancel(id));
    let ended = now(waiting).await.expect("it is woken").unwrap().unwrap_err();
    assert!(matches!(ended.reason, EndReason::Canceled), "{ended}");
    assert_eq!(
        ended.resume,
        Some(Position {
            keyspace: KEYSPACE,
            revision: Revision(1)
        })
    );
    assert!(!plane.registry.cancel(id), "there is none any more");
    assert_eq!(plane.registry.watcher_count(), 0);
}

#[tokio::test]
async fn a_watch_that_is_not_read_is_marked_and_ends_where_it_was() {
    let mut plane = Plane::new();
    let mut watch = plane.exact("/a").into_watch();
    assert!(now(watch.next()).await.is_none());
    plane.put("/a", "1");
    plane.settled().await;
    next_batch(&mut watch).await;
    plane.put("/a", "2");
    plane.settled().await;
    assert!(plane.registry.cancel(watch.id()));
    assert!(plane.registry.watchers()[0].canceled);
    let ended = now(watch.next()).await.unwrap().unwrap_err();
    assert!(matches!(ended.reason, EndReason::Canceled), "{ended}");
    assert_eq!(ended.last_delivered, Some(Revision(2)));
    assert_eq!(ended.resume.unwrap().revision, Revision(2));
}

#[tokio::test]
async fn who_lost_its_place_is_behind_though_nothing_is_left_for_it_in_memory() {
    let mut plane = Plane::undispatched(WatchSettings::default());
    let mut watch = plane.exact("/a").into_watch();
    assert!(now(watch.next()).await.is_none());
    plane.put("/a", "1");
    plane.put("/elsewhere", "2");
    plane.history.compact(plane.history.current());
    plane.dispatch();
    plane.settled().await;
    let info = &plane.registry.watchers()[0];
    assert_eq!((info.position, info.lag_revisions), (Revision(1), 2));
    assert_eq!(plane.registry.slowest(), Some(Revision(1)));
}

#[test]
fn watchers_are_listed_in_pages() {
    let plane = Plane::undispatched(WatchSettings::default());
    let held: Vec<_> = (0..5).map(|n| plane.exact(&format!("/{n}"))).collect();
    let page = plane.registry.watchers_after(held[1].id(), 2);
    let ids: Vec<_> = page.iter().map(|info| info.id).collect();
    assert_eq!(ids, [held[2].id(), held[3].id()]);
    assert!(plane.registry.watchers_after(held[4].id(), 2).is_empty());
}

#[tokio::test]
async fn a_watch_of_the_process_itself_takes_nobodys_place_and_is_not_listed() {
    let settings = tidewatch_core::Settings {
        watch: WatchSettings {
            max_watchers: 1,
            ..WatchSettings::default()
        },
        ..tidewatch_core::Settings::default()
    };
    let keyspace = tidewatch_core::Keyspace::builder()
        .settings(settings)
        .open()
        .await
        .unwrap();
    tokio::spawn(keyspace.driver());
    let all = || keyspace.watch(KeyRange::all());
    let mut own = all().internal().start().await.unwrap();
    let registry = keyspace.backend().watch_registry().unwrap();
    assert_eq!((registry.watcher_count(), registry.watchers().len()), (0, 0));
    let other = all().start().await.unwrap();
    assert!(all().start().await.is_err(), "the limit is one");
    keyspace.put("/a", "1").await.unwrap();
    assert_eq!(own.next().await.unwrap().len(), 1);
    drop(own);
    assert_eq!(registry.watcher_count(), 1);
    drop(other);
    assert_eq!(registry.watcher_count(), 0);
}
