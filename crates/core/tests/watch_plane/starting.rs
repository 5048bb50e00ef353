//! Where a watch begins: in the past, in the future, after a position, with a snapshot.

use super::*;

fn at(plane: &Plane, revision: u64) -> Watch {
    let request = WatchRequest {
        start: Start::At(Revision(revision)),
        ..one(key("/a").unwrap())
    };
    plane.registry.watch(request).unwrap()
}

fn after(plane: &Plane, keyspace: u64, revision: u64) -> Watch {
    let position = Position {
        keyspace: KeyspaceId(keyspace),
        revision: Revision(revision),
    };
    let request = WatchRequest {
        start: Start::After(position),
        ..one(key("/a").unwrap())
    };
    plane.registry.watch(request).unwrap()
}

#[tokio::test]
async fn a_start_in_the_past_replays_the_history_then_goes_on_live() {
    let mut plane = Plane::new();
    for n in 0..100 {
        plane.put("/a", &n.to_string());
    }
    let mut watch = at(&plane, 2);
    for n in 0..100 {
        assert_eq!(next_batch(&mut watch).await.revision(), Revision(n + 2));
    }
    plane.put("/a", "live");
    assert_eq!(next_batch(&mut watch).await.revision(), Revision(102));
}

#[tokio::test]
async fn a_start_in_the_future_is_silent_until_it_is_reached() {
    let mut plane = Plane::new();
    let mut watch = at(&plane, 5);
    assert!(watch.position().is_none());
    for n in 0..3 {
        plane.put("/a", &n.to_string());
        assert!(now(watch.next()).await.is_none());
    }
    plane.put("/a", "there");
    assert_eq!(show(&next_batch(&mut watch).await), ["5: PUT /a = there"]);
    assert_eq!(
        watch.position(),
        Some(Position {
            keyspace: KEYSPACE,
            revision: Revision(5)
        })
    );
}

#[tokio::test]
async fn a_compacted_start_ends_the_watch_and_says_what_is_left() {
    let mut plane = Plane::new();
    for n in 0..10 {
        plane.put("/a", &n.to_string());
    }
    plane.history.compact(Revision(6));
    let ended = end_of(&mut at(&plane, 5)).await;
    assert!(
        matches!(
            ended.reason,
            EndReason::Compacted {
                requested: Revision(5),
                oldest: Revision(6)
            }
        ),
        "{ended}"
    );
    assert_eq!(next_batch(&mut at(&plane, 6)).await.revision(), Revision(6));
    assert_eq!(next_batch(&mut after(&plane, 7, 5)).await.revision(), Revision(6));
}

#[tokio::test]
async fn a_position_of_another_history_ends_the_watch() {
    let mut plane = Plane::new();
    plane.put("/a", "1");
    for (keyspace, revision) in [(8, 1), (7, 3)] {
        let ended = end_of(&mut after(&plane, keyspace, revision)).await;
        assert!(
            matches!(
                ended.reason,
                EndReason::KeyspaceChanged {
                    actual: KEYSPACE,
                    current: Revision(2)
                }
            ),
            "{ended}"
        );
    }
    assert!(
        now(after(&plane, 7, 2).next()).await.is_none(),
        "the present is no other history"
    );
    assert_eq!(plane.registry.watcher_count(), 0);
}

#[tokio::test]
async fn a_foreign_position_stays_foreign_for_whoever_keeps_it() {
    let plane = Plane::new();
    let watch = after(&plane, 8, 1);
    let foreign = Position {
        keyspace: KeyspaceId(8),
        revision: Revision(1),
    };
    assert_eq!((watch.created(), watch.position()), (foreign, Some(foreign)));
}

struct Page;

impl SnapshotReader for Page {
    fn page(
        &self,
        _range: &KeyRange,
        revision: Revision,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Error> {
        let names = (0..300).map(|n| Bytes::from(format!("/a/{n:03}")));
        let later = names
            .filter(|name| after.is_none_or(|after| name > after))
            .take(limit);
        let entry = |key| KeyValue {
            key,
            value: "v".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: None,
        };
        Ok(later.map(entry).collect())
    }
}

#[tokio::test]
async fn a_snapshot_comes_in_pages_between_its_begin_and_end_then_the_tail() {
    let history = History::new(KEYSPACE, Revision(1), Revision(1));
    let clock = Arc::new(ManualClock::new());
    let registry = WatchRegistry::new(
        Arc::clone(&history),
        Some(Arc::new(Page)),
        clock,
        WatchSettings::default(),
    );
    let dispatcher = tokio::spawn(WatchDispatcher::new(Arc::clone(&registry)).run());
    let mut plane = Plane::undispatched(WatchSettings::default());
    (plane.history, plane.registry, plane.dispatcher) = (history, registry, Some(dispatcher));

    let request = WatchRequest {
        snapshot: true,
        ..one(prefix("/a/").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    plane.put("/a/x", "tail");
    let mut kinds = Vec::new();
    let mut names = Vec::new();
    loop {
        let batch = next_batch(&mut watch).await;
        kinds.push(batch.kind());
        names.extend(batch.iter().map(|event| event.key().clone()));
        match batch.kind() {
            BatchKind::Events => break,
            BatchKind::SnapshotEnd => assert_eq!(watch.position().unwrap().revision, Revision(1)),
            _ => assert!(
                watch.position().is_none(),
                "half a snapshot is nothing to resume from"
            ),
        }
    }
    kinds.dedup();
    let expected = [
        BatchKind::SnapshotBegin,
        BatchKind::Snapshot,
        BatchKind::SnapshotEnd,
        BatchKind::Events,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(names.len(), 301);
    assert!(names.is_sorted());
}
