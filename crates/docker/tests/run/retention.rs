//! What is declared, and how long that and rows are kept (rules 4, 6 and 13).

use crate::world::{World, labelled, ms, secs};

#[tokio::test]
async fn a_container_that_waits_for_its_workload_gets_its_row_when_that_is_declared() {
    let world = World::new(&[]).await;
    world.docker.put(labelled("c1", "shop", "web"));
    world.pass(ms(200)).await;
    assert_eq!(world.rows().await, [""; 0]);
    let told = world.status.explain("shop-web-c1");
    assert_eq!(told[0].untracked().unwrap().name(), "unknown_workload");
    let workload = r#"{"id":"shop","kind":"stack"}"#;
    world.ks.put("/workloads/shop", workload).await.unwrap();
    world.pass(ms(200)).await;
    assert_eq!(world.rows().await, ["shop/web c1 running"]);
    assert!(world.status.untracked().is_empty());
    assert!(world.status.explain("c1")[0].untracked().is_none());
}

#[tokio::test]
async fn rule_4_a_missing_row_is_kept_for_a_day_and_its_project_for_as_long() {
    let world = World::new(&[]).await;
    let mut container = labelled("c1", "", "");
    container.labels = [
        ("com.docker.compose.project".to_owned(), "blog".to_owned()),
        ("com.docker.compose.service".to_owned(), "web".to_owned()),
    ]
    .into();
    world.docker.put(container);
    world.until_rows(&["compose-blog/web c1 running"]).await;
    world.docker.remove("c1");
    world.pass(ms(50)).await;
    assert_eq!(world.rows().await, ["compose-blog/web c1 missing"]);
    world.pass_hours(23).await;
    assert_eq!(world.rows().await, ["compose-blog/web c1 missing"]);
    assert!(world.view().await.workloads.contains_key("compose-blog"));
    world.pass_hours(2).await;
    assert_eq!(world.rows().await, [""; 0]);
    assert!(
        world.view().await.workloads.is_empty(),
        "retired when no host has a row of it"
    );
}

#[tokio::test]
async fn rule_13_a_project_is_not_retired_while_another_host_has_containers_of_it() {
    let world = World::new(&[]).await;
    let workload = r#"{"id":"compose-blog","kind":"compose"}"#;
    world.ks.put("/workloads/compose-blog", workload).await.unwrap();
    let row = r#"{"id":"compose-blog:web","workload_id":"compose-blog","workload_kind":"compose","role":"web","host":"h2","container_id":"c9","state":"running"}"#;
    world
        .ks
        .put("/containers/compose-blog/h2/web", row)
        .await
        .unwrap();
    world.docker.emit_doubt();
    world.pass(secs(1)).await;
    assert!(world.view().await.workloads.contains_key("compose-blog"));
    world
        .ks
        .delete(tidewatch_core::key("/containers/compose-blog/h2/web").unwrap())
        .await
        .unwrap();
    world.docker.emit_doubt();
    world.pass(secs(1)).await;
    assert!(world.view().await.workloads.is_empty());
}
