//! Errors as gRPC carries them: the only place where a [`tonic::Status`] is made or read.
//!
//! | [`Error`] | gRPC code |
//! |---|---|
//! | what the caller asked for can never work | `INVALID_ARGUMENT` |
//! | `KeyNotFound`, `LeaseNotFound` | `NOT_FOUND` |
//! | `LeaseExists` | `ALREADY_EXISTS` |
//! | `Compacted`, `FutureRevision` | `OUT_OF_RANGE` |
//! | `KeyspaceChanged` | `FAILED_PRECONDITION` |
//! | `NoSpace`, `LimitExceeded` | `RESOURCE_EXHAUSTED` |
//! | `PermissionDenied` | `PERMISSION_DENIED` |
//! | `Unsupported` | `UNIMPLEMENTED` |
//! | `Unavailable`, `Closed` | `UNAVAILABLE` |
//! | `Journal` | `INTERNAL` |
//! | `OutcomeUnknown` | `UNKNOWN` |
//!
//! The code is for clients that know nothing of Tidewatch. The status's details are a
//! `google.rpc.Status` with one [`ErrorInfo`], from which the error itself is made again: a
//! client tells `Compacted` from `FutureRevision`, and a server's own `Unavailable` from a connection
//! that broke.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use tidewatch_core::error::Cause;
use tidewatch_core::{Error, KeyspaceId, LeaseId, Revision};
use tonic::{Code, Status};

use crate::v1::ErrorInfo;

/// What [`google.rpc.Status`](https://google.aip.dev/193) calls our details.
const TYPE_URL: &str = "type.googleapis.com/tidewatch.v1.ErrorInfo";

/// The longest message and detail that are sent, in bytes. gRPC carries them in a header, and many
/// peers refuse headers above 8 KiB in all; the text is there twice, and a key beside it.
const MAX_TEXT_BYTES: usize = 512;

/// The longest piece of a key that is sent back with an error, in bytes.
const MAX_KEY_ECHO_BYTES: usize = 256;

/// The status that tells `error`.
pub fn to_status(error: &Error) -> Status {
    status(code(error), &ErrorInfo::from(error))
}

/// The status for a thing that does not exist and is not a key or a lease, for instance a workload.
pub fn not_found(what: &str, message: impl fmt::Display) -> Status {
    failure(Code::NotFound, "not_found", what, message)
}

/// The status of a server that cannot answer yet. Unlike one that a proxy or a broken connection makes, it
/// tells that the call has had no effect, and so can be made again.
pub fn unavailable(message: &str) -> Status {
    let info = ErrorInfo {
        detail: message.into(),
        message: message.into(),
        reason: "unavailable".into(),
        ..ErrorInfo::default()
    };
    status(Code::Unavailable, &info)
}

/// The status for what is possible but not now, for instance to remove a workload that has deploy
/// rows.
pub fn refused(what: &str, message: impl fmt::Display) -> Status {
    failure(Code::FailedPrecondition, "refused", what, message)
}

/// The details of a status, if a Tidewatch server made it.
pub fn info(status: &Status) -> Option<ErrorInfo> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let info = details.details.iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorInfo::decode(&info.value[..]).ok()
}

/// The error that a status tells, if a Tidewatch server made the status and it is one of the
/// keyspace.
pub fn from_status(status: &Status) -> Option<Error> {
    from_info(&info(status)?)
}

