//! SSH, with a script in place of `ssh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempDir;
use tidewatch_docker::engine::Deadlines;
use tidewatch_docker::{DockerEvents, DockerLister, Engine, ListError, Scope};

use super::front::Front;
use crate::scripted::heard::{START, action};
use crate::scripted::{Answer, ScriptedEngine, chunks};

/// For what takes milliseconds.
const CEILING: Duration = Duration::from_secs(60);

/// A script in place of `ssh`, which notes its words and its process.
struct FakeSsh {
    dir: TempDir,
}

impl FakeSsh {
    /// One that does this.
    fn doing(what: &str) -> Self {
        let fake = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let noted = fake.noted();
        let noted = noted.display();
        let script = format!("#!/bin/bash\necho \"$$ $*\" >> {noted}\n{what}\n");
        fs::write(fake.program(), script).unwrap();
        fs::set_permissions(fake.program(), fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    /// One that gets through to a port.
    fn to(front: &Front) -> Self {
        // What is killed or ended is the process itself; what copies the other way ends with the pipe.
        Self::doing(&Self::through(front))
    }

    fn through(front: &Front) -> String {
        format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}\ncat >&3 <&0 &\nexec cat <&3",
            front.port
        )
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("ssh")
    }

    fn noted(&self) -> PathBuf {
        self.dir.path().join("noted")
    }

    fn engine(&self) -> Engine {
        let engine = Engine::at("ssh://me@web1:2222").unwrap();
        let patient = Deadlines {
            ping: CEILING,
            call: CEILING,
            ..Deadlines::default()
        };
        engine.with_ssh_program(self.program()).with_deadlines(patient)
    }

    /// The process and the words of each start.
    fn starts(&self) -> Vec<(u32, String)> {
        let noted = fs::read_to_string(self.noted()).unwrap_or_default();
        let parse = |line: &str| {
            let (pid, words) = line.split_once(' ')?;
            Some((pid.parse().ok()?, words.to_owned()))
        };
        noted.lines().filter_map(parse).collect()
    }
}

/// Whether a process runs. One that has ended may still have to be waited for.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let held = tokio::time::timeout(CEILING, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(held.await.is_ok(), "not so: {what}");
}

fn scripted() -> ScriptedEngine {
    ScriptedEngine::start(|target| match target.split('?').next().unwrap() {
        "/events" => Answer::Stall(chunks([START])),
        "/info" => Answer::ok(r#"{"ID":"d1"}"#),
        "/version" => Answer::ok("{}"),
        _ => Answer::ok(r#"[{"Id":"c1"}]"#),
    })
}

#[tokio::test]
async fn an_engine_on_another_machine_answers_every_call_and_a_login_serves_many() {
    let scripted = scripted();
    let front = Front::plain(scripted.socket().to_owned()).await;
    let ssh = FakeSsh::to(&front);
    let engine = ssh.engine();
    assert_eq!(engine.address(), "ssh://me@web1:2222");
    for _ in 0..5 {
        engine.ping().await.unwrap();
    }
    assert_eq!(engine.list(Scope::All).await.unwrap().containers.len(), 1);
    for _ in 0..5 {
        engine.list(Scope::All).await.unwrap();
        assert_eq!(engine.daemon().await.unwrap().id, "d1");
    }
    // One for the pings, and one for the rest.
    let starts = ssh.starts();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(
        starts[0]
            .1
            .ends_with("-l me -p 2222 -- web1 docker system dial-stdio"),
        "{starts:?}"
    );
}

#[tokio::test]
async fn many_calls_at_once_are_few_logins_and_no_further_ones() {
    let scripted = scripted();
    let front = Front::plain(scripted.socket().to_owned()).await;
    let ssh = FakeSsh::to(&front);
    let engine = ssh.engine();
    for _ in 0..3 {
        let lists = (0..8).map(|_| engine.list(Scope::All));
        for listed in futures_util::future::join_all(lists).await {
            assert_eq!(listed.unwrap().containers.len(), 1);
        }
        let starts = ssh.starts();
        assert!(starts.len() <= 4, "{starts:?}");
    }
}

#[tokio::test]
async fn a_login_that_takes_longer_than_a_ping_may_goes_on_and_serves_the_next() {
    let scripted = scripted();
    let front = Front::plain(scripted.socket().to_owned()).await;
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let ssh = FakeSsh::doing(&format!(
        "until [ -e {} ]; do sleep 0.05; done\n{}",
        open.display(),
        FakeSsh::through(&front)
    ));
    let engine = ssh.engine();
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ping().await }
    });
    eventually("it has begun", || !ssh.starts().is_empty()).await;
    // As somebody does whose patience is over.
    waiting.abort();
    fs::write(open, "").unwrap();
    eventually("it got in", || front.accepted() > 0).await;
    engine.ping().await.unwrap();
    let starts = ssh.starts();
    assert_eq!(starts.len(), 1, "{starts:?}");
}

