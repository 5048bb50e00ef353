//! The program that is told of changes.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tidewatch_core::{Clock as _, SystemClock};
use tokio::process::Child;

use crate::connection::TOKEN;
use crate::disposition::Dispositions;
use crate::exit;
use crate::failure::{Failure, Result, note};
use crate::signal::ParentSignals;

/// How long after its start a program gets no signal. Some runtimes (Go's, Java's) catch all signals from the beginning, and
/// do what is done by default until the program itself has said what to do; nothing tells from outside whether it has.
const GRACE: Duration = Duration::from_secs(2);

/// How often is looked whether a program can be told.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What to start, and how to tell it.
pub(super) struct Command<'a> {
    pub(super) program: &'a str,
    pub(super) args: &'a [String],
    pub(super) signal: Signal,
}

/// A program that this command started, or none. It is killed when this is dropped.
pub(super) struct Target<'a> {
    command: Option<Command<'a>>,
    send: SendSignal,
    started: Option<Started>,
}

/// How signals are sent: by the system, except in tests.
type SendSignal = fn(Pid, Signal) -> rustix::io::Result<()>;

struct Started {
    child: Child,
    send: SendSignal,
    since: Instant,
    /// Whether something has changed since it was started, or told last.
    is_untold: bool,
    /// Whether a person knows that it does not handle the signal yet.
    is_noted: bool,
    /// Whether a person knows that it takes no signals from this user.
    is_refusal_noted: bool,
}

impl<'a> Target<'a> {
    /// Nothing is started yet.
    pub(super) fn new(command: Option<Command<'a>>) -> Self {
        Self::sending_by(kill_process, command)
    }

    fn sending_by(send: SendSignal, command: Option<Command<'a>>) -> Self {
        Self {
            command,
            send,
            started: None,
        }
    }

    /// Starts the program, or tells it that something has changed, now or while somebody waits for its
    /// [end](Self::ended).
    pub(super) fn tell(&mut self) -> Result {
        let Some(command) = &self.command else {
            return Ok(());
        };
        if let Some(started) = &mut self.started {
            started.is_untold = true;
            started.tell_if_ready(command);
            return Ok(());
        }
        let child = tokio::process::Command::new(command.program)
            .args(command.args)
            .env_remove(TOKEN)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", command.program))?;
        self.started = Some(Started {
            child,
            send: self.send,
            since: SystemClock.now(),
            is_untold: false,
            is_noted: false,
            is_refusal_noted: false,
        });
        Ok(())
    }

    /// Whether there is a program that was started.
    pub(super) fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// Waits for the end of the program; for ever if there is none. How it ended is how this command ends. If it could not be
    /// told of something yet, it is as soon as it can.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn ended(&mut self) -> Result {
        let (Some(command), Some(started)) = (&self.command, &mut self.started) else {
            return std::future::pending().await;
        };
        let status = loop {
            tokio::select! {
                status = started.child.wait() => break status.context(WAIT_FAILED)?,
                () = tokio::time::sleep(LOOK_INTERVAL), if started.is_untold => started.tell_if_ready(command),
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(Failure::message(
            exit::FAILED,
            format!("{} ended: {status}", command.program),
        ))
    }

    /// Ends the program because of this signal, and waits for that; with another one by force.
    ///
    /// A terminal sends its signals to the program too, and to many programs a second one says that they are to end at
    /// once, and not in good order. So SIGTERM follows those only after a while.
    pub(super) async fn stop(mut self, signal: Signal, signals: &mut ParentSignals) -> Result {
        let (Some(command), Some(started)) = (&self.command, &mut self.started) else {
            return Ok(());
        };
        let mut is_asked = signal == Signal::TERM;
        if is_asked {
            started.send(command, Signal::TERM);
        }
        let (mut is_noted, mut is_killed) = (false, false);
        let status = loop {
            tokio::select! {
                // Whoever has ended needs no force.
                biased;
                status = started.child.wait() => break status.context(WAIT_FAILED)?,
                signal = signals.next() => {
                    // A terminal that goes away may say so twice: the system does, and the shell.
                    if signal != Signal::HUP {
                        is_killed |= started.send(command, Signal::KILL);
                    }
                }
                () = tokio::time::sleep(GRACE), if !is_asked => {
                    is_asked = true;
                    started.send(command, Signal::TERM);
                }
                () = tokio::time::sleep(GRACE), if is_asked && !is_noted && !started.is_refusal_noted => {
                    is_noted = true;
                    let program = command.program;
                    note(&format!("waiting for {program} to end; another signal kills it"));
                }
            }
        };
        if is_killed && status.signal() == Some(Signal::KILL.as_raw()) {
            return Err(Failure::message(
                exit::FAILED,
                format!("{} did not end, and was killed", command.program),
            ));
        }
        Ok(())
    }
}

const WAIT_FAILED: &str = "failed to wait for the program";

impl Started {
    /// Tells the program, unless it has hardly begun, or has not said yet what is to be done about the signal, which would
    /// end it or be lost.
    fn tell_if_ready(&mut self, command: &Command<'_>) {
        let signal = command.signal;
        if SystemClock.now() - self.since < GRACE {
            return;
        }
        // Where nothing tells, the grace has to do.
        match self.pid().and_then(Dispositions::of) {
            Some(dispositions) if !dispositions.handles(signal) => {
                self.note_once(command, dispositions.ignores(signal));
            }
            _ => self.is_untold = !self.send(command, signal),
        }
    }

