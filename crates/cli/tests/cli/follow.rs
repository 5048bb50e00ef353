//! `directives follow`: a file that is kept, and a program that is told.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::server::TcpIncoming;

use crate::program::{Running, now, until};
use crate::server::Server;

/// Files of a run of the command, and of the program that it starts.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file that is kept.
    fn file(&self) -> PathBuf {
        self.path("d.json")
    }

    /// What it says, if it is there.
    fn content(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.file()).ok()?).ok()
    }

    /// Waits until it says that this level is in force.
    #[track_caller]
    fn until_level(&self, level: &str) -> Value {
        until(&format!("{level} in the file"), || {
            self.content().filter(|content| content["level"] == level)
        })
    }

    /// Lines that the program has written to a file of its own.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn until_lines(&self, name: &str, expected: &[&str]) {
        until(&format!("{expected:?} in {name}"), || {
            (self.lines(name) == expected).then_some(())
        });
    }

    /// Waits until the program has begun, and the last good set is there. On a slow machine the program may have begun before
    /// anything was known, and been told since.
    #[track_caller]
    fn until_ready_with_last_good(&self) {
        until("the program's start", || {
            (self.lines("told").first()? == "ready").then_some(())
        });
        until("the last good set", || {
            self.path("d.json.last-good").exists().then_some(())
        });
    }

    /// Removes a file that a program has written which has ended.
    fn forget(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// The command, with a program that is told by SIGUSR1 and runs this script in this place.
    fn follow(&self, server: &Server, script: &str) -> Command {
        let file = self.file();
        let mut command = server.command(&["directives", "follow", "--match", "component=billing"]);
        command
            .args(["--signal", "USR1", "--out"])
            .arg(file)
            .args(["--", "sh", "-c", script])
            .current_dir(self.dir.path());
        command
    }

    /// The same in a process group of its own, as a shell does it. Whatever runs these tests may have chosen to survive its
    /// own terminal, which is inherited.
    fn follow_at_a_terminal(&self, server: &Server, script: &str) -> Command {
        let mut command = self.wrapped("--default-signal=HUP,INT,QUIT", &self.follow(server, script));
        command.process_group(0);
        command
    }

    /// A command that is started with such an option of `env`.
    fn wrapped(&self, option: &str, inner: &Command) -> Command {
        let mut command = Command::new("env");
        command
            .arg(option)
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(self.dir.path());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// A script that does this, and then goes on for as long as its directory is there; for ten minutes at most, should a test be
/// killed that would have removed it.
macro_rules! goes_on {
    ($first:literal) => {
        concat!(
            $first,
            "; left=12000; while test -d \"$PWD\" && test $left != 0; do left=$((left - 1)); sleep 0.05; done"
        )
    };
}

/// Writes a line for each signal, and one when it has begun to listen; ends on SIGTERM.
const LISTENS: &str = goes_on!("trap 'echo told >> told' USR1; trap 'exit 0' TERM; echo ready >> told");

fn set(server: &Server, id: &str, level: &str, more: &[&str]) {
    let set = ["directives", "set", id, "--level", level];
    let done = server.run(&[&set, more].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
}

const HERE: [&str; 4] = ["--match", "component=billing", "--ttl", "1h"];

/// A process that somebody waited for has no directory there any more.
fn is_gone(pid: &str) -> bool {
    !Path::new("/proc").join(pid).exists()
}

#[test]
fn what_applies_to_a_subject_is_kept_in_a_file_and_a_program_is_told() {
    let (server, place) = (Server::start(), Place::new());
    let mut follow = Running::start(&mut place.follow(&server, LISTENS));
    place.until_lines("told", &["ready"]);
    let off = json!({"level": "off", "flags": [], "directives": [], "expires_at": null});
    assert_eq!(place.content(), Some(off));

    set(
        &server,
        "elsewhere",
        "trace",
        &["--match", "component=http", "--ttl", "1h"],
    );
    set(&server, "here", "debug", &HERE);
    assert_eq!(place.until_level("debug")["directives"], json!(["here"]));
    place.until_lines("told", &["ready", "told"]);
    server.run(&["directives", "rm", "here"]);
    place.until_level("off");
    place.until_lines("told", &["ready", "told", "told"]);

    follow.signal(Signal::TERM);
    assert_eq!(follow.wait().code(), Some(0));
}

#[test]
fn the_file_is_written_when_a_directive_ends() {
    let (server, place) = (Server::start(), Place::new());
    let set_of = r#"{"directives":[{"id":"long","level":"info","ttl_secs":3600},{"id":"short","level":"debug","ttl_secs":3}]}"#;
    std::fs::write(place.path("set"), set_of).unwrap();
    let published = server.run(&["directives", "publish", place.path("set").to_str().unwrap()]);
    assert_eq!(published.code, Some(0), "{published:?}");
    let _follow = Running::start(&mut place.follow(&server, LISTENS));
    // Nobody publishes anything any more.
    assert_eq!(place.until_level("info")["directives"], json!(["long"]));
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again_and_the_program_goes_on() {
    let (server, place) = (Server::start(), Place::new());
    let folder = place.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("d.json");
    let mut command = server.command(&["directives", "follow", "--out"]);
    command
        .arg(&file)
        .args(["--", "sh", "-c", goes_on!("trap '' HUP")])
        .current_dir(place.dir.path());
    let mut follow = Running::start(&mut command);
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&file).ok()?).ok();
    until("the file", read);
    // Or it may come between what is removed and the folder itself.
    until("the last good set", || {
        folder.join("d.json.last-good").exists().then_some(())
    });
    std::fs::remove_dir_all(&folder).unwrap();
    server.run(&["directives", "set", "all", "--level", "debug", "--ttl", "1h"]);
    follow.expect_on_stderr("failed to write");
    std::fs::create_dir(&folder).unwrap();
    until("the file again", || {
        read().filter(|content| content["level"] == "debug")
    });
    follow.signal(Signal::TERM);
    assert_eq!(follow.wait().code(), Some(0));
}

#[test]
fn the_end_of_the_program_is_the_end_of_following() {
    let (server, place) = (Server::start(), Place::new());
    let done = Running::start(&mut place.follow(&server, "exit 7")).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("sh ended: exit status: 7"), "{done:?}");
}

#[test]
fn a_program_is_started_while_the_server_is_away_and_follows_it_when_it_comes() {
    let (mut server, place) = (Server::start(), Place::new());
    set(&server, "here", "debug", &HERE);
    server.terminate();
    let follow = Running::start(&mut place.follow(&server, LISTENS));
    follow.expect_on_stderr("the server is away");
    place.until_lines("told", &["ready"]);
    assert_eq!(place.content().unwrap()["level"], "off", "nothing is known");
    let _server = Server::start_on(server.port(), server.data_dir());
    place.until_level("debug");
    place.until_lines("told", &["ready", "told"]);
}

#[test]
fn what_was_known_last_is_in_force_at_a_start_while_the_server_is_away() {
    let (mut server, place) = (Server::start(), Place::new());
    set(&server, "here", "debug", &HERE);
    let mut first = Running::start(&mut place.follow(&server, LISTENS));
    place.until_ready_with_last_good();
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0));
    place.forget("told");
    server.terminate();
    std::fs::remove_file(place.file()).unwrap();

    let second = Running::start(&mut place.follow(&server, LISTENS));
    let told = second.expect_on_stderr("the server is away");
    assert!(told.contains("what was known last stays in force"), "{told}");
    place.until_lines("told", &["ready"]);
    assert_eq!(place.content().unwrap()["directives"], json!(["here"]));
}

