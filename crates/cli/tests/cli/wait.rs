//! `wait`, on rows that were written by hand.

use serde_json::json;

use crate::program::{Running, eventually, json_lines, run, tidewatch};
use crate::server::Server;

/// A shop that expects two web servers and has one.
fn shop() -> Server {
    let server = Server::start();
    declare(&server, &["--expect", "web=2"]);
    server.put("/alive/h1", r#"{"instance":"i1"}"#);
    web(&server, "web", "running");
    server
}

fn declare(server: &Server, args: &[&str]) {
    let declare = ["workload", "declare", "shop", "--kind", "stack"];
    let declared = server.run(&[&declare, args].concat());
    assert_eq!(declared.code, Some(0), "{declared:?}");
}

fn web(server: &Server, row: &str, state: &str) {
    let value = json!({
        "id": format!("shop:{row}"), "workload_id": "shop", "workload_kind": "stack", "role": "web", "host": "h1",
        "container_id": format!("{row}0"), "state": state, "exit_code": (state == "stopped").then_some(137),
    });
    server.put(&format!("/containers/shop/h1/{row}"), &value.to_string());
}

/// Waits for as long as a test may take.
const PATIENTLY: [&str; 5] = ["wait", "shop", "--healthy", "--timeout", "10m"];

/// Looks once.
const ONCE: [&str; 5] = ["wait", "shop", "--healthy", "--timeout", "0s"];

/// Returns when the server knows of the watch.
#[track_caller]
fn until_it_watches(server: &Server, waiting: &mut Running) {
    eventually("it watches", || {
        assert!(waiting.goes_on(), "it ended before it watched");
        !server.json(&["watchers", "ls"]).lines().is_empty()
    });
}

#[test]
fn a_workload_that_is_healthy_needs_no_waiting() {
    let server = shop();
    web(&server, "web.2", "running");
    let done = server.run(&PATIENTLY);
    assert_eq!(
        (done.code, done.text()),
        (Some(0), "shop is healthy\n"),
        "{done:?}"
    );
    assert_eq!(server.run(&ONCE).code, Some(0));
    let line = server.json(&PATIENTLY).line();
    assert_eq!(line["expect"], json!([{"role": "web", "min": 2, "found": 2}]));
    assert_eq!(
        (&line["id"], &line["healthy"], &line["missing"]),
        (&json!("shop"), &json!(true), &json!([]))
    );
    assert_eq!(line["revision"], 5);
}

#[test]
fn it_ends_with_the_change_that_makes_the_workload_healthy() {
    let server = shop();
    web(&server, "web.2", "stopped");
    let mut waiting = server.spawn(&[&PATIENTLY[..], &["--output", "json"]].concat());
    until_it_watches(&server, &mut waiting);
    web(&server, "web.2", "running");
    let line = waiting.next_json();
    assert_eq!((&line["healthy"], &line["revision"]), (&json!(true), &json!(6)));
    assert_eq!(waiting.finish().code, Some(0));
}

#[test]
fn when_the_time_is_over_it_ends_with_1_and_says_so() {
    let server = shop();
    let done = server.run(&["wait", "shop", "--healthy", "--timeout", "2s"]);
    assert_eq!((done.code, done.text()), (Some(1), ""), "{done:?}");
    // On a machine that is too busy for it nothing was heard by then.
    assert!(done.stderr.contains("error: "), "{done:?}");
    assert!(done.stderr.contains(" 2s\n"), "{done:?}");
}

#[test]
fn without_time_it_looks_once_says_what_is_missing_and_ends_with_1() {
    let server = shop();
    web(&server, "web.2", "stopped");
    let done = server.json(&ONCE);
    assert_eq!(done.code, Some(1), "{done:?}");
    for told in [
        "note: role web: 1 of 2\n",
        "note: shop/web.2 on h1: stopped (exit 137)\n",
        "error: shop is not healthy\n",
    ] {
        assert!(done.stderr.contains(told), "{told} is not in {done:?}");
    }
    let line = &json_lines(done.text())[0];
    assert_eq!(
        (&line["healthy"], &line["expect"]),
        (&json!(false), &json!([{"role": "web", "min": 2, "found": 1}]))
    );
    assert_eq!(line["missing"].as_array().unwrap().len(), 2);
}

#[test]
fn a_workload_that_expects_nothing_needs_a_container_and_all_of_them() {
    let server = shop();
    declare(&server, &[]);
    assert_eq!(server.run(&PATIENTLY).code, Some(0));
    server.put("/deploy/shop/db", r#"{"role":"db"}"#);
    let done = server.run(&ONCE);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("note: shop/db: starting\n"), "{done:?}");
    server.run(&["del", "/deploy/shop/db"]);
    server.run(&["del", "/containers/shop/h1/web"]);
    let done = server.run(&ONCE);
    assert!(done.stderr.contains("note: shop has no containers\n"), "{done:?}");
    assert_eq!((done.code, done.text()), (Some(1), ""));
}

#[test]
fn a_workload_that_does_not_exist_or_goes_ends_it_with_5() {
    let server = shop();
    let done = server.run(&["wait", "nothing", "--healthy"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("there is no workload nothing"), "{done:?}");
    let mut waiting = server.spawn(&PATIENTLY);
    until_it_watches(&server, &mut waiting);
    server.run(&["workload", "rm", "shop"]);
    assert_eq!(waiting.finish().code, Some(5));
}

#[test]
fn it_goes_on_waiting_when_the_server_is_killed_and_comes_back() {
    let mut server = shop();
    let mut waiting = server.spawn(&PATIENTLY);
    until_it_watches(&server, &mut waiting);
    server.crash_and_restart();
    // The server's leases are as they were, and so is what the reconciler of the host has written.
    web(&server, "web.2", "running");
    let done = waiting.finish();
    assert_eq!((done.code, done.text()), (Some(0), "shop is healthy"), "{done:?}");
}

#[test]
fn without_a_server_it_ends_with_3_and_without_a_purpose_with_2() {
    let done = run(tidewatch()
        .args(PATIENTLY)
        .args(["--endpoint", "http://127.0.0.1:1"]));
    assert_eq!(done.code, Some(3), "{done:?}");
    let done = run(tidewatch().args(["wait", "shop"]));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("--healthy"), "{done:?}");
}