/// The error of the keyspace that an [`ErrorInfo`] tells. None if it is not one, or one of a newer
/// version.
pub fn from_info(info: &ErrorInfo) -> Option<Error> {
    let key = || info.key.clone();
    let detail = || info.detail.clone();
    let (actual, limit) = (size(info.actual), size(info.limit));
    let (requested, current) = (Revision(info.requested), Revision(info.current));
    let id = LeaseId(info.lease);
    Some(match info.reason.as_str() {
        "invalid_key" => Error::InvalidKey {
            key: key(),
            reason: name(&info.detail, "the server refuses it"),
        },
        "invalid_prefix" => Error::InvalidPrefix { prefix: key() },
        "invalid_range" => Error::InvalidRange {
            start: key(),
            end: info.range_end.clone(),
        },
        "value_too_large" => Error::ValueTooLarge {
            key: key(),
            len: actual,
            max: limit,
        },
        "txn_too_large" => Error::TxnTooLarge {
            len: actual,
            max: limit,
        },
        "too_many_ops" => Error::TooManyOps {
            ops: actual,
            max: limit,
        },
        "duplicate_key" => Error::DuplicateKey { key: key() },
        "invalid_argument" => Error::InvalidArgument {
            what: name(&info.what, "request"),
            reason: detail(),
        },
        "key_not_found" => Error::KeyNotFound { key: key() },
        "lease_not_found" => Error::LeaseNotFound { id },
        "lease_exists" => Error::LeaseExists { id },
        "compacted" => Error::Compacted {
            requested,
            oldest: Revision(info.oldest),
        },
        "future_revision" => Error::FutureRevision { requested, current },
        "keyspace_changed" => Error::KeyspaceChanged {
            actual: KeyspaceId(info.keyspace_id),
            current,
        },
        "no_space" => Error::NoSpace {
            used: info.actual,
            quota: info.limit,
        },
        "limit_exceeded" => Error::LimitExceeded {
            what: name(&info.what, "things of a kind"),
            limit,
        },
        "journal" => Error::Journal(cause(detail())),
        "unavailable" => Error::Unavailable(cause(detail())),
        "outcome_unknown" => Error::OutcomeUnknown(cause(detail())),
        "permission_denied" => Error::PermissionDenied { reason: detail() },
        "unsupported" => Error::Unsupported { what: detail() },
        "closed" => Error::Closed,
        _ => return None,
    })
}

/// A text as the cause of an error: what is left of one that came over the wire.
pub fn cause(text: impl Into<String>) -> Cause {
    Arc::new(RemoteCause(text.into()))
}

impl From<&Error> for ErrorInfo {
    fn from(error: &Error) -> Self {
        let mut info = Self {
            message: shorten(&error.to_string(), MAX_TEXT_BYTES),
            ..Self::default()
        };
        info.reason = describe(error, &mut info).into();
        info
    }
}

/// Fills in what `error` knows, and returns its stable name.
fn describe(error: &Error, info: &mut ErrorInfo) -> &'static str {
    let count = |n: usize| n as u64;
    match error {
        Error::InvalidKey { key, reason } => {
            info.key = echo(key);
            info.detail = shorten(reason, MAX_TEXT_BYTES);
            "invalid_key"
        }
        Error::InvalidPrefix { prefix } => {
            info.key = echo(prefix);
            "invalid_prefix"
        }
        Error::InvalidRange { start, end } => {
            (info.key, info.range_end) = (echo(start), echo(end));
            "invalid_range"
        }
        Error::ValueTooLarge { key, len, max } => {
            info.key = echo(key);
            (info.actual, info.limit) = (count(*len), count(*max));
            "value_too_large"
        }
        Error::TxnTooLarge { len, max } => {
            (info.actual, info.limit) = (count(*len), count(*max));
            "txn_too_large"
        }
        Error::TooManyOps { ops, max } => {
            (info.actual, info.limit) = (count(*ops), count(*max));
            "too_many_ops"
        }
        Error::DuplicateKey { key } => {
            info.key = echo(key);
            "duplicate_key"
        }
        Error::InvalidArgument { what, reason } => {
            (info.what, info.detail) = ((*what).into(), shorten(reason, MAX_TEXT_BYTES));
            "invalid_argument"
        }
        Error::KeyNotFound { key } => {
            info.key = echo(key);
            "key_not_found"
        }
        Error::LeaseNotFound { id } => {
            info.lease = id.0;
            "lease_not_found"
        }
        Error::LeaseExists { id } => {
            info.lease = id.0;
            "lease_exists"
        }
        Error::Compacted { requested, oldest } => {
            (info.requested, info.oldest) = (requested.0, oldest.0);
            "compacted"
        }
        Error::FutureRevision { requested, current } => {
            (info.requested, info.current) = (requested.0, current.0);
            "future_revision"
        }
        Error::KeyspaceChanged { actual, current } => {
            (info.keyspace_id, info.current) = (actual.0, current.0);
            "keyspace_changed"
        }
        Error::NoSpace { used, quota } => {
            (info.actual, info.limit) = (*used, *quota);
            "no_space"
        }
        Error::LimitExceeded { what, limit } => {
            (info.what, info.limit) = ((*what).into(), count(*limit));
            "limit_exceeded"
        }
        Error::Journal(cause) => {
            info.detail = chain(cause);
            "journal"
        }
        Error::Unavailable(cause) => {
            info.detail = chain(cause);
            "unavailable"
        }
        Error::OutcomeUnknown(cause) => {
            info.detail = chain(cause);
            "outcome_unknown"
        }
        Error::PermissionDenied { reason } => {
            info.detail = shorten(reason, MAX_TEXT_BYTES);
            "permission_denied"
        }
        Error::Unsupported { what } => {
            info.detail = shorten(what, MAX_TEXT_BYTES);
            "unsupported"
        }
        Error::Closed => "closed",
        _ => "unknown",
    }
}