#[test]
fn a_program_gets_no_signal_that_it_does_not_handle_yet() {
    let (server, place) = (Server::start(), Place::new());
    let script =
        format!("echo begun > begun; until test -e go || ! test -d \"$PWD\"; do sleep 0.05; done; {LISTENS}");
    let follow = Running::start(&mut place.follow(&server, &script));
    place.until_lines("begun", &["begun"]);
    set(&server, "here", "debug", &HERE);
    place.until_level("debug");
    // Whoever signals without looking ends it now.
    follow.expect_on_stderr("sh does not handle SIGUSR1, which would end it");
    std::fs::write(place.path("go"), "").unwrap();
    place.until_lines("told", &["ready", "told"]);
}

#[test]
fn a_signal_that_was_ignored_from_the_start_is_held_back_until_it_is_handled() {
    let (server, place) = (Server::start(), Place::new());
    // No shell handles what it was started with as ignored.
    let script = "echo begun > begun; until test -e go || ! test -d \"$PWD\"; do sleep 0.05; done; \
                  exec env --default-signal=USR1 sh -c \"$LISTENS\"";
    let mut follow = place.follow(&server, script);
    follow.env("LISTENS", LISTENS);
    let follow = Running::start(&mut place.wrapped("--ignore-signal=USR1", &follow));
    place.until_lines("begun", &["begun"]);
    set(&server, "here", "debug", &HERE);
    place.until_level("debug");
    follow.expect_on_stderr("sh ignores SIGUSR1");
    std::fs::write(place.path("go"), "").unwrap();
    place.until_lines("told", &["ready", "told"]);
}

/// The endpoint of a server that refuses whatever it is asked, for as long as the runtime is kept.
fn refusing(code: tonic::Code) -> (String, tokio::runtime::Runtime) {
    let refuse = InterceptorLayer::new(move |_: tonic::Request<()>| Err(tonic::Status::new(code, "not you")));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let entered = runtime.enter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    let mut server = tonic::transport::Server::builder().layer(refuse);
    runtime.spawn(server.add_routes(Routes::default()).serve_with_incoming(incoming));
    drop(entered);
    (endpoint, runtime)
}

