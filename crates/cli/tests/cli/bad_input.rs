//! What is not valid, too large or not there: a clear error, and the right code.

use crate::program::{Done, run, run_with_stdin, tidewatch};
use crate::server::Server;

#[track_caller]
fn assert_error(done: &Done, code: i32, message: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    assert_eq!(done.text(), "", "an error prints no data");
    let first = done.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{done:?}");
    assert!(first.contains(message), "no {message:?} in {first:?}");
    assert!(!done.stderr.contains("panicked"), "{done:?}");
}

#[test]
fn keys_and_prefixes_that_are_not_valid_are_refused_before_anybody_is_asked() {
    // Nobody listens there: a 2 shows that the error came first.
    let nowhere = ["--endpoint", "http://127.0.0.1:1"];
    let long = format!("/{}", "k".repeat(4096));
    let long_prefix = format!("/{}/", "k".repeat(4096));
    let cases: [(&[&str], &str); 11] = [
        (&["get", ""], "invalid key \"\": it is empty"),
        (&["put", "", "v"], "it is empty"),
        (&["del", ""], "it is empty"),
        (&["watch", ""], "it is empty"),
        (&["get", &long], "longer than 4096 bytes"),
        (&["put", &long, "v"], "longer than 4096 bytes"),
        (&["ls", "config/"], "invalid prefix \"config/\""),
        (&["ls", "/config"], "must start and end with '/'"),
        (&["ls", ""], "invalid prefix \"\""),
        (&["watch", "config/"], "invalid prefix"),
        (&["ls", &long_prefix], "at most 4096 bytes long"),
    ];
    for (args, message) in cases {
        assert_error(&run(tidewatch().args(args).args(nowhere)), 2, message);
    }
}

#[test]
fn a_value_of_a_mebibyte_fits_and_one_byte_more_does_not() {
    let server = Server::start();
    let mut value = vec![b'v'; 1 << 20];
    let put = |value: &[u8]| run_with_stdin(&mut server.command(&["put", "/v", "-"]), Some(value));
    assert_eq!(put(&value).code, Some(0));
    value.push(b'v');
    assert_error(&put(&value), 2, "at most 1048576 are allowed");
    assert_eq!(server.json(&["status"]).line()["revision"], 2);
}

#[test]
fn endless_input_is_not_read_to_its_end() {
    let server = Server::start();
    let mut command = server.command(&["put", "/v", "-"]);
    command.stdin(std::fs::File::open("/dev/zero").unwrap());
    assert_error(&run(&mut command), 2, "at most 1048576 are allowed");
}

#[test]
fn names_and_kinds_that_are_not_valid_are_refused() {
    let cases: [(&[&str], &str); 6] = [
        (&["workload", "declare", "", "--kind", "stack"], "it is empty"),
        (
            &["workload", "declare", "a/b", "--kind", "stack"],
            "'/' at byte 1 is not allowed",
        ),
        (
            &["workload", "declare", "shop", "--kind", "pod"],
            "unknown kind \"pod\"",
        ),
        (
            &[
                "workload", "declare", "shop", "--kind", "stack", "--expect", "web",
            ],
            "ROLE=MIN",
        ),
        (&["workload", "rm", "-x"], "-x"),
        (&["ps", "--host", "a b"], "' ' at byte 1 is not allowed"),
    ];
    for (args, message) in cases {
        let done = run(tidewatch().args(args));
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(message), "no {message:?} in {done:?}");
    }
}

#[test]
fn an_etcd_beside_a_data_directory_and_parts_of_an_etcd_without_one_are_refused() {
    let password = tempfile::NamedTempFile::new().unwrap();
    let file = password.path().to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (
            &["--etcd", "etcd-1", "--data-dir", "/data"],
            "invalid etcd: the keyspace is to be in /data too; leave --etcd or --data-dir out",
        ),
        (&["--etcd-namespace", "/fleet/"], "--etcd <URL>"),
        (&["--etcd", "etcd-1", "--etcd-cert", "cert.pem"], "--etcd-key <F>"),
        (
            &["--etcd", "etcd-1", "--etcd-user", "ann"],
            "there is no password for etcd's user \"ann\"",
        ),
        (
            &[
                "--etcd",
                "etcd-1",
                "--etcd-user",
                "ann",
                "--etcd-password-file",
                file,
            ],
            "there is no password",
        ),
    ];
    for (args, message) in cases {
        let done = run(tidewatch().args(["serve", "--no-docker"]).args(args));
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(message), "no {message:?} in {done:?}");
    }
}

#[test]
fn a_workload_of_the_compose_plugin_is_refused() {
    let server = Server::start();
    let declared = server.run(&["workload", "declare", "compose-shop", "--kind", "compose"]);
    assert_error(&declared, 4, "compose");
    let declared = server.run(&["workload", "declare", "shop", "--kind", "compose"]);
    assert_error(&declared, 4, "kind \"compose\" is reserved");
}

#[test]
fn nobody_there_is_said_with_a_hint() {
    for args in [
        &["get", "/k"][..],
        &["put", "/k", "v"],
        &["del", "/k"],
        &["ls", "/"],
        &["watch", "/k"],
        &["ps"],
        &["ps", "--watch"],
        &["hosts"],
        &["log"],
        &["explain", "web"],
        &["workload", "ls"],
        &["status"],
        &["watchers", "ls"],
        &["watchers", "cancel", "1"],
    ] {
        let done = run(tidewatch().args(args).args(["--endpoint", "http://127.0.0.1:1"]));
        assert_error(&done, 3, "http://127.0.0.1:1");
        assert!(
            done.stderr.contains("hint: is a Tidewatch server running there?"),
            "{done:?}"
        );
        assert_eq!(done.stderr.lines().count(), 2, "{done:?}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_a_usage_error() {
    for endpoint in ["", "nonsense with blanks", "ftp://127.0.0.1:7480", "http://"] {
        let done = run(tidewatch().args(["status", "--endpoint", endpoint]));
        assert_error(&done, 2, "endpoint");
    }
}

#[test]
fn a_peer_that_speaks_something_else_is_not_reached() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let peer = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"220 mail.example ESMTP ready\r\n");
    });
    let done = run(tidewatch().args(["status", "--endpoint", &endpoint]));
    assert_error(&done, 3, &endpoint);
    peer.join().unwrap();
}

#[test]
fn a_token_file_that_cannot_be_used_is_said_before_anybody_is_asked() {
    let dir = tempfile::TempDir::new().unwrap();
    let absent = dir.path().join("absent");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    for file in [absent, empty] {
        let done = run(tidewatch().args(["status", "--token-file"]).arg(&file));
        assert_error(&done, 2, file.to_str().unwrap());
    }
}