    fn note_once(&mut self, command: &Command<'_>, is_ignored: bool) {
        if self.is_noted {
            return;
        }
        self.is_noted = true;
        let (program, name) = (command.program, name(command.signal));
        note(&if is_ignored {
            format!(
                "{program} ignores SIG{name}, by itself or as it was started; it is told as soon as it handles it"
            )
        } else {
            format!("{program} does not handle SIG{name}, which would end it; it is told as soon as it does")
        });
    }

    /// Until its end was waited for, the number is its own.
    fn pid(&self) -> Option<Pid> {
        let id = self.child.id()?;
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    /// Sends a signal, and returns whether that could be done: a program of another user, as `sudo` makes it, takes none.
    /// It goes on all the same, and so does this command, which would leave it behind.
    fn send(&mut self, command: &Command<'_>, signal: Signal) -> bool {
        let Some(pid) = self.pid() else { return false };
        let Err(error) = (self.send)(pid, signal) else {
            return true;
        };
        if !self.is_refusal_noted {
            self.is_refusal_noted = true;
            note(&format!(
                "failed to send a signal to {} (process {}): {error}; it is waited for until it ends by itself",
                command.program,
                pid.as_raw_nonzero()
            ));
        }
        false
    }
}

/// The signals that a program can be told by.
const SIGNALS: [(&str, Signal); 6] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

/// The name of one of them, without `SIG`.
fn name(signal: Signal) -> &'static str {
    let named = SIGNALS.iter().find(|(_, other)| *other == signal);
    named.map_or("", |(name, _)| name)
}

/// The signal of this name, with or without `SIG`.
pub(super) fn parse_signal(text: &str) -> Result<Signal, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = SIGNALS.iter().find(|(other, _)| *other == name);
    named
        .map(|(_, signal)| *signal)
        .ok_or_else(|| "it is one of HUP, USR1, USR2, INT, QUIT, TERM".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not send what it is asked to. Once it was asked, the program ends by itself, which it would not do before.
    fn refuse(pid: Pid, _: Signal) -> rustix::io::Result<()> {
        kill_process(pid, Signal::USR1)?;
        Err(rustix::io::Errno::PERM)
    }

    fn started(args: &[String]) -> Target<'_> {
        let command = Command {
            program: "sh",
            args,
            signal: Signal::USR1,
        };
        let mut target = Target::sending_by(refuse, Some(command));
        target.tell().unwrap();
        target
    }

    fn script() -> [String; 2] {
        [
            "-c",
            "trap 'exit 0' USR1; for i in $(seq 600); do sleep 0.1; done; exit 1",
        ]
        .map(str::to_owned)
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_told_is_not_given_up() {
        let args = script();
        let mut target = started(&args);
        target.tell().unwrap();
        target.ended().await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_ended_is_waited_for() {
        let args = script();
        let target = started(&args);
        let pid = target.started.as_ref().and_then(Started::pid).unwrap();
        let mut signals = ParentSignals::new().unwrap();
        target.stop(Signal::TERM, &mut signals).await.unwrap();
        assert_eq!(Dispositions::of(pid), None, "it is there no more");
    }
}
