//! `serve`: its settings, and how it ends.

use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{Running, run, tidewatch};
use crate::server::{Server, serve};

#[test]
fn it_says_what_is_served_where() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("new").join("data");
    let running = Running::start(&mut serve("127.0.0.1:0", &data_dir));
    let told = running.expect_on_stderr("serving on http://127.0.0.1:");
    assert!(
        told.contains(&format!("data in {}", data_dir.display())),
        "{told}"
    );
    assert!(told.contains("no docker"), "{told}");
}

#[test]
fn without_a_data_dir_it_uses_the_xdg_one() {
    let dir = TempDir::new().unwrap();
    let mut command = tidewatch();
    command
        .args(["serve", "--no-docker", "--listen", "127.0.0.1:0"])
        .env("XDG_DATA_HOME", dir.path());
    let running = Running::start(&mut command);
    let expected = dir.path().join("tidewatch");
    running.expect_on_stderr(&format!("data in {}", expected.display()));
    assert!(expected.is_dir());
}

#[test]
fn either_signal_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = TempDir::new().unwrap();
        let mut running = Running::start(&mut serve("127.0.0.1:0", dir.path()));
        running.expect_on_stderr("serving on http://");
        running.signal(signal);
        assert_eq!(running.wait().code(), Some(0));
    }
}

#[test]
fn a_watch_that_nobody_ends_does_not_keep_it_from_ending() {
    let mut server = Server::start();
    let watch = server.spawn(&["watch", "/", "--output", "json"]);
    watch.next_of_type("created");
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn settings_are_checked_without_opening_anything() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("data");
    let check = |args: &[&str]| run(serve("127.0.0.1:0", &data_dir).arg("--check-config").args(args));
    let good = check(&[]);
    assert_eq!((good.code, good.text()), (Some(0), ""), "{good:?}");
    let bad = check(&["--listen", "0.0.0.0:0"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
    assert!(!data_dir.exists());
}

#[test]
fn settings_that_cannot_be_are_usage_errors() {
    let cases: [(&[&str], &str); 8] = [
        (&["--listen", "0.0.0.0:0"], "--insecure"),
        (&["--listen", "nonsense"], "--listen"),
        (
            &["--no-docker", "--docker", "unix:///var/run/docker.sock"],
            "--no-docker",
        ),
        (&["--docker", "nonsense"], "unix://"),
        (&["--docker", "=unix:///var/run/docker.sock"], "--docker"),
        (&["--docker", "unix:///a,unix:///b"], "name"),
        (&["--host-name", "a b"], "host"),
        (&["--adopt", "everything"], "--adopt"),
    ];
    for (args, message) in cases {
        let dir = TempDir::new().unwrap();
        let mut command = tidewatch();
        command
            .args(["serve", "--check-config", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(args);
        let done = run(&mut command);
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(
            done.stderr.contains(message),
            "{args:?}: no {message:?} in {done:?}"
        );
        assert!(!dir.path().join("data").exists(), "{args:?}");
    }
}

#[test]
fn a_log_filter_that_is_none_is_a_usage_error() {
    let dir = TempDir::new().unwrap();
    let done = run(serve("127.0.0.1:0", dir.path()).env("TIDEWATCH_LOG", "tidewatch=loud"));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("TIDEWATCH_LOG"), "{done:?}");
}

#[test]
fn options_come_from_the_environment_too_and_the_command_line_wins() {
    let dir = TempDir::new().unwrap();
    let mut command = tidewatch();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--no-docker"])
        .env("TIDEWATCH_LISTEN", "0.0.0.0:1")
        .env("TIDEWATCH_DOCKER", "unix:///nowhere")
        .env("TIDEWATCH_DATA_DIR", dir.path().join("data"));
    let running = Running::start(&mut command);
    let told = running.expect_on_stderr("serving on http://127.0.0.1:");
    assert!(told.contains("no docker"), "{told}");
}
