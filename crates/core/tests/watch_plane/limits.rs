//! How many watchers there may be, and which requests are refused.

use super::*;

fn limited(max_watchers: usize) -> Plane {
    Plane::undispatched(WatchSettings {
        room: 16,
        max_watchers,
        ..WatchSettings::default()
    })
}

#[test]
fn the_limit_is_for_exact_and_prefix_watchers_together() {
    let plane = limited(2);
    let held = (plane.exact("/a"), plane.prefix("/a/"));
    for result in [
        plane.registry.register("/b", WatcherOptions::default()),
        plane.registry.register_prefix("/b/", WatcherOptions::default()),
    ] {
        assert!(matches!(
            result.unwrap_err(),
            Error::LimitExceeded { limit: 2, .. }
        ));
    }
    drop(held);
    plane.exact("/b");
}

#[test]
fn concurrent_registrations_never_exceed_the_limit_nor_miss_it() {
    let plane = limited(50);
    let held: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let register = |_| plane.registry.register("/a", WatcherOptions::default()).ok();
                    let held: Vec<_> = (0..100).filter_map(register).collect();
                    assert!(plane.registry.watcher_count() <= 50);
                    held
                })
            })
            .collect();
        let held: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        held.iter().map(Vec::len).sum()
    });
    assert_eq!(held, 50);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let plane = limited(10);
    let any = || one(key("/a").unwrap());
    let cases = [
        (WatchRequest::new([]), "no range"),
        (
            WatchRequest::new([key("/a").unwrap(), KeyRange::empty()]),
            "holds no key",
        ),
        (WatchRequest::new(vec![key("/a").unwrap(); 65]), "more than 64"),
        (
            WatchRequest {
                start: Start::At(Revision(0)),
                ..any()
            },
            "revision 0",
        ),
        (
            WatchRequest {
                room: Some(0),
                ..any()
            },
            "room",
        ),
        (
            WatchRequest {
                progress_interval: Some(Duration::from_millis(99)),
                ..any()
            },
            "100 ms",
        ),
        (
            WatchRequest {
                snapshot: true,
                start: Start::At(Revision(1)),
                ..any()
            },
            "snapshot",
        ),
        (
            WatchRequest {
                snapshot: true,
                ..any()
            },
            "snapshot",
        ),
    ];
    for (request, expected) in cases {
        let error = plane.registry.watch(request).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(plane.registry.watcher_count(), 0);
}
