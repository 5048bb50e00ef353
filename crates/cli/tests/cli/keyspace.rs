//! `get`, `put`, `del`, `ls`, `status`: what they print, and how they end.

use serde_json::json;

use crate::program::{json_lines, run_with_stdin};
use crate::server::Server;

#[test]
fn a_value_that_was_put_is_got_byte_for_byte() {
    let server = Server::start();
    let value = b"two\nlines \xff\x00\n";
    let put = run_with_stdin(&mut server.command(&["put", "/bin", "-"]), Some(value));
    assert_eq!((put.code, put.text()), (Some(0), "revision 2\n"));
    let got = server.run(&["get", "/bin"]);
    assert_eq!((got.code, &got.stdout[..]), (Some(0), &value[..]));
    assert_eq!(
        server.json(&["get", "/bin"]).line(),
        json!({"key": "/bin", "value_base64": "dHdvCmxpbmVzIP8ACg==", "create_revision": 2, "mod_revision": 2, "version": 1, "lease": 0})
    );
}

#[test]
fn the_json_lines_have_the_fields_that_scripts_rely_on() {
    let server = Server::start();
    assert_eq!(server.json(&["put", "/a", "1"]).line(), json!({"revision": 2}));
    assert_eq!(server.json(&["put", "/a", "2"]).line(), json!({"revision": 3}));
    let entry =
        json!({"key": "/a", "value": "2", "create_revision": 2, "mod_revision": 3, "version": 2, "lease": 0});
    assert_eq!(server.json(&["get", "/a"]).line(), entry);
    assert_eq!(server.json(&["ls", "/"]).line(), entry);
    assert_eq!(
        server.json(&["del", "/a"]).line(),
        json!({"revision": 4, "deleted": 1})
    );
    let status = server.json(&["status"]).line();
    assert_eq!(status["revision"], 4);
    assert_eq!(status["oldest_revision"], 1);
    assert_eq!(status["backend"], "sqlite");
    assert_eq!(status["watchers"], 0);
    let id = status["keyspace_id"].as_str().unwrap();
    assert_eq!(id.len(), 16, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn what_is_absent_is_not_found_but_may_be_deleted() {
    let server = Server::start();
    let got = server.run(&["get", "/absent"]);
    assert_eq!((got.code, got.text()), (Some(5), ""));
    assert_eq!(got.stderr, "error: there is no key /absent\n");
    let deleted = server.json(&["del", "/absent"]);
    assert_eq!(deleted.line(), json!({"revision": 1, "deleted": 0}));
    let deleted = server.run(&["del", "/absent"]);
    assert_eq!((deleted.code, deleted.text()), (Some(0), ""));
    assert_eq!(deleted.stderr, "note: there was no key /absent\n");
}

#[test]
fn an_empty_value_is_a_value() {
    let server = Server::start();
    server.put("/empty", "");
    let got = server.run(&["get", "/empty"]);
    assert_eq!((got.code, got.text()), (Some(0), ""));
    assert_eq!(server.json(&["get", "/empty"]).line()["value"], "");
}

#[test]
fn ls_shows_what_is_below_the_prefix_and_nothing_else() {
    let server = Server::start();
    for key in ["/config/b", "/config/a", "/config", "/configuration/c"] {
        server.put(key, "one\ntwo");
    }
    let listed = server.run(&["ls", "/config/"]);
    assert_eq!(
        listed.text(),
        "KEY         REVISION   VALUE\n\
         /config/a   3          one\\ntwo\n\
         /config/b   2          one\\ntwo\n"
    );
    let nothing = server.run(&["ls", "/nothing/"]);
    assert_eq!((nothing.code, nothing.text()), (Some(0), ""));
}

#[test]
fn ls_pages_through_more_than_fits_one_answer() {
    let server = Server::start();
    let value = "x".repeat(1 << 20);
    for number in 0..5 {
        let key = format!("/large/{number}");
        let put = run_with_stdin(&mut server.command(&["put", &key, "-"]), Some(value.as_bytes()));
        assert_eq!(put.code, Some(0), "{put:?}");
    }
    for number in 0..65 {
        server.put(&format!("/many/{number:03}"), "");
    }
    let large = server.json(&["ls", "/large/"]).lines();
    assert_eq!(large.len(), 5);
    assert!(large.iter().all(|line| line["value"].as_str().unwrap() == value));
    let many = json_lines(server.json(&["ls", "/many/"]).text());
    let keys: Vec<_> = many.iter().map(|line| line["key"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..65).map(|number| format!("/many/{number:03}")).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_key_that_is_no_text_is_shown_all_the_same() {
    let server = Server::start();
    server.ask(async |keyspace| keyspace.put(&b"/\xff\n"[..], "v").await);
    let listed = server.json(&["ls", "/"]).line();
    assert_eq!(
        (&listed["key_base64"], &listed["key"]),
        (&"L/8K".into(), &serde_json::Value::Null)
    );
    let text = server.run(&["ls", "/"]);
    assert!(text.text().contains("/\\xff\\n"), "{text:?}");
}

#[test]
fn status_for_people_is_a_table_of_names_and_values() {
    let server = Server::start();
    server.put("/a", "1");
    let status = server.run(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let revision = status.text().lines().find(|line| line.starts_with("revision"));
    assert!(revision.is_some_and(|line| line.ends_with(" 2")), "{status:?}");
}
