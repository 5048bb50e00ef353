//! `workload`, `ps`, `explain`, `hosts`, `log`, on rows that were written by hand.

use serde_json::{Value, json};

use crate::program::eventually;
use crate::server::Server;

/// A keyspace as a reconciler and a deployer would leave it.
fn fleet() -> Server {
    let server = Server::start();
    let declared = server.json(&[
        "workload", "declare", "shop", "--kind", "stack", "--name", "The shop", "--label", "team=web",
        "--expect", "web=2",
    ]);
    assert_eq!(declared.code, Some(0), "{declared:?}");
    let row = json!({
        "id": "shop:web", "workload_id": "shop", "workload_kind": "stack", "role": "web", "host": "h1",
        "daemon_id": "d1", "container_id": "c0ffee00c0ffee00", "name": "shop-web-1", "image_ref": "nginx:1.27",
        "state": "running", "port": 8080, "ours": "kept"
    });
    server.put("/containers/shop/h1/web", &row.to_string());
    let host = json!({"daemon_id": "d1", "versions": {"docker": "29.0"}, "address": "10.0.0.5", "reachable": true,
        "since": "2026-01-01T00:00:00Z"});
    server.put("/hosts/h1", &host.to_string());
    // Somebody has to be alive there, else its rows read as unknown.
    server.put("/alive/h1", r#"{"instance":"i1"}"#);
    server
}

#[test]
fn a_declared_workload_is_listed_and_removed() {
    let server = fleet();
    let listed = server.json(&["workload", "ls"]).line();
    assert_eq!(listed["id"], "shop");
    assert_eq!(listed["kind"], "stack");
    assert_eq!(listed["name"], "The shop");
    assert_eq!(listed["labels"], json!({"team": "web"}));
    assert_eq!(listed["expect"], json!({"web": {"min": 2}}));
    assert_eq!(listed["key"], "/workloads/shop");
    assert_eq!(listed["mod_revision"], 2);
    let removed = server.json(&["workload", "rm", "shop"]).line();
    assert_eq!(removed["deleted"], 2);
    assert_eq!(server.json(&["workload", "ls"]).lines(), Vec::<Value>::new());
    assert_eq!(server.run(&["get", "/containers/shop/h1/web"]).code, Some(5));
    assert_eq!(server.run(&["workload", "rm", "shop"]).code, Some(5));
}

#[test]
fn a_workload_with_deploy_rows_is_removed_by_force_only() {
    let server = fleet();
    server.put(
        "/deploy/shop/web",
        r#"{"role":"web","host":"h1","container_id":"","state":"starting"}"#,
    );
    let refused = server.run(&["workload", "rm", "shop"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let forced = server.run(&["workload", "rm", "shop", "--force"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(server.json(&["ls", "/deploy/"]).lines(), Vec::<Value>::new());
}

#[test]
fn declaring_again_replaces_the_declaration_and_keeps_the_fields_of_others() {
    let server = fleet();
    server.put(
        "/workloads/shop",
        r#"{"id":"shop","kind":"stack","name":"Old","labels":{"team":"web"},"theirs":1}"#,
    );
    let again = server.run(&["workload", "declare", "shop", "--kind", "stack", "--name", "Shop"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let listed = server.json(&["workload", "ls"]).line();
    assert_eq!(listed["name"], "Shop");
    assert_eq!((&listed["labels"], &listed["theirs"]), (&json!({}), &json!(1)));
}

#[test]
fn ps_shows_rows_with_their_key_and_every_field() {
    let server = fleet();
    let row = server.json(&["ps"]).line();
    assert_eq!(row["key"], "/containers/shop/h1/web");
    assert_eq!(row["mod_revision"], 3);
    assert_eq!(row["workload_id"], "shop");
    assert_eq!(row["state"], "running");
    assert_eq!(row["ours"], "kept");
    let text = server.run(&["ps"]);
    for word in ["WORKLOAD", "shop", "h1", "running", "nginx:1.27"] {
        assert!(text.text().contains(word), "no {word} in {text:?}");
    }
}

#[test]
fn ps_filters() {
    let server = fleet();
    for (args, rows) in [
        (["--workload", "shop"], 1),
        (["--workload", "other"], 0),
        (["--host", "h1"], 1),
        (["--host", "h2"], 0),
        (["--state", "running"], 1),
        (["--state", "stopped"], 0),
    ] {
        let mut all = vec!["ps"];
        all.extend(args);
        assert_eq!(server.json(&all).lines().len(), rows, "{args:?}");
    }
}

#[test]
fn ps_watch_prints_what_is_there_and_then_what_changes() {
    let server = fleet();
    let watch = server.spawn(&["ps", "--watch", "--output", "json"]);
    assert_eq!(watch.next_json()["state"], "running");
    server.put("/containers/shop/h1/web", r#"{"id":"shop:web","workload_id":"shop","workload_kind":"stack","role":"web","host":"h1","daemon_id":"d1","container_id":"c0ffee00c0ffee00","name":"shop-web-1","image_ref":"nginx:1.27","state":"stopped","exit_code":137}"#);
    let changed = watch.next_json();
    assert_eq!(
        (&changed["state"], &changed["exit_code"]),
        (&"stopped".into(), &137.into())
    );
    server.run(&["del", "/containers/shop/h1/web"]);
    let removed = watch.next_json();
    assert_eq!(removed["key"], "/containers/shop/h1/web");
    assert_eq!(removed["removed"], true);
}

#[test]
fn hosts_are_listed() {
    let server = fleet();
    let host = server.json(&["hosts"]).line();
    assert_eq!(host["host"], "h1");
    assert_eq!(host["reachable"], true);
    assert_eq!(host["key"], "/hosts/h1");
    assert!(server.run(&["hosts"]).text().contains("10.0.0.5"));
}

#[test]
fn a_server_without_its_docker_serves_all_the_same_and_hosts_shows_it() {
    let server = Server::start_with_docker("unix:///nowhere/docker.sock");
    server.put("/k", "v");
    let unreachable = |host: &Value| {
        let error = host["error"].as_str().unwrap_or_default();
        host["host"] == "h9" && host["reachable"] == false && error.contains("/nowhere/docker.sock")
    };
    eventually("its docker is known to be away", || {
        server.json(&["hosts"]).lines().iter().any(unreachable)
    });
    let text = server.run(&["hosts"]);
    assert!(text.text().contains("unreachable"), "{text:?}");
    let reconciler = server.json(&["status"]).line()["reconcilers"][0].clone();
    assert_eq!(
        (&reconciler["host"], &reconciler["reachable"]),
        (&"h9".into(), &false.into())
    );
}

#[test]
fn the_log_tells_what_changed_and_when() {
    let server = fleet();
    let log = server.json(&["log"]).lines();
    assert!(log.len() >= 3, "{log:?}");
    let row = log
        .iter()
        .find(|line| line["key"] == "/containers/shop/h1/web")
        .unwrap();
    assert_eq!(row["workload"], "shop");
    assert_eq!(row["state_after"], "running");
    assert!(humantime::parse_rfc3339(row["time"].as_str().unwrap()).is_ok());
    assert_eq!(
        server.json(&["log", "--workload", "other"]).lines(),
        Vec::<Value>::new()
    );
    assert_eq!(server.json(&["log", "--since", "1h"]).lines().len(), log.len());
    assert_eq!(
        server.json(&["log", "--since", "2999-01-01T00:00:00Z"]).lines(),
        Vec::<Value>::new()
    );
    let until = |time| server.json(&["log", "--until", time]).lines().len();
    assert_eq!(until("1h"), 0, "an hour ago nothing had happened");
    assert_eq!(until("2999-01-01T00:00:00Z"), log.len());
    assert_eq!(server.run(&["log", "--since", "yesterday"]).code, Some(2));
}

#[test]
fn a_container_that_nobody_knows_is_not_found() {
    let server = fleet();
    let done = server.run(&["explain", "no-such-container"]);
    assert_eq!((done.code, done.text()), (Some(5), ""), "{done:?}");
}
