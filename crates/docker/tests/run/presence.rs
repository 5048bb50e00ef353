//! Who looks after a host: the lease, the fence, and handing over.

use std::sync::atomic::Ordering;

use tidewatch_core::txn::PutRequest;
use tidewatch_docker::{RENEW_DEADLINE, RENEW_INTERVAL};
use tidewatch_fleet::State;

use crate::world::{World, labelled, ms, secs};

#[tokio::test]
async fn the_host_is_claimed_with_a_lease_and_given_up_on_shutdown() {
    let mut world = World::new(&[]).await;
    let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
    assert_eq!(&alive.value[..], br#"{"instance":"i1"}"#);
    let lease = alive.lease.unwrap();
    let (_, info) = world.ks.lease_info(lease).await.unwrap();
    assert_eq!(info.granted, secs(10));
    world.pass(secs(60)).await;
    let kept = world.ks.get("/alive/h1").await.unwrap().unwrap();
    assert_eq!(
        kept.mod_revision, alive.mod_revision,
        "kept alive, never rewritten"
    );
    world.stop().await;
    assert!(world.ks.get("/alive/h1").await.unwrap().is_none());
}

#[tokio::test]
async fn an_instance_that_comes_back_takes_its_host_over_at_once() {
    let mut world = World::new(&["shop"]).await;
    world.kill();
    world.settle().await;
    world.docker.put_silently(labelled("c1", "shop", "web"));
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i1");
    next.until_rows(&["shop/web c1 running"]).await;
}

#[tokio::test]
async fn another_instance_waits_until_the_lease_has_expired() {
    let mut world = World::new(&["shop"]).await;
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i2");
    next.settle().await;
    assert_eq!(next.status.snapshot().ours, Some(false));
    assert_eq!(next.status.snapshot().held_by, "i1");
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    assert_eq!(next.status.snapshot().changes, 0);
    world.kill();
    world.docker.put_silently(labelled("c2", "shop", "db"));
    next.pass(ms(9_000)).await;
    assert_eq!(next.rows().await, ["shop/web c1 running"]);
    next.pass(ms(6_000)).await;
    assert_eq!(next.rows().await, ["shop/db c2 running", "shop/web c1 running"]);
}

#[tokio::test]
async fn a_plan_is_not_applied_once_the_host_is_somebody_elses() {
    let world = World::new(&["shop"]).await;
    let (_, grant) = world.ks.lease_grant(None, secs(600)).await.unwrap();
    let theirs = PutRequest::new("/alive/h1", r#"{"instance":"other"}"#);
    world.ks.txn(theirs.lease(grant.id).into()).await.unwrap();
    world.docker.put(labelled("c1", "shop", "web"));
    world.pass(secs(5)).await;
    assert_eq!(world.rows().await, [""; 0]);
    assert_eq!(world.status.snapshot().held_by, "other");
    world.ks.lease_revoke(grant.id).await.unwrap();
    world.pass(secs(5)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
}

#[tokio::test]
async fn a_restart_of_the_reconciler_writes_nothing_but_its_claim() {
    let mut world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.stop().await;
    let revision = world.revision().await;
    world.clock.advance(secs(1000));
    let next = World::start(world.clock.clone(), world.ks.clone(), world.docker.clone(), "i1");
    next.until("a resync", || next.status.snapshot().resyncs > 0)
        .await;
    next.settle().await;
    assert_eq!(next.revision().await, revision.next());
}

#[tokio::test]
async fn after_its_lease_was_lost_the_host_is_claimed_again_and_listed_again() {
    let world = World::new(&["shop"]).await;
    let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
    world.ks.lease_revoke(alive.lease.unwrap()).await.unwrap();
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.pass(secs(4)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    assert!(world.ks.get("/alive/h1").await.unwrap().is_some());
}

#[tokio::test]
async fn keys_about_the_host_that_somebody_deletes_come_back() {
    let world = World::new(&[]).await;
    for key in ["/alive/h1", "/hosts/h1"] {
        world.ks.delete(tidewatch_core::key(key).unwrap()).await.unwrap();
    }
    world.pass(secs(4)).await;
    assert!(
        world.ks.get("/alive/h1").await.unwrap().is_some(),
        "with the next keep-alive"
    );
    world.pass(secs(130)).await;
    assert!(world.host().await.reachable, "with the next resync but one");
}

#[tokio::test]
async fn a_renewal_that_hangs_does_not_cost_the_lease() {
    let (world, stalled) = World::stalled().await;
    let claimed = world.ks.get("/alive/h1").await.unwrap().unwrap();
    // Wherever in the life of the lease it happens, and time and again.
    for _ in 0..20 {
        stalled.hanging_keep_alives.store(1, Ordering::SeqCst);
        world.pass(RENEW_INTERVAL + RENEW_DEADLINE).await;
        assert_eq!(stalled.hanging_keep_alives.load(Ordering::SeqCst), 0, "it hung");
        world.pass(ms(1_700)).await;
        let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
        assert_eq!(alive.mod_revision, claimed.mod_revision, "the claim stands");
        assert_eq!(world.status.snapshot().store_error, "");
    }
}

#[tokio::test]
async fn a_key_that_is_overwritten_under_its_lease_is_claimed_anew() {
    let world = World::new(&["shop"]).await;
    let claimed = world.ks.get("/alive/h1").await.unwrap().unwrap();
    // As `etcdctl put --ignore-lease` does.
    let put = PutRequest {
        ignore_lease: true,
        ..PutRequest::new("/alive/h1", "by hand")
    };
    world.ks.txn(put.into()).await.unwrap();
    world.docker.put(labelled("c1", "shop", "web"));
    // The plan finds that out; nothing has to wait for the next renewal.
    world.pass(secs(1)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    let alive = world.ks.get("/alive/h1").await.unwrap().unwrap();
    assert_eq!(&alive.value[..], br#"{"instance":"i1"}"#);
    assert_ne!(alive.lease, claimed.lease);
    let (_, leases) = world.ks.lease_list().await.unwrap();
    assert_eq!(leases, [alive.lease.unwrap()], "the former one was given up");
}

#[tokio::test]
async fn who_overwrites_the_key_time_and_again_is_no_reason_to_be_busy() {
    let world = World::new(&["shop"]).await;
    let before = world.revision().await;
    for n in 0..100 {
        let put = PutRequest {
            ignore_lease: true,
            ..PutRequest::new("/alive/h1", "by hand")
        };
        // It may be gone for the moment.
        let _ = world.ks.txn(put.into()).await;
        let mut container = labelled("c1", "shop", "web");
        container.state = if n % 2 == 0 { State::Running } else { State::Paused };
        world.docker.put(container);
        world.pass(ms(100)).await;
    }
    // Each of a hundred overwrites is a revision; each claim two, and there are pauses between them.
    let made = world.revision().await.0 - before.0;
    assert!((100..160).contains(&made), "{made} revisions in ten seconds");
}
