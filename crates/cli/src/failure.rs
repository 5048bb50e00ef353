//! Why a command did not do what it was asked for, and how that is said.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};
use tidewatch_client::ErrorKind;
use tidewatch_core::Error;

use crate::exit;

/// What commands return.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The end of a command that did not get through.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout went away, as `head` does. That is no error.
    ClosedPipe,
    /// Something to tell a person.
    Told(Box<Told>),
}

/// What a person is told, and what a script is.
#[derive(Debug)]
pub(crate) struct Told {
    code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure with one of the codes of [`exit`].
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self::Told(Box::new(Told {
            code,
            error: error.into(),
            hint: None,
        }))
    }

    /// A failure that is only a message.
    pub(crate) fn message(code: u8, message: impl Into<String>) -> Self {
        Self::new(code, anyhow::Error::msg(message.into()))
    }

    /// Puts what was being done in front of the message.
    pub(crate) fn context(mut self, what: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            let error = std::mem::replace(&mut told.error, anyhow::Error::msg(""));
            told.error = error.context(what.into());
        }
        self
    }

    /// Adds how to put it right, unless something more to the point was said already.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint.get_or_insert_with(|| hint.into());
        }
        self
    }

    /// Says which server was asked, where that is what matters.
    pub(crate) fn about(self, endpoint: &str) -> Self {
        let Self::Told(told) = &self else { return self };
        if told.code != exit::NOT_REACHABLE {
            return self;
        }
        let is_named = format!("{:#}", told.error).contains(endpoint);
        let failure = if is_named {
            self
        } else {
            self.context(format!("failed to ask {endpoint}"))
        };
        failure.hint(
            "is a Tidewatch server running there? start one with `tidewatch serve`, or name another with `--endpoint`",
        )
    }

    /// The code that the process ends with.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::ClosedPipe => exit::DONE,
            Self::Told(told) => told.code,
        }
    }

    /// Tells the person, and returns the code for the script.
    pub(crate) fn report(self) -> ExitCode {
        if let Self::Told(told) = &self {
            // The error with the chain of its sources, on one line.
            tell("error", AnsiColor::Red, &format!("{:#}", told.error));
            if let Some(hint) = &told.hint {
                tell("hint", AnsiColor::Cyan, hint);
            }
        }
        ExitCode::from(self.code())
    }
}

/// Says something on the side, as `watch` does when it resumes.
pub(crate) fn note(message: &str) {
    tell("note", AnsiColor::Yellow, message);
}

fn tell(label: &str, color: AnsiColor, message: &str) {
    let style = if io::stderr().is_terminal() && colors_wanted() {
        color.on_default().bold()
    } else {
        Style::new()
    };
    // There is nobody left to tell if stderr is gone.
    let _ = writeln!(io::stderr(), "{style}{label}:{style:#} {message}");
}

/// Whether the person has not asked for plain text (<https://no-color.org>).
pub(crate) fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(exit::FAILED, error)
    }
}

impl From<tidewatch_client::Error> for Failure {
    fn from(error: tidewatch_client::Error) -> Self {
        match error {
            tidewatch_client::Error::Keyspace(error) => error.into(),
            error => Self::new(code_of(error.kind()), error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            // The server is going down: nobody is there in a moment.
            Error::Closed => exit::NOT_REACHABLE,
            _ => code_of(ErrorKind::from(&error)),
        };
        let hint = hint_for(&error);
        let failure = Self::new(code, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => exit::USAGE,
        ErrorKind::Unreachable => exit::NOT_REACHABLE,
        ErrorKind::Refused => exit::REFUSED,
        ErrorKind::NotFound => exit::NOT_FOUND,
        ErrorKind::Failed => exit::FAILED,
    }
}

/// What to do about an error whose message does not say it.
fn hint_for(error: &Error) -> Option<&'static str> {
    match error {
        Error::InvalidPrefix { .. } => {
            Some("a prefix looks like `/containers/`; `/` stands for everything below it")
        }
        Error::Closed => Some("the server is shutting down; try again when it is back"),
        Error::PermissionDenied { .. } => Some("name a token with `--token-file`, or in TIDEWATCH_TOKEN"),
        Error::LimitExceeded { what, .. } if what.starts_with("watche") => {
            Some("`tidewatch watchers ls` shows who watches; end those that nobody needs, or raise the limit")
        }
        Error::OutcomeUnknown(_) => Some("the change may have been made: look before you try again"),
        _ => None,
    }
}
