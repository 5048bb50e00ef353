//! Errors as etcd's clients know them. They branch on the code and the text together, so both are
//! etcd's to the letter.

use tidewatch_core::Error;
use tonic::{Code, Status};

/// An answer that etcd's clients recognize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) code: Code,
    pub(crate) text: &'static str,
}

impl Known {
    const fn new(code: Code, text: &'static str) -> Self {
        Self { code, text }
    }
}

impl From<Known> for Status {
    fn from(known: Known) -> Self {
        Self::new(known.code, known.text)
    }
}

pub(crate) const EMPTY_KEY: Known = Known::new(Code::InvalidArgument, "etcdserver: key is not provided");
pub(crate) const KEY_NOT_FOUND: Known = Known::new(Code::InvalidArgument, "etcdserver: key not found");
pub(crate) const VALUE_PROVIDED: Known = Known::new(Code::InvalidArgument, "etcdserver: value is provided");
pub(crate) const LEASE_PROVIDED: Known = Known::new(Code::InvalidArgument, "etcdserver: lease is provided");
pub(crate) const TOO_MANY_OPS: Known = Known::new(
    Code::InvalidArgument,
    "etcdserver: too many operations in txn request",
);
pub(crate) const DUPLICATE_KEY: Known = Known::new(
    Code::InvalidArgument,
    "etcdserver: duplicate key given in txn request",
);
pub(crate) const INVALID_SORT_OPTION: Known =
    Known::new(Code::InvalidArgument, "etcdserver: invalid sort option");
pub(crate) const REQUEST_TOO_LARGE: Known =
    Known::new(Code::InvalidArgument, "etcdserver: request is too large");
pub(crate) const COMPACTED: Known = Known::new(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision has been compacted",
);
pub(crate) const FUTURE_REVISION: Known = Known::new(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision is a future revision",
);
pub(crate) const NO_SPACE: Known = Known::new(
    Code::ResourceExhausted,
    "etcdserver: mvcc: database space exceeded",
);
pub(crate) const LEASE_NOT_FOUND: Known = Known::new(Code::NotFound, "etcdserver: requested lease not found");
pub(crate) const LEASE_EXISTS: Known =
    Known::new(Code::FailedPrecondition, "etcdserver: lease already exists");
pub(crate) const LEASE_TTL_TOO_LARGE: Known = Known::new(Code::OutOfRange, "etcdserver: too large lease TTL");
pub(crate) const AUTH_NOT_ENABLED: Known = Known::new(
    Code::FailedPrecondition,
    "etcdserver: authentication is not enabled",
);
pub(crate) const PERMISSION_DENIED: Known =
    Known::new(Code::PermissionDenied, "etcdserver: permission denied");
/// The call had no effect; clients try another server.
pub(crate) const NO_LEADER: Known = Known::new(Code::Unavailable, "etcdserver: no leader");
/// The call may have had an effect.
pub(crate) const TIMEOUT: Known = Known::new(Code::Unavailable, "etcdserver: request timed out");
pub(crate) const STOPPED: Known = Known::new(Code::Unavailable, "etcdserver: server stopped");

/// The one way from an error of the keyspace to a status.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
pub(crate) fn status(error: Error) -> Status {
    let code = known(&error).map_or_else(|| other_code(&error), |known| known.code);
    Status::new(code, text(&error))
}

/// An error of the keyspace in etcd's words, or else in ours.
pub(crate) fn text(error: &Error) -> String {
    match known(error) {
        Some(known) => known.text.into(),
        None => format!("etcdserver: {error}"),
    }
}

/// Why an operator's or the server's hand ended a watch.
pub(crate) const WATCH_CANCELED: &str = "etcdserver: watch canceled";

/// What etcd says about it, if it has a word for it.
fn known(error: &Error) -> Option<Known> {
    Some(match error {
        Error::InvalidKey { key, .. } if key.is_empty() => EMPTY_KEY,
        // etcd bounds the request where we bound the key.
        Error::InvalidKey { .. } | Error::ValueTooLarge { .. } | Error::TxnTooLarge { .. } => {
            REQUEST_TOO_LARGE
        }
        Error::TooManyOps { .. } => TOO_MANY_OPS,
        Error::DuplicateKey { .. } => DUPLICATE_KEY,
        Error::KeyNotFound { .. } => KEY_NOT_FOUND,
        Error::LeaseNotFound { .. } => LEASE_NOT_FOUND,
        Error::LeaseExists { .. } => LEASE_EXISTS,
        Error::Compacted { .. } => COMPACTED,
        Error::FutureRevision { .. } => FUTURE_REVISION,
        Error::NoSpace { .. } => NO_SPACE,
        Error::PermissionDenied { .. } => PERMISSION_DENIED,
        Error::Unavailable(_) => NO_LEADER,
        Error::OutcomeUnknown(_) => TIMEOUT,
        Error::Closed => STOPPED,
        _ => return None,
    })
}

fn other_code(error: &Error) -> Code {
    match error {
        error if error.is_invalid_argument() => Code::InvalidArgument,
        Error::LimitExceeded { .. } => Code::ResourceExhausted,
        Error::Unsupported { .. } => Code::Unimplemented,
        Error::KeyspaceChanged { .. } => Code::FailedPrecondition,
        Error::Journal(_) => Code::Internal,
        _ => Code::Unknown,
    }
}

/// For a call that is not there: what to do instead.
pub(crate) fn unimplemented(instead: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {instead}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidewatch_core::{LeaseId, Revision};

    use super::*;

    #[test]
    fn clients_branch_on_the_same_codes_and_texts_as_with_etcd() {
        let cases = [
            (
                Error::InvalidKey {
                    key: "".into(),
                    reason: "it is empty",
                },
                EMPTY_KEY,
            ),
            (Error::TooManyOps { ops: 129, max: 128 }, TOO_MANY_OPS),
            (Error::DuplicateKey { key: "a".into() }, DUPLICATE_KEY),
            (Error::TxnTooLarge { len: 2, max: 1 }, REQUEST_TOO_LARGE),
            (Error::LeaseNotFound { id: LeaseId(1) }, LEASE_NOT_FOUND),
            (
                Error::Compacted {
                    requested: Revision(1),
                    oldest: Revision(2),
                },
                COMPACTED,
            ),
            (
                Error::FutureRevision {
                    requested: Revision(3),
                    current: Revision(2),
                },
                FUTURE_REVISION,
            ),
            (Error::NoSpace { used: 2, quota: 1 }, NO_SPACE),
            (Error::Closed, STOPPED),
        ];
        for (error, known) in cases {
            let answer = status(error);
            assert_eq!((answer.code(), answer.message()), (known.code, known.text));
        }
    }

    #[test]
    fn what_etcd_has_no_word_for_is_told_in_ours() {
        let answer = status(Error::LimitExceeded {
            what: "leases",
            limit: 3,
        });
        assert_eq!(answer.code(), Code::ResourceExhausted);
        assert_eq!(answer.message(), "etcdserver: limit of 3 leases exceeded");
        let answer = status(Error::Journal(Arc::new(std::io::Error::other("disk"))));
        assert_eq!(answer.code(), Code::Internal);
    }
}
