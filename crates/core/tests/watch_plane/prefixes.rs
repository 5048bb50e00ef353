//! Which keys prefixes and other ranges hold.

use super::*;

fn segments(name: &str) -> Vec<String> {
    key::segments(name.as_bytes())
        .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_keys_segments_are_its_slash_terminated_prefixes() {
    let cases: [(&str, &[&str]); 5] = [
        ("/config/db/host", &["/", "/config/", "/config/db/"]),
        ("/", &["/"]),
        ("/config", &["/"]),
        ("/config/", &["/", "/config/"]),
        ("plain", &[]),
    ];
    for (name, expected) in cases {
        assert_eq!(segments(name), expected, "{name}");
    }
}

#[tokio::test]
async fn children_match_and_others_do_not() {
    let mut plane = Plane::new();
    let mut watcher = plane.prefix("/config/");
    for name in [
        "/config/db",
        "/config",
        "/configuration",
        "/other/config/db",
        "/config/",
        "/config/a/b",
    ] {
        plane.put(name, "x");
    }
    assert_eq!(
        drain(&mut watcher).await,
        [
            "2: PUT /config/db = x",
            "6: PUT /config/ = x",
            "7: PUT /config/a/b = x"
        ]
    );
}

#[tokio::test]
async fn the_root_matches_its_children_and_itself() {
    let mut plane = Plane::new();
    let mut watcher = plane.prefix("/");
    plane.put("/a/b/c", "x");
    plane.put("/", "x");
    plane.put("outside", "x");
    assert_eq!(drain(&mut watcher).await, ["2: PUT /a/b/c = x", "3: PUT / = x"]);
}

#[tokio::test]
async fn exact_and_prefix_watchers_of_a_key_both_receive() {
    let mut plane = Plane::new();
    let (mut exact, mut below) = (plane.exact("/a/b"), plane.prefix("/a/"));
    plane.put("/a/b", "x");
    assert_eq!(drain(&mut exact).await, drain(&mut below).await);
}

#[tokio::test]
async fn prefixes_deeper_than_any_table_work() {
    let mut plane = Plane::new();
    let deep = "/d".repeat(200) + "/";
    let mut watcher = plane.prefix(&deep);
    plane.put(&format!("{deep}x"), "1");
    assert_eq!(drain(&mut watcher).await.len(), 1);
    drop(watcher);
    assert_eq!(plane.registry.selection_count(), 0);
}

#[tokio::test]
async fn a_prefix_must_start_and_end_with_a_slash() {
    let plane = Plane::new();
    for name in ["", "a", "/a", "a/", "config/db"] {
        let error = plane
            .registry
            .register_prefix(name, WatcherOptions::default())
            .unwrap_err();
        assert!(matches!(error, Error::InvalidPrefix { .. }), "{name}: {error}");
    }
    assert_eq!(plane.registry.watcher_count(), 0);
}

#[tokio::test]
async fn arbitrary_ranges_match_what_is_in_them() {
    let mut plane = Plane::new();
    let request = one(range("/b", "/d").unwrap());
    let mut watch = plane.registry.watch(request).unwrap();
    for name in ["/a", "/b", "/c/x", "/d"] {
        plane.put(name, "x");
    }
    assert_eq!(show(&next_batch(&mut watch).await), ["3: PUT /b = x"]);
    assert_eq!(show(&next_batch(&mut watch).await), ["4: PUT /c/x = x"]);
    assert!(now(watch.next()).await.is_none());
    drop(watch);
    assert_eq!(plane.registry.selection_count(), 0);
}

#[tokio::test]
async fn several_ranges_in_one_watch_deliver_an_event_once_and_in_order() {
    let mut plane = Plane::new();
    let ranges = [
        prefix("/a/").unwrap(),
        key("/a/x").unwrap(),
        range("/a/w", "/b").unwrap(),
        key("/z").unwrap(),
    ];
    let mut watch = plane.registry.watch(WatchRequest::new(ranges)).unwrap();
    plane.commit(&[("/z", Some("1")), ("/m", Some("no")), ("/a/x", Some("2"))]);
    plane.put("/a/y", "3");
    assert_eq!(
        show(&next_batch(&mut watch).await),
        ["2: PUT /z = 1", "2: PUT /a/x = 2"]
    );
    assert_eq!(show(&next_batch(&mut watch).await), ["3: PUT /a/y = 3"]);
    assert!(now(watch.next()).await.is_none());
}
