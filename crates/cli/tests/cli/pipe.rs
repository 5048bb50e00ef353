//! A reader that goes away is no error.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::tidewatch;
use crate::server::{Server, serve};

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
fn output_that_cannot_be_written_is_an_error() {
    let server = Server::start();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = server.command(&["status"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: failed to write to stdout: No space left"),
        "{stderr}"
    );
}

#[test]
fn completions_may_be_cut_off() {
    assert_ends_quietly(tidewatch().args(["completions", "bash"]));
}

#[test]
fn a_server_goes_on_when_nobody_reads_its_log() {
    let dir = TempDir::new().unwrap();
    let mut child = serve("127.0.0.1:0", dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("serving on http://") {
        line.clear();
        log.read_line(&mut line).unwrap();
    }
    drop(log);
    // That it ends is logged.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
