//! What is prepared once for all watchers of a selection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use tidewatch_core::watch::{Batches, Delivery, WireForm};

use super::*;

/// Encodes, and counts how often.
struct Counted;

static ENCODED: AtomicUsize = AtomicUsize::new(0);

impl WireForm for Counted {
    type Encoded = Bytes;

    fn encode(batches: &Batches) -> Bytes {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        batches
            .iter()
            .flat_map(|batch| show(&batch))
            .collect::<Vec<_>>()
            .join(";")
            .into()
    }
}

fn deliveries(watch: &mut Watch) -> Vec<Batches> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Ok(delivery)) = watch.poll_next_delivery(&mut cx) {
        match delivery {
            Delivery::Batches(batches) => all.push(batches),
            Delivery::Batch(batch) => panic!("{batch:?}"),
        }
    }
    all
}

#[tokio::test]
async fn streams_of_one_shape_send_the_same_bytes() {
    let mut plane = Plane::new();
    let keys_only = View {
        keys_only: true,
        ..View::default()
    };
    let watch = |view| {
        let request = WatchRequest {
            view,
            ..one(key("/a").unwrap())
        };
        plane.registry.watch(request).unwrap()
    };
    let mut values: Vec<_> = (0..3).map(|_| watch(View::default())).collect();
    let mut keys = watch(keys_only);
    for watch in values.iter_mut().chain([&mut keys]) {
        assert!(deliveries(watch).is_empty());
    }
    plane.put("/a", "1");
    plane.put("/a", "2");
    plane.settled().await;
    let all: Vec<_> = values.iter_mut().map(deliveries).collect();
    let encoded: Vec<_> = all.iter().map(|all| all[0].encoded::<Counted>()).collect();
    assert_eq!(**encoded[0], *b"2: PUT /a = 1;3: PUT /a = 2");
    assert!(encoded.iter().all(|other| Arc::ptr_eq(other, &encoded[0])));
    assert_eq!(ENCODED.load(Ordering::SeqCst), 1);
    let keys = deliveries(&mut keys);
    assert_eq!(**keys[0].encoded::<Counted>(), *b"2: PUT /a;3: PUT /a");
    assert_eq!(ENCODED.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_begins_in_the_middle_gets_the_rest() {
    let mut plane = Plane::undispatched(WatchSettings::default());
    let first = plane.exact("/a");
    plane.put("/a", "1");
    let mut late = plane.exact("/a").into_watch();
    plane.put("/a", "2");
    plane.put("/a", "3");
    plane.dispatch();
    plane.settled().await;
    let mut early = first.into_watch();
    let revisions = |all: &[Batches]| -> Vec<u64> {
        all.iter()
            .flat_map(Batches::iter)
            .map(|batch| batch.revision().0)
            .collect()
    };
    assert_eq!(revisions(&deliveries(&mut early)), [2, 3, 4]);
    assert_eq!(revisions(&deliveries(&mut late)), [3, 4]);
    assert_eq!(late.position().unwrap().revision, Revision(4));
}

#[tokio::test]
async fn what_shows_nothing_is_not_delivered_and_yet_passed() {
    let mut plane = Plane::new();
    let request = WatchRequest {
        view: View {
            no_put: true,
            ..View::default()
        },
        ..one(key("/a").unwrap())
    };
    let mut watch = plane.registry.watch(request).unwrap();
    assert!(deliveries(&mut watch).is_empty());
    plane.put("/a", "1");
    plane.settled().await;
    assert!(deliveries(&mut watch).is_empty());
    plane.put("/a", "2");
    plane.delete("/a");
    plane.put("/a", "3");
    plane.settled().await;
    let all = deliveries(&mut watch);
    assert_eq!((all.len(), watch.last_delivered()), (1, Some(Revision(4))));
    let shown: Vec<_> = all[0].iter().flat_map(|batch| show(&batch)).collect();
    assert_eq!(shown, ["4: DELETE /a"]);
}
