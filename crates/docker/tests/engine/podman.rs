//! Podman's imitation of the API, where it is not like Docker.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use tidewatch_core::Keyspace;
use tidewatch_docker::{DockerEvents, DockerLister, Reconciler};
use tidewatch_fleet::{State, View};

use crate::scripted::heard::action;
use crate::scripted::{Answer, ScriptedEngine, chunks};

const LIST: &str = r#"[{"Id":"c1","Names":["/web"],"Image":"localhost/bb:1","ImageID":"sha256:aa","State":"running",
    "Status":"Up 2 hours","Ports":null,"NetworkSettings":{"Networks":{"podman":{"IPAddress":"10.88.0.2"}}},"Mounts":[],
    "Labels":{"tidewatch.managed":"true","tidewatch.workload.id":"shop","tidewatch.role":"web"},"IsInfra":false}]"#;

const EVENTS: [&str; 3] = [
    "{\"status\":\"health_status\",\"id\":\"c1\",\"Type\":\"container\",\"Action\":\"health_status\",\"HealthStatus\":\"healthy\",\"Actor\":{\"ID\":\"c1\"}}\n",
    "{\"Type\":\"pod\",\"Action\":\"start\",\"Actor\":{\"ID\":\"p1\"}}\n",
    "{\"status\":\"remove\",\"id\":\"c1\",\"Type\":\"container\",\"Action\":\"remove\",\"Actor\":{\"ID\":\"c1\"}}\n",
];

/// A Podman, which has another id each time it is asked.
fn podman() -> ScriptedEngine {
    let asked = AtomicUsize::new(0);
    ScriptedEngine::start(move |target| match target.split('?').next().unwrap() {
        "/containers/json" => Answer::ok(LIST),
        "/containers/c1/json" => {
            Answer::ok(r#"{"State":{"Running":true,"StartedAt":"2026-11-21T10:29:53Z"}}"#)
        }
        "/info" => Answer::ok(format!(r#"{{"ID":"{}"}}"#, asked.fetch_add(1, Ordering::SeqCst))),
        "/version" => {
            Answer::ok(r#"{"Components":[{"Name":"Podman Engine","Version":"4.3.1"}],"ApiVersion":"1.41"}"#)
        }
        "/events" => Answer::Stall(chunks(EVENTS)),
        _ => Answer::ok("OK"),
    })
}

#[tokio::test]
async fn an_id_that_changes_with_every_answer_changes_no_row() {
    let scripted = podman();
    let engine = scripted.engine();
    assert_eq!(engine.daemon().await.unwrap().id, "");
    let keyspace = Keyspace::memory();
    keyspace
        .put("/workloads/shop", r#"{"id":"shop","kind":"stack"}"#)
        .await
        .unwrap();
    let mut reconciler = Reconciler::builder("h1".parse().unwrap(), engine.clone())
        .inspect(engine)
        .keyspace(keyspace.clone())
        .build();
    reconciler.reconcile_once().await.unwrap();
    let view = View::read(&keyspace).await.unwrap().1;
    let row = &view.containers.values().next().unwrap().value;
    assert_eq!(
        (row.state, row.health, &*row.daemon_id),
        (State::Running, None, "")
    );
    assert_eq!(row.networks[0].ip, "10.88.0.2");
    let again = reconciler.reconcile_once().await.unwrap();
    assert!(again.changes.is_empty(), "{again:?}");
}

#[tokio::test]
async fn its_words_for_what_happens_are_heard() {
    let scripted = podman();
    let mut events = scripted.engine().subscribe(None).await.unwrap();
    assert_eq!(action(events.next().await), "health_status");
    assert_eq!(action(events.next().await), "remove");
    assert_eq!(events.doubts(), 0);
}
