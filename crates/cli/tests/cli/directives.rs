//! `directives`: publishing and showing them, and what the server itself logs because of them.

use serde_json::{Value, json};

use crate::program::{Running, run_with_stdin, tidewatch, until};
use crate::server::Server;

fn ids(server: &Server) -> Vec<String> {
    let shown = server.json(&["directives", "show"]).lines();
    shown
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn directives_are_set_shown_replaced_and_removed() {
    let server = Server::start();
    assert_eq!(server.run(&["directives", "show"]).text(), "");
    let set = [
        "directives",
        "set",
        "slow",
        "--level",
        "debug",
        "--match",
        "host=h1",
        "--match",
        "role=web",
    ];
    let more = ["--flag", "dump", "--sample", "10", "--ttl", "15m"];
    let first = server.json(&[&set[..], &more[..]].concat()).line();
    let shown = server.json(&["directives", "show"]).line();
    assert_eq!(
        (
            &shown["id"],
            &shown["level"],
            &shown["match"],
            &shown["flags"],
            &shown["sample_per_mille"]
        ),
        (
            &json!("slow"),
            &json!("debug"),
            &json!({"host": "h1", "role": "web"}),
            &json!(["dump"]),
            &json!(10)
        )
    );
    assert_eq!(shown["expired"], false);
    assert!(humantime::parse_rfc3339(shown["expires_at"].as_str().unwrap()).is_ok());

    server
        .json(&["directives", "set", "other", "--level", "trace", "--ttl", "1h"])
        .line();
    assert_eq!(ids(&server), ["slow", "other"]);
    let text = server.run(&["directives", "show"]);
    assert!(text.text().starts_with("ID "), "{text:?}");
    assert!(text.text().contains("host=h1 role=web"), "{text:?}");

    server.json(&["directives", "rm", "slow"]).line();
    assert_eq!(ids(&server), ["other"]);
    let gone = server.run(&["directives", "rm", "slow"]);
    assert_eq!(gone.code, Some(5), "{gone:?}");
    assert!(gone.stderr.contains("there is no directive \"slow\""), "{gone:?}");

    let at = first["revision"].to_string();
    let file = server.data_dir().join("set.json");
    std::fs::write(
        &file,
        r#"{"directives":[{"id":"new","level":"info","ttl_secs":60}]}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let refused = server.run(&["directives", "publish", file, "--at", &at]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    server.json(&["directives", "publish", file]).line();
    assert_eq!(ids(&server), ["new"]);
    server.json(&["directives", "clear"]).line();
    assert!(ids(&server).is_empty());
}

#[test]
fn a_set_that_is_not_right_is_refused_with_the_reason_and_the_path_before_anybody_is_asked() {
    let nowhere = ["--endpoint", "http://127.0.0.1:1"];
    let large = vec![b' '; 70_000];
    let cases: [(&[u8], &str); 6] = [
        (br#"{"directives":[{"id":"a","level":"debug","ttl_secs":1,"match":{"workload":5}}]}"#,
            "wrong_type at directives[0].match.workload"),
        (br#"{"directives":null}"#, "wrong_type at directives"),
        (br#"{"directives":[{"id":"a","level":"debug","level":"off","ttl_secs":1}]}"#,
            "duplicate_key at directives[0].level"),
        (br#"{"directives":[{"id":"a","level":"debug"}]}"#, "no_life at directives[0]"),
        (br#"{"directives":[{"id":"a","level":"debug","ttl_secs":1,"expires_at":"2030-01-01T00:00:00Z"}]}"#,
            "two_lives at directives[0]"),
        (&large, "too_large at $"),
    ];
    for (set, reason) in cases {
        let done = run_with_stdin(
            tidewatch().args(["directives", "publish", "-"]).args(nowhere),
            Some(set),
        );
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(
            done.stderr
                .starts_with(&format!("error: invalid directives: {reason}")),
            "{done:?}"
        );
    }
    let args = ["directives", "set", "", "--level", "debug", "--ttl", "1m"];
    let done = run_with_stdin(tidewatch().args(args).args(nowhere), None);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("empty_id at id"), "{done:?}");
}

#[test]
fn nodes_tell_which_set_they_have_in_force() {
    let server = Server::start();
    let set = server
        .json(&["directives", "set", "a", "--level", "debug", "--ttl", "1h"])
        .line();
    let told = |wanted: &dyn Fn(&Value) -> bool| {
        until("a report of the node", || {
            let lines = server.json(&["directives", "show", "--nodes"]).lines();
            lines.into_iter().find(|line| wanted(line))
        })
    };
    let node = told(&|node| node["revision"] == set["revision"]);
    assert_eq!(
        (&node["directives"], &node["rejected"]),
        (&json!(1), &Value::Null)
    );
    let bad = server.put("/directives", r#"{"directives":[{"id":5}]}"#);
    let node = told(&|node| !node["rejected"].is_null());
    assert_eq!(
        node["rejected"],
        json!({"revision": bad, "reason": "wrong_type", "path": "directives[0].id"})
    );
    assert_eq!(
        node["revision"], set["revision"],
        "the set before is still in force"
    );
    let shown = server.run(&["directives", "show"]);
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(
        shown
            .stderr
            .contains("the stored set is rejected: wrong_type at directives[0].id"),
        "{shown:?}"
    );
}

#[test]
fn the_server_logs_what_a_directive_wants_and_nothing_else_beyond_its_filter() {
    let server = Server::start();
    let watch = |prefix: &str| -> Running {
        let watch = server.spawn(&["watch", prefix, "--output", "json"]);
        watch.next_of_type("created");
        watch
    };
    let _before = watch("/containers/shop/");
    server.run(&[
        "directives",
        "set",
        "why",
        "--level",
        "debug",
        "--match",
        "component=watch",
        "--match",
        "workload=shop",
        "--ttl",
        "1h",
    ]);
    until("the server's own report", || {
        let lines = server.json(&["directives", "show", "--nodes"]).lines();
        lines.into_iter().find(|line| line["directives"] == 1)
    });
    let _other = watch("/containers/other/");
    let _wanted = watch("/containers/shop/");
    let line = server.expect_logged("a watch began");
    assert!(
        line.contains("workload=\"shop\"") && line.contains("/containers/shop/"),
        "{line}"
    );
}
