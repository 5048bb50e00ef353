//! A reader that goes away is no error.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::program::tidewatch;
use crate::server::Server;

/// Starts a command, takes one line of it, and closes the pipe.
#[track_caller]
fn assert_ends_quietly(command: &mut std::process::Command) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::with_capacity(1, child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_long_list_may_be_cut_off() {
    let server = Server::start();
    let value = "x".repeat(100_000);
    for number in 0..20 {
        server.put(&format!("/{number}"), &value);
    }
    assert_ends_quietly(&mut server.command(&["ls", "/", "--output", "json"]));
}

#[test]
fn a_quiet_watch_notices_that_nobody_reads() {
    let server = Server::start();
    assert_ends_quietly(&mut server.command(&["watch", "/quiet/", "--output", "json"]));
}

#[test]
fn completions_may_be_cut_off() {
    assert_ends_quietly(tidewatch().args(["completions", "bash"]));
}
