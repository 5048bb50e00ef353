//! `watchers`: who watches, and the end of that.

use crate::program::Running;
use crate::server::Server;

fn watching(server: &Server) -> Running {
    let watch = server.spawn(&["watch", "/w/", "--prev-kv", "--output", "json"]);
    watch.next_of_type("created");
    watch
}

#[test]
fn a_watcher_is_listed_for_scripts_and_for_people() {
    let server = Server::start();
    let watch = watching(&server);
    server.put("/w/a", "1");
    watch.next_of_type("put");
    let line = server.json(&["watchers", "ls"]).line();
    assert_eq!(line["ranges"], serde_json::json!([{"prefix": "/w/"}]));
    assert_eq!(
        (&line["prev_kv"], &line["canceled"]),
        (&true.into(), &false.into())
    );
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["connection"].as_u64().unwrap() > 0, "{line}");
    let shown = server.run(&["watchers", "ls"]);
    let (header, row) = shown.text().split_once('\n').unwrap();
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>(),
        ["ID", "STATE", "BEHIND", "AGE", "PENDING", "FOR", "CLIENT", "KEYS"]
    );
    assert!(row.contains(line["peer"].as_str().unwrap()), "{row}");
    assert!(row.trim_end().ends_with("/w/*"), "{row}");
}

#[test]
fn a_canceled_watch_says_so_and_where_to_go_on_and_does_not_come_back() {
    let server = Server::start();
    let mut watch = watching(&server);
    server.put("/w/a", "1");
    watch.next_of_type("put");
    let id = server.json(&["watchers", "ls"]).line()["id"].to_string();
    assert_eq!(
        server.json(&["watchers", "cancel", &id]).line(),
        serde_json::json!({"id": id.parse::<u64>().unwrap(), "canceled": true})
    );
    let canceled = watch.next_of_type("canceled");
    assert_eq!(canceled["reason"], "canceled");
    assert_eq!(canceled["resume_revision"], 3);
    watch.expect_on_stderr("error: the watch ended: an operator of the server canceled it");
    watch.expect_on_stderr("hint: go on without a gap with `--rev 3`");
    assert_eq!(watch.wait().code(), Some(1));
    assert_eq!(server.run(&["watchers", "ls"]).text(), "", "nobody is left");

    let gone = server.run(&["watchers", "cancel", &id]);
    assert_eq!(gone.code, Some(5), "{gone:?}");
    assert_eq!(gone.stderr, format!("error: there is no watcher {id}\n"));
}

#[test]
fn people_are_told_what_was_canceled() {
    let server = Server::start();
    let watch = watching(&server);
    let id = server.json(&["watchers", "ls"]).line()["id"].to_string();
    let canceled = server.run(&["watchers", "cancel", &id]);
    assert_eq!(
        (canceled.code, canceled.text()),
        (Some(0), &*format!("watch {id} canceled\n"))
    );
    watch.next_of_type("canceled");
}
