//! A watch goes on by itself, or says why it cannot.

use tidewatch_core::Revision;

use crate::server::Server;

#[test]
fn a_watch_goes_on_after_a_restart_and_says_so() {
    let mut server = Server::start();
    let watch = server.spawn(&["watch", "/w/", "--output", "json"]);
    watch.next_of_type("created");
    server.put("/w/a", "1");
    assert_eq!(watch.next_of_type("put")["revision"], 2);
    server.crash_and_restart();
    server.put("/w/a", "2");
    let next = watch.next_of_type("put");
    assert_eq!((&next["revision"], &next["value"]), (&3.into(), &"2".into()));
    watch.expect_on_stderr("note: ");
}

#[test]
fn a_snapshot_is_not_told_again_after_a_restart() {
    let mut server = Server::start();
    server.put("/w/a", "1");
    let watch = server.spawn(&["watch", "/w/", "--snapshot", "--output", "json"]);
    watch.next_of_type("snapshot_end");
    server.crash_and_restart();
    server.put("/w/b", "1");
    loop {
        let line = watch.next_json();
        if line["type"] != "progress" {
            assert_eq!((&line["type"], &line["key"]), (&"put".into(), &"/w/b".into()));
            break;
        }
    }
}

#[test]
fn an_orderly_shutdown_is_resumed_from_too() {
    let mut server = Server::start();
    let watch = server.spawn(&["watch", "/w/", "--output", "json"]);
    watch.next_of_type("created");
    server.put("/w/a", "1");
    watch.next_of_type("put");
    assert_eq!(server.terminate().code(), Some(0));
    let restarted = Server::start_on(server.port(), server.data_dir());
    restarted.put("/w/a", "2");
    assert_eq!(watch.next_of_type("put")["value"], "2");
}

#[test]
fn another_keyspace_at_the_same_address_ends_the_watch() {
    let mut server = Server::start();
    let mut watch = server.spawn(&["watch", "/w/", "--output", "json"]);
    watch.next_of_type("created");
    server.put("/w/a", "1");
    watch.next_of_type("put");
    server.terminate();
    let elsewhere = tempfile::TempDir::new().unwrap();
    let _other = Server::start_on(server.port(), elsewhere.path());
    let canceled = watch.next_of_type("canceled");
    assert_eq!(canceled["reason"], "keyspace_changed");
    assert_eq!(canceled["resume_revision"], serde_json::Value::Null);
    assert_eq!(watch.wait().code(), Some(1));
    watch.expect_on_stderr("error: the watch ended: its position belongs to another history");
    watch.expect_on_stderr("hint: begin anew with `--snapshot`");
}

#[test]
fn history_that_is_gone_ends_the_watch_with_what_there_still_is() {
    let server = Server::start();
    for value in ["1", "2", "3"] {
        server.put("/w/a", value);
    }
    server.ask(async |keyspace| keyspace.compact(Revision(3)).await);
    let mut watch = server.spawn(&["watch", "/w/", "--rev", "2", "--output", "json"]);
    let canceled = watch.next_of_type("canceled");
    assert_eq!(canceled["reason"], "compacted");
    assert_eq!(canceled["compact_revision"], 3);
    assert_eq!(canceled["resume_revision"], serde_json::Value::Null);
    assert_eq!(watch.wait().code(), Some(1));
    watch.expect_on_stderr(
        "error: the watch ended: revision 2 has been compacted, the oldest one available is 3",
    );
    watch.expect_on_stderr("hint: changes were missed; begin anew with `--snapshot`, or with `--rev 3`");
    let watch = server.spawn(&["watch", "/w/", "--rev", "3", "--output", "json"]);
    assert_eq!(watch.next_of_type("put")["value"], "2");
}
