//! `watch --exec`.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::Running;
use crate::server::Server;

/// Longer than a busy machine takes between two changes that belong together.
const SETTLE: &str = "5s";

fn exec(server: &Server, args: &[&str], command: &str) -> Running {
    let mut all = vec!["watch", "/w/", "--exec", command];
    all.extend(args);
    server.spawn(&all)
}

#[test]
fn a_burst_of_changes_is_one_run_with_all_of_its_keys() {
    let server = Server::start();
    let told = r#"echo "$TIDEWATCH_REVISION $TIDEWATCH_EVENTS" $TIDEWATCH_KEYS"#;
    let watch = exec(&server, &["--snapshot", "--settle", SETTLE], told);
    assert_eq!(watch.next_line(), "1 0");
    // It hears of all of them together, however long they take.
    watch.signal(Signal::STOP);
    server.ask(async |keyspace| {
        for (key, value) in [("/w/a", "1"), ("/w/b", "1"), ("/w/a", "2")] {
            keyspace.put(key, value).await?;
        }
        Ok(())
    });
    watch.signal(Signal::CONT);
    assert_eq!(watch.next_line(), "4 3 /w/a /w/b");
    watch.expect_on_stderr("note: revision 4: the command exited with 0");
}

#[test]
fn a_failed_run_is_told_and_the_watch_goes_on() {
    let server = Server::start();
    let watch = exec(&server, &["--snapshot", "--settle", "1ms"], "exit 7");
    watch.expect_on_stderr("note: revision 1: the command exited with 7");
    server.put("/w/a", "1");
    watch.expect_on_stderr("note: revision 2: the command exited with 7");
    let watch = exec(&server, &["--snapshot"], "kill -9 $$");
    watch.expect_on_stderr("was killed by signal 9");
}

/// Runs of the command wait in `read` for a line that the test writes, so that it decides how long they take.
fn fifo(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("gate");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    path
}

#[test]
fn changes_during_a_run_are_one_run_after_it() {
    let dir = TempDir::new().unwrap();
    let gate = fifo(dir.path());
    let server = Server::start();
    let command = format!(
        "echo begin $TIDEWATCH_REVISION; read line < {}; echo end",
        gate.display()
    );
    let watch = exec(&server, &["--snapshot", "--settle", SETTLE], &command);
    assert_eq!(watch.next_line(), "begin 1");
    for number in 0..10 {
        server.put("/w/k", &number.to_string());
    }
    // Opening waits until the run reads, and so shows that it is still the first one.
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(watch.next_line(), "end");
    assert_eq!(watch.next_line(), "begin 11");
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(watch.next_line(), "end");
}

#[test]
fn a_run_that_is_under_way_is_not_killed_by_an_interrupt() {
    let dir = TempDir::new().unwrap();
    let gate = fifo(dir.path());
    let server = Server::start();
    let command = format!("echo begin; read line < {}; echo end", gate.display());
    let mut watch = exec(&server, &["--snapshot"], &command);
    assert_eq!(watch.next_line(), "begin");
    watch.signal(Signal::TERM);
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(watch.rest_of_stdout(), ["end"]);
    assert_eq!(watch.wait().code(), Some(0));
}
