//! Running a command for changes.

use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use super::settle::Changes;
use crate::failure::note;

/// Runs one command, one run at a time.
pub(super) struct Runner {
    command: String,
    running: Option<Run>,
}

struct Run {
    child: Child,
    changes: Changes,
}

impl Runner {
    /// Will run this with `sh -c`.
    pub(super) fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            running: None,
        }
    }

    /// Whether a run is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts a run.
    pub(super) fn start(&mut self, changes: Changes) -> io::Result<()> {
        debug_assert!(self.running.is_none(), "one run at a time");
        let keys: Vec<_> = changes.keys.iter().map(String::as_str).collect();
        let child = Command::new("sh")
            .arg("-c")
            .arg(&self.command)
            .env("TIDEWATCH_REVISION", changes.revision.to_string())
            .env("TIDEWATCH_EVENTS", changes.events.to_string())
            .env("TIDEWATCH_KEYS", keys.join("\n"))
            .stdin(Stdio::null())
            .spawn()?;
        self.running = Some(Run { child, changes });
        Ok(())
    }

    /// Waits for the end of the run that is under way; for ever if there is none.
    ///
    /// # Cancel safety
    /// Safe: the run goes on and can be waited for again.
    pub(super) async fn finished(&mut self) -> io::Result<()> {
        let Some(run) = &mut self.running else {
            return std::future::pending().await;
        };
        let status = run.child.wait().await;
        let revision = run.changes.revision;
        self.running = None;
        note(&format!("revision {revision}: the command {}", how(status?)));
        Ok(())
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;

    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}