fn code(error: &Error) -> Code {
    match error {
        error if error.is_invalid_argument() => Code::InvalidArgument,
        Error::KeyNotFound { .. } | Error::LeaseNotFound { .. } => Code::NotFound,
        Error::LeaseExists { .. } => Code::AlreadyExists,
        Error::Compacted { .. } | Error::FutureRevision { .. } => Code::OutOfRange,
        Error::KeyspaceChanged { .. } => Code::FailedPrecondition,
        Error::NoSpace { .. } | Error::LimitExceeded { .. } => Code::ResourceExhausted,
        Error::PermissionDenied { .. } => Code::PermissionDenied,
        Error::Unsupported { .. } => Code::Unimplemented,
        Error::Unavailable(_) | Error::Closed => Code::Unavailable,
        Error::Journal(_) => Code::Internal,
        _ => Code::Unknown,
    }
}

fn failure(code: Code, reason: &str, what: &str, message: impl fmt::Display) -> Status {
    let message = shorten(&message.to_string(), MAX_TEXT_BYTES);
    let info = ErrorInfo {
        reason: reason.into(),
        what: what.into(),
        message,
        ..ErrorInfo::default()
    };
    status(code, &info)
}

fn status(code: Code, info: &ErrorInfo) -> Status {
    let details = RpcStatus {
        code: code.into(),
        message: String::new(),
        details: vec![prost_types::Any {
            type_url: TYPE_URL.into(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(code, info.message.as_str(), details.encode_to_vec().into())
}

/// `google.rpc.Status`, the standard form of details.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    /// Left empty: the status has it already, and both are headers.
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Debug)]
struct RemoteCause(String);

impl fmt::Display for RemoteCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RemoteCause {}

/// An error and what caused it, as one text.
fn chain(cause: &Cause) -> String {
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    shorten(&text, MAX_TEXT_BYTES)
}

/// The beginning of a text of more than so many bytes, with an ellipsis for the rest, within them; of a shorter one all.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit.saturating_sub('…'.len_utf8())).rfind(|&at| text.is_char_boundary(at));
    format!("{}…", &text[..end.unwrap_or(0)])
}

fn echo(key: &Bytes) -> Bytes {
    key.slice(..key.len().min(MAX_KEY_ECHO_BYTES))
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The most names from other versions that are remembered, and their longest, in bytes.
const MAX_NAMES: usize = 64;
const MAX_NAME_BYTES: usize = 128;

/// The text as a constant, as errors want it.
fn name(text: &str, otherwise: &'static str) -> &'static str {
    static NAMES: Mutex<Names> = Mutex::new(Names(BTreeSet::new()));
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.get(text).unwrap_or(otherwise)
}

/// Names are few and the same ones come again, so the first [`MAX_NAMES`] different ones are kept for
/// good; further ones are not, because a hostile peer must not fill memory.
struct Names(BTreeSet<&'static str>);

impl Names {
    fn get(&mut self, text: &str) -> Option<&'static str> {
        if let Some(name) = self.0.get(text) {
            return Some(name);
        }
        if self.0.len() >= MAX_NAMES || text.is_empty() || text.len() > MAX_NAME_BYTES {
            return None;
        }
        let name: &'static str = text.to_owned().leak();
        self.0.insert(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_error() -> Vec<Error> {
        let key = Bytes::from_static(b"/a\xff");
        vec![
            Error::InvalidKey {
                key: key.clone(),
                reason: "it is empty",
            },
            Error::InvalidPrefix { prefix: key.clone() },
            Error::InvalidRange {
                start: key.clone(),
                end: Bytes::from_static(b"/"),
            },
            Error::ValueTooLarge {
                key: key.clone(),
                len: 2,
                max: 1,
            },
            Error::TxnTooLarge { len: 2, max: 1 },
            Error::TooManyOps { ops: 129, max: 128 },
            Error::DuplicateKey { key: key.clone() },
            Error::InvalidArgument {
                what: "watch",
                reason: "it has no range".into(),
            },
            Error::KeyNotFound { key },
            Error::LeaseNotFound { id: LeaseId(7) },
            Error::LeaseExists { id: LeaseId(-7) },
            Error::Compacted {
                requested: Revision(3),
                oldest: Revision(9),
            },
            Error::FutureRevision {
                requested: Revision(u64::MAX),
                current: Revision(9),
            },
            Error::KeyspaceChanged {
                actual: KeyspaceId(u64::MAX),
                current: Revision(9),
            },
            Error::NoSpace { used: 2, quota: 1 },
            Error::LimitExceeded {
                what: "watchers",
                limit: 3,
            },
            Error::Journal(cause("disk full")),
            Error::Unavailable(cause("no route")),
            Error::OutcomeUnknown(cause("broken pipe")),
            Error::PermissionDenied {
                reason: "no grant".into(),
            },
            Error::Unsupported {
                what: "compaction".into(),
            },
            Error::Closed,
        ]
    }

    #[test]
    fn every_error_survives_the_way_through_a_status() {
        for error in every_error() {
            let back = from_status(&to_status(&error)).expect("a status of ours");
            assert_eq!(format!("{back:?}"), format!("{error:?}"));
        }
    }

    #[test]
    fn the_code_and_the_message_tell_those_who_know_only_grpc() {
        let status = to_status(&Error::Compacted {
            requested: Revision(3),
            oldest: Revision(9),
        });
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(
            status.message(),
            "revision 3 has been compacted, the oldest one available is 9"
        );
        for error in every_error().iter().filter(|error| error.is_invalid_argument()) {
            assert_eq!(to_status(error).code(), Code::InvalidArgument, "{error}");
        }
    }

    #[test]
    fn a_status_of_somebody_else_is_no_error_of_ours() {
        assert!(from_status(&Status::unavailable("broken pipe")).is_none());
        let garbage = Status::with_details(Code::Unknown, "", Bytes::from_static(b"\xff\xff\xff"));
        assert!(from_status(&garbage).is_none());
    }

    #[test]
    fn what_is_no_error_of_the_keyspace_has_a_name_too() {
        let status = not_found("workload", "workload \"shop\" not found");
        assert_eq!(status.code(), Code::NotFound);
        let info = info(&status).expect("a status of ours");
        assert_eq!(
            (info.reason.as_str(), info.what.as_str()),
            ("not_found", "workload")
        );
        assert!(from_status(&status).is_none());
        assert_eq!(refused("workload", "").code(), Code::FailedPrecondition);
    }

    #[test]
    fn an_error_about_something_huge_still_fits_into_headers() {
        let status = to_status(&Error::InvalidRange {
            start: vec![0xff; 4096].into(),
            end: vec![0xff; 4096].into(),
        });
        assert!(status.message().len() + status.details().len() < 4096);
        let status = to_status(&Error::Unavailable(cause("ü".repeat(10_000))));
        assert!(status.message().len() + status.details().len() < 4096);
    }

    #[test]
    fn names_from_a_hostile_peer_do_not_pile_up() {
        let mut names = Names(BTreeSet::new());
        assert_eq!(names.get(&"x".repeat(MAX_NAME_BYTES + 1)), None);
        let kept = (0..10 * MAX_NAMES).filter_map(|n| names.get(&format!("name {n}")));
        assert_eq!(kept.count(), MAX_NAMES);
        assert_eq!(names.get("name 0"), Some("name 0"));
    }
}
