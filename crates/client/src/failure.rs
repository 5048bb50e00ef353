//! What a failed call means: the table in the crate's documentation as code.

use std::error::Error as _;

use tidewatch_core::Error as KeyspaceError;
use tidewatch_proto::{Malformed, error as wire};
use tonic::{Code, Status};

use crate::error::{Error, chain, status_text};

/// Why a call, or the stream of a watch, came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No connection could be made: the server has not seen the call.
    Unreachable(String),
    /// The connection broke, or no answer came in time: the server may have done what was asked.
    Lost(String),
    /// The server's own answer, in terms of the keyspace.
    Keyspace(KeyspaceError),
    /// Something that does not exist.
    NotFound(String),
    /// The server, or something on the way to it, does not do this.
    Refused(String),
    /// The answer makes no sense.
    Malformed(String),
}

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// It changes nothing, or nothing more when it is done again.
    Read,
    /// It must not happen twice.
    Write,
}

impl Failure {
    pub(crate) fn is_retryable(&self, intent: Intent) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Lost(_) => intent == Intent::Read,
            // Neither had any effect.
            Self::Keyspace(KeyspaceError::Unavailable(_) | KeyspaceError::Closed) => true,
            _ => false,
        }
    }

    /// Whether a watch that was running goes on nevertheless, once it can.
    pub(crate) fn is_interruption(&self) -> bool {
        // It had a place before. After a broken connection the server may count it for a while still.
        matches!(self, Self::Keyspace(KeyspaceError::LimitExceeded { .. })) || self.is_retryable(Intent::Read)
    }

    /// The failure of a call on the keyspace.
    pub(crate) fn into_keyspace_error(self, intent: Intent) -> KeyspaceError {
        match self {
            Self::Keyspace(error) => error,
            Self::Lost(text) if intent == Intent::Write => KeyspaceError::OutcomeUnknown(wire::cause(text)),
            Self::Malformed(text) if intent == Intent::Write => {
                KeyspaceError::OutcomeUnknown(wire::cause(text))
            }
            Self::Unreachable(text) | Self::Lost(text) => KeyspaceError::Unavailable(wire::cause(text)),
            Self::NotFound(what) | Self::Refused(what) | Self::Malformed(what) => {
                KeyspaceError::Unsupported { what }
            }
        }
    }

    /// The failure of another call.
    pub(crate) fn into_error(self, intent: Intent, endpoints: String) -> Error {
        match self {
            Self::Lost(_) if intent == Intent::Write => self.into_keyspace_error(intent).into(),
            Self::Unreachable(text) | Self::Lost(text) => Error::Unreachable {
                endpoints,
                source: wire::cause(text),
            },
            Self::Keyspace(error) => error.into(),
            Self::NotFound(message) => Error::NotFound { message },
            Self::Refused(message) => Error::Refused { message },
            Self::Malformed(reason) => Error::Protocol { reason },
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Unreachable(text)
            | Self::Lost(text)
            | Self::NotFound(text)
            | Self::Refused(text)
            | Self::Malformed(text) => text.clone(),
            Self::Keyspace(error) => chain(error),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(info) = wire::info(&status) {
            return match (wire::from_info(&info), info.reason.as_str()) {
                (Some(error), _) => Self::Keyspace(error),
                (None, "not_found") => Self::NotFound(info.message),
                (None, _) => Self::Refused(info.message),
            };
        }
        let text = status_text(&status);
        match status.code() {
            _ if was_never_sent(&status) => Self::Unreachable(text),
            Code::InvalidArgument => Self::Keyspace(KeyspaceError::InvalidArgument {
                what: "request",
                reason: text,
            }),
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::Keyspace(KeyspaceError::PermissionDenied { reason: text })
            }
            Code::Unimplemented => Self::Keyspace(KeyspaceError::Unsupported { what: text }),
            Code::NotFound => Self::NotFound(text),
            Code::AlreadyExists | Code::FailedPrecondition | Code::ResourceExhausted | Code::OutOfRange => {
                Self::Refused(text)
            }
            Code::Ok
            | Code::Aborted
            | Code::Cancelled
            | Code::DataLoss
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::Unknown => Self::Lost(text),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

fn was_never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_table_says() {
        use Code::*;
        for code in [
            Aborted,
            Cancelled,
            DataLoss,
            DeadlineExceeded,
            Internal,
            Unavailable,
            Unknown,
        ] {
            let failure = || Failure::from(Status::new(code, "broken pipe"));
            assert!(
                failure().is_retryable(Intent::Read) && failure().is_interruption(),
                "{code}"
            );
            assert!(!failure().is_retryable(Intent::Write), "{code}");
            assert!(matches!(
                failure().into_keyspace_error(Intent::Write),
                KeyspaceError::OutcomeUnknown(_)
            ));
            assert!(matches!(
                failure().into_keyspace_error(Intent::Read),
                KeyspaceError::Unavailable(_)
            ));
        }
        for code in [
            InvalidArgument,
            PermissionDenied,
            Unauthenticated,
            Unimplemented,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            ResourceExhausted,
            OutOfRange,
        ] {
            let failure = Failure::from(Status::new(code, "no"));
            assert!(
                !failure.is_retryable(Intent::Read) && !failure.is_interruption(),
                "{code}"
            );
        }
    }

    #[test]
    fn what_the_server_says_itself_is_the_error_whatever_the_call() {
        let limit = KeyspaceError::LimitExceeded {
            what: "watchers",
            limit: 3,
        };
        let failure = Failure::from(wire::to_status(&limit));
        assert!(failure.is_interruption() && !failure.is_retryable(Intent::Read));
        assert_eq!(
            failure.into_keyspace_error(Intent::Write).to_string(),
            limit.to_string()
        );

        let closed = Failure::from(wire::to_status(&KeyspaceError::Closed));
        assert!(closed.is_retryable(Intent::Write) && closed.is_interruption());

        let unknown = KeyspaceError::OutcomeUnknown(wire::cause("etcd timed out"));
        let unknown = Failure::from(wire::to_status(&unknown));
        assert!(!unknown.is_retryable(Intent::Write));

        let missing = Failure::from(wire::not_found("workload", "workload shop not found"));
        let missing = missing.into_error(Intent::Write, String::new());
        assert_eq!(missing.kind(), crate::ErrorKind::NotFound);
        assert_eq!(missing.to_string(), "workload shop not found");

        let refused = Failure::from(wire::refused("workload", "it has deploy rows"));
        assert_eq!(
            refused.into_error(Intent::Write, String::new()).kind(),
            crate::ErrorKind::Refused
        );
    }
}
