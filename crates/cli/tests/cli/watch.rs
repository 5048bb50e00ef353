//! `watch`: its lines, and how it ends.

use rustix::process::Signal;

use crate::program::json_lines;
use crate::server::Server;

#[test]
fn a_watch_tells_each_step_in_a_line() {
    let server = Server::start();
    server.put("/w/a", "1");
    server.put("/other", "1");
    let watch = server.spawn(&["watch", "/w/", "--snapshot", "--prev-kv", "--output", "json"]);
    let created = watch.next_json();
    assert_eq!(
        (&created["type"], &created["revision"]),
        (&"created".into(), &3.into())
    );
    assert_eq!(created["keyspace_id"].as_str().unwrap().len(), 16);
    assert_eq!(
        watch.next_json(),
        serde_json::json!({"type": "snapshot_begin", "revision": 3})
    );
    let entry = watch.next_json();
    assert_eq!(
        entry,
        serde_json::json!({"type": "snapshot", "revision": 3, "key": "/w/a", "value": "1", "create_revision": 2,
            "mod_revision": 2, "version": 1, "lease": 0, "time": null})
    );
    assert_eq!(
        watch.next_json(),
        serde_json::json!({"type": "snapshot_end", "revision": 3})
    );

    server.put("/w/a", "2");
    let mut put = watch.next_json();
    let time = put["time"].take();
    assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
    assert_eq!(
        put,
        serde_json::json!({"type": "put", "revision": 4, "key": "/w/a", "value": "2", "create_revision": 2,
            "mod_revision": 4, "version": 2, "lease": 0, "time": null, "prev_value": "1"})
    );
    server.put("/w/b", "1");
    assert_eq!(watch.next_json()["prev_value"], serde_json::Value::Null);
    server.run(&["del", "/w/a"]);
    let mut delete = watch.next_json();
    delete["time"].take();
    assert_eq!(
        delete,
        serde_json::json!({"type": "delete", "revision": 6, "key": "/w/a", "value": "", "create_revision": 0,
            "mod_revision": 6, "version": 0, "lease": 0, "time": null, "prev_value": "2"})
    );
}

#[test]
fn an_interrupted_watch_ends_with_0_and_tells_where_to_go_on() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start();
        let mut watch = server.spawn(&["watch", "/w/", "--output", "json"]);
        watch.next_of_type("created");
        server.put("/w/a", "1");
        watch.next_of_type("put");
        watch.signal(signal);
        let lines = json_lines(&watch.rest_of_stdout().join("\n"));
        let canceled = lines.last().unwrap();
        assert_eq!(canceled["type"], "canceled");
        assert_eq!(canceled["reason"], "canceled");
        assert_eq!(canceled["revision"], 2);
        assert_eq!(canceled["resume_revision"], 3);
        assert_eq!(watch.wait().code(), Some(0));
    }
}

#[test]
fn a_watch_from_a_revision_begins_with_it() {
    let server = Server::start();
    for value in ["1", "2", "3"] {
        server.put("/k", value);
    }
    let watch = server.spawn(&["watch", "/k", "--rev", "3", "--output", "json"]);
    assert_eq!(watch.next_of_type("put")["value"], "2");
    assert_eq!(watch.next_of_type("put")["value"], "3");
}

#[test]
fn a_watch_from_a_future_revision_waits_for_it() {
    let server = Server::start();
    let watch = server.spawn(&["watch", "/k", "--rev", "4", "--output", "json"]);
    watch.next_of_type("created");
    for value in ["1", "2", "3"] {
        server.put("/k", value);
    }
    assert_eq!(watch.next_of_type("put")["revision"], 4);
}

#[test]
fn a_key_does_not_stand_for_what_is_below_it() {
    let server = Server::start();
    let watch = server.spawn(&["watch", "/k", "--output", "json"]);
    watch.next_of_type("created");
    server.put("/k/below", "1");
    server.put("/kk", "1");
    server.put("/k", "1");
    assert_eq!(watch.next_of_type("put")["key"], "/k");
}

#[test]
fn people_get_a_line_per_event() {
    let server = Server::start();
    server.put("/k", "old");
    let watch = server.spawn(&["watch", "/k", "--snapshot", "--prev-kv"]);
    assert_eq!(watch.next_line(), "2       snapshot  /k  old");
    server.put("/k", "new");
    let line = watch.next_line();
    assert!(line.starts_with("3       20"), "{line}");
    assert!(line.ends_with("Z  put       /k  new  (was old)"), "{line}");
}

#[test]
fn a_key_that_is_not_there_but_has_keys_below_it_is_noted() {
    let server = Server::start();
    server.put("/w/below", "1");
    let watch = server.spawn(&["watch", "/w"]);
    let note = watch.expect_on_stderr("there is no key /w");
    assert!(note.ends_with("say /w/"), "{note}");
    let got = server.run(&["get", "/w/"]);
    assert_eq!(got.code, Some(5), "{got:?}");
    assert!(got.stderr.contains("`tidewatch ls /w/`"), "{got:?}");
}