#[tokio::test]
async fn a_process_ends_with_its_connection() {
    let scripted = scripted();
    let front = Front::plain(scripted.socket().to_owned()).await;
    let ssh = FakeSsh::to(&front);
    let engine = ssh.engine();
    let mut events = engine.subscribe(None).await.unwrap();
    assert_eq!(action(events.next().await), "start");
    engine.ping().await.unwrap();
    let starts = ssh.starts();
    assert_eq!(starts.len(), 2);
    assert!(starts.iter().all(|(pid, _)| runs(*pid)));
    drop(events);
    drop(engine);
    eventually("both have ended", || starts.iter().all(|(pid, _)| !runs(*pid))).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_its_process() {
    let ssh = FakeSsh::doing("exec sleep 1000");
    let engine = ssh.engine();
    let call = tokio::spawn(async move { engine.list(Scope::All).await });
    eventually("it has begun", || !ssh.starts().is_empty()).await;
    let (pid, _) = ssh.starts()[0];
    assert!(runs(pid));
    call.abort();
    eventually("it has ended", || !runs(pid)).await;
}

#[tokio::test]
async fn a_kept_connection_that_has_ended_is_made_anew() {
    let scripted = scripted();
    let front = Front::plain(scripted.socket().to_owned()).await;
    let ssh = FakeSsh::to(&front);
    let engine = ssh.engine();
    for expected in 1..4 {
        engine.ping().await.unwrap();
        let starts = ssh.starts();
        assert_eq!(starts.len(), expected);
        let (pid, _) = starts[expected - 1];
        // As a broken network would.
        let killed = tokio::task::spawn_blocking(move || {
            std::process::Command::new("kill")
                .arg(pid.to_string())
                .status()
                .unwrap()
        });
        assert!(killed.await.unwrap().success());
        eventually("it has ended", || !runs(pid)).await;
    }
}

#[tokio::test]
async fn what_ssh_says_is_the_reason() {
    for (script, expected) in [
        (
            "echo 'me@web1: Permission denied (publickey).' >&2; exit 255",
            "ssh ended with exit status: 255: me@web1: Permission denied (publickey).",
        ),
        ("exit 3", "ssh ended with exit status: 3 and said nothing"),
        (
            // More than is kept, of which the end is what matters.
            "head -c 100000 /dev/zero | tr '\\0' x >&2; echo ' the last words' >&2; exit 1",
            "the last words",
        ),
    ] {
        let error = FakeSsh::doing(script)
            .engine()
            .list(Scope::All)
            .await
            .unwrap_err();
        let ListError::Unreachable { address, source } = &error else {
            panic!("{error}");
        };
        assert_eq!(address, "ssh://me@web1:2222");
        let mut text = source.to_string();
        let mut cause = source.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_to_be_so() {
    let engine = Engine::at("ssh://web1").unwrap().with_ssh_program("/no/such/ssh");
    let error = engine.ping().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("/no/such/ssh cannot be started"), "{source}");
}
