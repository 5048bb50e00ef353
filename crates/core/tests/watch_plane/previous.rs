//! What a watch asked to see of an event: previous entries, no values, only some kinds.

use super::*;

fn with_prev() -> WatcherOptions {
    WatcherOptions {
        view: View {
            prev_kv: true,
            ..View::default()
        },
        ..WatcherOptions::default()
    }
}

#[tokio::test]
async fn not_asked_absent_and_a_value_are_three_different_things() {
    let mut plane = Plane::new();
    let mut without = plane.exact("/a").into_watch();
    let mut with = plane.registry.register("/a", with_prev()).unwrap().into_watch();
    plane.put("/a", "");
    plane.put("/a", "2");
    plane.delete("/a");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let batch = next_batch(&mut without).await;
        assert_eq!(batch.iter().next().unwrap().prev(), Prev::NotRequested);
        let batch = next_batch(&mut with).await;
        seen.push(match batch.iter().next().unwrap().prev() {
            Prev::NotRequested => panic!("it was requested"),
            Prev::Absent => None,
            Prev::Entry(prev) => Some(prev.value.clone()),
        });
    }
    assert_eq!(seen, [None, Some(Bytes::new()), Some(Bytes::from("2"))]);
}

#[tokio::test]
async fn those_who_asked_are_counted() {
    let plane = Plane::new();
    let without = plane.exact("/a");
    let with = plane.registry.register_prefix("/a/", with_prev()).unwrap();
    assert_eq!(plane.registry.prev_kv_watcher_count(), 1);
    drop((without, with));
    assert_eq!(plane.registry.prev_kv_watcher_count(), 0);
}

#[tokio::test]
async fn keys_only_hides_values_previous_ones_too() {
    let mut plane = Plane::new();
    plane.put("/a", "1");
    let view = View {
        prev_kv: true,
        keys_only: true,
        ..View::default()
    };
    let options = WatcherOptions {
        view,
        ..WatcherOptions::default()
    };
    let mut watch = plane.registry.register("/a", options).unwrap().into_watch();
    plane.put("/a", "2");
    let batch = next_batch(&mut watch).await;
    let event = batch.iter().next().unwrap();
    assert!(matches!(event.prev(), Prev::Entry(prev) if prev.value.is_empty() && prev.version == 1));
    let event = event.to_owned();
    assert_eq!((event.kv.value.len(), event.kv.version), (0, 2));
    assert_eq!(event.prev.unwrap().value.len(), 0);
}

#[tokio::test]
async fn filters_leave_out_puts_or_deletions_and_send_no_empty_batches() {
    let mut plane = Plane::new();
    let puts = View {
        no_delete: true,
        ..View::default()
    };
    let deletions = View {
        no_put: true,
        ..View::default()
    };
    let [mut puts, mut deletions] = [puts, deletions].map(|view| {
        plane
            .registry
            .register_prefix(
                "/",
                WatcherOptions {
                    view,
                    ..WatcherOptions::default()
                },
            )
            .unwrap()
    });
    plane.put("/a", "1");
    plane.commit(&[("/a", None), ("/b", Some("2"))]);
    plane.delete("/b");
    assert_eq!(drain(&mut puts).await, ["2: PUT /a = 1", "3: PUT /b = 2"]);
    assert_eq!(drain(&mut deletions).await, ["3: DELETE /a", "4: DELETE /b"]);
}
