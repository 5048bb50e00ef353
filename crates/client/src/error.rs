//! What can go wrong between a client and a server.

use std::error::Error as _;

use tidewatch_core::error::Cause;

/// Why a call failed.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The client was set up with something that can never work.
    #[error("invalid {what}: {reason}")]
    Config {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it and how to put it right.
        reason: String,
    },
    /// No server could be reached. The call had no effect.
    #[error("cannot reach {endpoints}")]
    Unreachable {
        /// Which servers were tried.
        endpoints: String,
        /// Why the last one could not be reached.
        #[source]
        source: Cause,
    },
    /// What the call is about does not exist.
    #[error("{message}")]
    NotFound {
        /// What does not exist, in the server's words.
        message: String,
    },
    /// The server understood the call and does not do it, as things are.
    #[error("{message}")]
    Refused {
        /// Why not, in the server's words.
        message: String,
    },
    /// An error of the keyspace.
    #[error(transparent)]
    Keyspace(#[from] tidewatch_core::Error),
    /// The server's answer makes no sense: it is of another version, or no Tidewatch server.
    #[error("the server's answer makes no sense: {reason}")]
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
    /// A backup did not arrive as it was sent. What arrived is of no use.
    #[error("the backup is incomplete: {reason}")]
    IncompleteBackup {
        /// What is missing or different.
        reason: String,
    },
}

/// What a program does about an error; commands have an exit code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller asked for what can never work.
    Usage,
    /// No server was reached. The call had no effect.
    Unreachable,
    /// The server does not do it, as things are.
    Refused,
    /// What the call is about does not exist.
    NotFound,
    /// Anything else.
    Failed,
}

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } => ErrorKind::Usage,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Keyspace(error) => error.into(),
            Self::Protocol { .. } | Self::IncompleteBackup { .. } => ErrorKind::Failed,
        }
    }

    /// Whether the same call may succeed later, and is safe to make again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Keyspace(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<&tidewatch_core::Error> for ErrorKind {
    fn from(error: &tidewatch_core::Error) -> Self {
        use tidewatch_core::Error;
        match error {
            error if error.is_invalid_argument() => Self::Usage,
            Error::Unavailable(_) => Self::Unreachable,
            Error::KeyNotFound { .. } | Error::LeaseNotFound { .. } => Self::NotFound,
            Error::PermissionDenied { .. }
            | Error::NoSpace { .. }
            | Error::LimitExceeded { .. }
            | Error::LeaseExists { .. } => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// An error and what caused it, as one text. Transports repeat themselves; this does not.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        text = joined(text, &more);
        source = cause.source();
    }
    text
}

/// A text and what caused it, without what the one's end and the other's beginning both say.
fn joined(text: String, cause: &str) -> String {
    let last = text.rsplit(": ").next().unwrap_or_default();
    match cause.strip_prefix(last) {
        _ if text.ends_with(cause) => text,
        Some(rest) if rest.starts_with(": ") => text + rest,
        _ => format!("{text}: {cause}"),
    }
}

/// What a failed status knows beyond its own text.
pub(crate) fn status_text(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) if status.message().is_empty() => chain(source),
        Some(source) => {
            let more = chain(source);
            if more.contains(status.message()) {
                more
            } else {
                joined(status.message().to_owned(), &more)
            }
        }
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn what_two_causes_both_say_is_said_once() {
        let join = |text: &str, cause| joined(text.to_owned(), cause);
        assert_eq!(
            join("h2: reading failed", "reading failed: broken pipe"),
            "h2: reading failed: broken pipe"
        );
        assert_eq!(join("h2: reading failed", "reading failed"), "h2: reading failed");
        assert_eq!(join("h2: read", "reading failed"), "h2: read: reading failed");
        assert_eq!(join("h2", "refused"), "h2: refused");
    }
}