#[test]
fn a_token_that_is_refused_ends_it_unless_something_is_known() {
    let (server, place) = (Server::start(), Place::new());
    for code in [tonic::Code::Unauthenticated, tonic::Code::PermissionDenied] {
        let (endpoint, _runtime) = refusing(code);
        let mut command = place.follow(&server, "echo started > started");
        let done = Running::start(command.env("TIDEWATCH_ENDPOINT", endpoint)).finish();
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.stderr.contains("permission denied: not you"), "{done:?}");
        assert!(
            done.stderr.contains("name a token with `--token-file`"),
            "{done:?}"
        );
        assert!(!place.file().exists() && !place.path("started").exists());
    }

    set(&server, "here", "debug", &HERE);
    let first = Running::start(&mut place.follow(&server, LISTENS));
    place.until_ready_with_last_good();
    drop(first);
    place.forget("told");
    let (endpoint, _runtime) = refusing(tonic::Code::Unauthenticated);
    let mut command = place.follow(&server, LISTENS);
    let second = Running::start(command.env("TIDEWATCH_ENDPOINT", endpoint));
    second.expect_on_stderr("what was known last stays in force");
    place.until_lines("told", &["ready"]);
}

#[test]
fn it_ends_at_once_while_it_connects() {
    let place = Place::new();
    // Connections are made, and nobody answers on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut command = crate::program::tidewatch();
    command
        .args(["directives", "follow", "--endpoint", &endpoint, "--out"])
        .arg(place.file())
        .args(["--", "sh", "-c", "echo started > started"])
        .current_dir(place.dir.path());
    let mut follow = Running::start(&mut command);
    silent.accept().unwrap();
    follow.signal(Signal::TERM);
    assert_eq!(follow.wait().code(), Some(0));
    assert!(!place.file().exists() && !place.path("started").exists());
}

#[test]
fn the_program_ends_with_the_terminal() {
    let (server, place) = (Server::start(), Place::new());
    let script = goes_on!("trap 'exit 0' TERM; echo $$ > pid");
    for signal in [Signal::HUP, Signal::QUIT] {
        let mut follow = Running::start(&mut place.follow_at_a_terminal(&server, script));
        let pid = until("the program's start", || place.lines("pid").pop());
        follow.signal(signal);
        assert_eq!(follow.wait().code(), Some(0), "{signal:?}");
        assert!(is_gone(&pid), "{signal:?}");
        std::fs::remove_file(place.path("pid")).unwrap();
    }
}

#[test]
fn a_program_that_the_terminal_has_told_to_end_gets_time_for_it() {
    let (server, place) = (Server::start(), Place::new());
    let script =
        goes_on!("trap 'echo INT >> told' INT; trap 'echo TERM >> told; exit 0' TERM; echo ready >> told");
    let mut follow = Running::start(&mut place.follow_at_a_terminal(&server, script));
    place.until_lines("told", &["ready"]);
    let began = now();
    follow.signal_group(Signal::INT);
    assert_eq!(follow.wait().code(), Some(0));
    // As long as a program has at its start, and not a moment less, whatever else the machine does.
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(place.lines("told"), ["ready", "INT", "TERM"]);
}

#[test]
fn ctrl_c_is_no_failure_even_if_the_program_has_ended_first() {
    let (server, place) = (Server::start(), Place::new());
    for _ in 0..8 {
        let mut command = place.follow_at_a_terminal(&server, goes_on!("echo $$ > pid"));
        let mut follow = Running::start(&mut command);
        let pid = until("the program's start", || place.lines("pid").pop());
        // So that it hears of the signal and of the end together.
        follow.signal(Signal::STOP);
        follow.signal_group(Signal::INT);
        until("the program's end", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains("State:\tZ").then_some(())
        });
        follow.signal(Signal::CONT);
        assert_eq!(follow.wait().code(), Some(0));
        std::fs::remove_file(place.path("pid")).unwrap();
    }
}

#[test]
fn a_program_that_does_not_end_is_killed_with_a_second_signal() {
    let (server, place) = (Server::start(), Place::new());
    let script = goes_on!("trap '' TERM; echo $$ > pid");
    let mut follow = Running::start(&mut place.follow(&server, script));
    let pid = until("the program's start", || place.lines("pid").pop());
    follow.signal(Signal::INT);
    follow.expect_on_stderr("waiting for sh to end; another signal kills it");
    assert!(!is_gone(&pid));
    follow.signal(Signal::INT);
    assert_eq!(follow.wait().code(), Some(1));
    assert!(is_gone(&pid));
    follow.expect_on_stderr("sh did not end, and was killed");
}

#[test]
fn no_program_outlives_its_test() {
    let (server, place) = (Server::start(), Place::new());
    for script in [
        goes_on!("echo $$ >> pid"),
        goes_on!("trap '' TERM; echo $$ >> pid"),
    ] {
        let follow = Running::start(&mut place.follow(&server, script));
        let pid = until("the program's start", || place.lines("pid").pop());
        drop(follow);
        assert!(is_gone(&pid));
        std::fs::remove_file(place.path("pid")).unwrap();
    }
}

#[test]
fn the_program_does_not_get_the_token() {
    let (server, place) = (Server::start(), Place::new());
    let mut command = place.follow(&server, "env > environment");
    command
        .env("TIDEWATCH_TOKEN", "secret")
        .env("INHERITED", "all the same");
    let done = Running::start(&mut command).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let environment = place.lines("environment").join("\n");
    assert!(environment.contains("INHERITED=all the same"), "{environment}");
    assert!(!environment.contains("secret"), "{environment}");
}
