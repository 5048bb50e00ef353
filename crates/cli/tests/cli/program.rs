//! Running the program and looking at what it printed.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::iter::repeat_n;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// How long to wait for something that must come. Generous: it is only reached when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at something that cannot be waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// The program, without what the environment of the tests might tell it.
pub(crate) fn tidewatch() -> Command {
    let mut command = Command::new(insta_cmd::get_cargo_bin("tidewatch"));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with("TIDEWATCH_"));
        if is_ours {
            command.env_remove(name);
        }
    }
    for name in ["RUST_LOG", "DOCKER_HOST"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    /// Stdout as text.
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    /// Stdout as JSON lines.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{self:?}");
        json_lines(self.text())
    }

    /// The only JSON line.
    #[track_caller]
    pub(crate) fn line(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Done {
    run_with_stdin(command, None)
}

/// Runs to the end, with this on stdin.
pub(crate) fn run_with_stdin(command: &mut Command, stdin: Option<&[u8]>) -> Done {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(stdin) = stdin {
        // A program that does not want all of it is no reason to fail here.
        let _ = child.stdin.take().unwrap().write_all(stdin);
    }
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || is_so().then_some(()));
}

/// Looks until it is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        // What is waited for needs the machine too.
        thread::sleep(PAUSE);
    }
}

#[expect(clippy::disallowed_methods, reason = "processes run on the machine's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long a program that is no longer needed has to end before it is told again. Hardly any needs as much as a tenth.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is told to end before it is killed.
const END_REQUESTS: usize = 12;

/// A program that runs, with its output as it comes. It is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// The next line of stdout.
    #[track_caller]
    pub(crate) fn next_line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("a line on stdout")
    }

    /// The next line of stdout, as JSON.
    #[track_caller]
    pub(crate) fn next_json(&self) -> Value {
        serde_json::from_str(&self.next_line()).unwrap()
    }

    /// The next JSON line that is of this type; those before it are skipped.
    #[track_caller]
    pub(crate) fn next_of_type(&self, kind: &str) -> Value {
        loop {
            let line = self.next_json();
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// What comes on stdout until it is closed.
    #[track_caller]
    pub(crate) fn rest_of_stdout(&self) -> Vec<String> {
        rest(&self.stdout)
    }

    /// Waits for the end of a program that should end soon; [`run`] would wait for ever if it does not.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        let stderr = rest(&self.stderr).join("\n");
        let stdout = rest(&self.stdout).join("\n").into_bytes();
        Done {
            code: self.wait().code(),
            stdout,
            stderr,
        }
    }

    /// Waits for a line on stderr with this in it.
    #[track_caller]
    pub(crate) fn expect_on_stderr(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no {text:?} on stderr ({error}), but {seen:#?}"),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Signals all of its process group, as a terminal does. It has to lead one.
    pub(crate) fn signal_group(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether it has ended after this time at the latest.
    fn ends_within(&mut self, patience: Duration) -> bool {
        let began = now();
        while self.goes_on() {
            if began.elapsed() >= patience {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// Waits for the end. Nothing may fill a pipe meanwhile: both are drained by threads.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// As a person would do it, whether the test has passed or not: one that is killed leaves behind what it has started.
impl Drop for Running {
    fn drop(&mut self) {
        // Of two signals the second one is told to those that do not end by the first. One that the machine keeps from running
        // takes several for one.
        for signal in repeat_n(Signal::TERM, END_REQUESTS).chain([Signal::KILL]) {
            if self.ends_within(Duration::ZERO) {
                return;
            }
            self.signal(signal);
            // One that was stopped does not see the others.
            self.signal(Signal::CONT);
            if self.ends_within(END_PATIENCE) {
                return;
            }
        }
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[track_caller]
fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("it does not end; so far: {rest:#?}"),
        }
    }
}
