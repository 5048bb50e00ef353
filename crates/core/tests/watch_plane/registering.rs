//! Coming and going: counted exactly, and nothing left behind.

use super::*;

#[tokio::test]
async fn one_watcher_is_counted() {
    let plane = Plane::new();
    let watcher = plane.exact("/a");
    assert_eq!(plane.registry.watcher_count(), 1);
    assert_eq!((watcher.key(), watcher.is_prefix()), (&Bytes::from("/a"), false));
}

#[tokio::test]
async fn many_watchers_of_one_key_have_different_ids_and_one_selection() {
    let plane = Plane::new();
    let (one, other) = (plane.exact("/a"), plane.exact("/a"));
    assert_ne!(one.id(), other.id());
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_dropped_handle_leaves_nothing_behind() {
    let plane = Plane::new();
    let watchers = (plane.exact("/a"), plane.prefix("/a/"));
    assert_eq!(plane.registry.selection_count(), 2);
    drop(watchers);
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (0, 0)
    );
}

#[tokio::test]
async fn those_who_stay_are_still_counted() {
    let mut plane = Plane::new();
    let (gone, mut stays) = (plane.exact("/a"), plane.exact("/a"));
    drop(gone);
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (1, 1)
    );
    plane.put("/a", "1");
    assert_eq!(drain(&mut stays).await, ["2: PUT /a = 1"]);
}

#[tokio::test]
async fn a_watch_taken_out_of_its_handle_lives_on_until_it_is_dropped_itself() {
    let mut plane = Plane::new();
    let mut watch = plane.exact("/a").into_watch();
    assert_eq!(plane.registry.watcher_count(), 1);
    plane.put("/a", "1");
    assert_eq!(show(&next_batch(&mut watch).await), ["2: PUT /a = 1"]);
    drop(watch);
    assert_eq!(
        plane.registry.watcher_count(),
        0,
        "at once, not at the next event"
    );
}

#[test]
fn registering_and_leaving_at_once_from_many_threads_ends_at_zero() {
    let plane = Plane::undispatched(WatchSettings::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plane = &plane;
            scope.spawn(move || {
                for round in 0..500 {
                    let shared = plane.exact("/shared");
                    let own = plane.prefix(&format!("/{thread}/{}/", round % 3));
                    drop((shared, own));
                }
            });
        }
    });
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_thousand_vanished_receivers_make_room_for_others_at_once() {
    let plane = Plane::new();
    let watches: Vec<_> = (0..1000).map(|_| plane.exact("/a").into_watch()).collect();
    assert!(plane.registry.register("/a", WatcherOptions::default()).is_err());
    drop(watches);
    let again: Vec<_> = (0..1000).map(|_| plane.exact("/a")).collect();
    assert_eq!(again.len(), 1000);
}

/// In d-engine unregistering scans all watchers of the key, in the dispatcher: a hundred thousand
/// that vanish hold up everybody for seconds.
#[test]
fn leaving_needs_neither_the_dispatcher_nor_a_look_at_the_others() {
    let plane = Plane::undispatched(WatchSettings::default());
    let watchers: Vec<_> = (0..100_000).map(|_| plane.exact("/a")).collect();
    drop(watchers);
    assert_eq!(
        (plane.registry.watcher_count(), plane.registry.selection_count()),
        (0, 0)
    );
}
