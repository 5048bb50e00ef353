//! Whose rows they are.

use tidewatch_docker::Container;

use crate::world::{World, labelled, ms, secs};

#[tokio::test]
async fn bug_15_rule_8_another_daemon_never_sweeps_the_rows_of_the_first_one() {
    let world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.docker.clear();
    world.docker.become_daemon("d2");
    world.docker.put_silently(labelled("c2", "shop", "web"));
    world.docker.disconnect();
    world.pass(ms(300)).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 unknown", "shop/web.2 c2 running"]
    );
    assert_eq!(world.host().await.daemon_id, "d2");
    // The first one is back: its rows say what it shows.
    world.docker.clear();
    world.docker.become_daemon("d1");
    world.docker.put_silently(labelled("c1", "shop", "web"));
    world.docker.disconnect();
    world.pass(secs(1)).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 running", "shop/web.2 c2 unknown"]
    );
    world.pass_hours(25).await;
    assert_eq!(
        world.rows().await,
        ["shop/web c1 running"],
        "retired after the retention time"
    );
}

#[tokio::test]
async fn bug_15_a_daemon_that_says_the_same_id_again_doubles_nothing() {
    let mut world = World::new(&["shop"]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.until_rows(&["shop/web c1 running"]).await;
    world.stop().await;
    let again = World::start(
        world.clock.clone(),
        world.ks.clone(),
        world.docker.clone(),
        "another",
    );
    again
        .until("a resync", || again.status.snapshot().resyncs > 0)
        .await;
    again.docker.disconnect();
    again.pass(secs(1)).await;
    assert_eq!(again.rows().await, ["shop/web c1 running"]);
}

#[tokio::test]
async fn bug_09_what_is_not_ours_stays_as_it_is() {
    let world = World::new(&["shop"]).await;
    let foreign = [
        (
            "/deploy/shop/web",
            r#"{"role":"web","host":"h1","state":"pulling"}"#,
        ),
        (
            "/deploy/shop/gone",
            r#"{"host":"h1","container_id":"c9","state":"live"}"#,
        ),
        (
            "/containers/shop/h2/web",
            r#"{"id":"shop:web","workload_id":"shop","workload_kind":"stack","role":"web","host":"h2","container_id":"x","state":"running"}"#,
        ),
        ("/hosts/h2", r#"{"reachable":true}"#),
        ("/somebody/elses", "1"),
    ];
    for (key, value) in foreign {
        world.ks.put(key, value).await.unwrap();
    }
    let workload = world.ks.get("/workloads/shop").await.unwrap();
    world.docker.put(Container::new("c0", "stranger"));
    world.docker.put(labelled("c1", "shop", "web"));
    world.pass(secs(2)).await;
    world.docker.clear();
    world.docker.emit_doubt();
    world.pass_hours(25).await;
    for (key, value) in foreign {
        let kept = world.ks.get(key).await.unwrap().unwrap();
        assert_eq!((kept.version, &kept.value[..]), (1, value.as_bytes()), "{key}");
    }
    assert_eq!(world.ks.get("/workloads/shop").await.unwrap(), workload);
}
