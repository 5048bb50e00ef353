//! Failures from what etcd-client says.

use std::error::Error as StdError;

use crate::failure::{Failure, FailureKind};

/// gRPC's numbers, as they stand on the wire.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// The failure that an error stands for.
pub(super) fn of(error: &etcd_client::Error) -> Failure {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let text = chain(status.message(), status.source());
            Failure::new(kind(i32::from(status.code()), &text), text)
        }
        etcd_client::Error::TransportError(error) => {
            let text = chain(&error.to_string(), error.source());
            Failure::new(kind(0, &text), text)
        }
        other => Failure::new(FailureKind::Refused, other.to_string()),
    }
}

/// Whether a password was shown to an etcd that asks nobody for one.
pub(super) fn is_auth_off(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if is_auth_off_text(status.message()))
}

/// Whether a connection that was made ended before an answer came.
pub(super) fn is_closed(failure: &Failure) -> bool {
    const WORDS: [&str; 4] = [
        "connection closed",
        "operation was canceled",
        "roken pipe",
        "eset by peer",
    ];
    failure.kind == FailureKind::Unreachable && WORDS.iter().any(|word| failure.text.contains(word))
}

fn is_auth_off_text(text: &str) -> bool {
    text.contains("authentication is not enabled")
}

fn kind(code: i32, text: &str) -> FailureKind {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // etcd uses a code for several things, and its words for one.
    if says(&["required revision has been compacted"]) {
        FailureKind::Compacted
    } else if says(&["required revision is a future revision"]) {
        FailureKind::Future
    } else if says(&["message length too large", "message larger than max"]) {
        FailureKind::TooLarge
    } else if says(&["authentication failed"]) {
        FailureKind::Credentials
    } else if says(&["permission denied", "user name is empty", "user name not found"]) {
        FailureKind::Denied
    } else if code == code::UNAUTHENTICATED || says(&["invalid auth token", "revision of auth store is old"])
    {
        FailureKind::Token
    } else if says(&[
        "certificate",
        "Certificate",
        "HandshakeFailure",
        "tls handshake",
        "InvalidContentType",
    ]) {
        FailureKind::Tls
    } else {
        match code {
            code::PERMISSION_DENIED => FailureKind::Denied,
            code::INVALID_ARGUMENT | code::FAILED_PRECONDITION | code::UNIMPLEMENTED => FailureKind::Refused,
            _ => FailureKind::Unreachable,
        }
    }
}

/// What is said and what it was caused by; words that were said already are left out.
fn chain(first: &str, mut source: Option<&(dyn StdError + 'static)>) -> String {
    let mut text = first.to_owned();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_is_told_apart_by_its_words() {
        for (code, text, expected) in [
            (
                11,
                "etcdserver: mvcc: required revision has been compacted",
                FailureKind::Compacted,
            ),
            (
                11,
                "etcdserver: mvcc: required revision is a future revision",
                FailureKind::Future,
            ),
            (
                11,
                "Error, decoded message length too large: found 5242894 bytes, the limit is: 4194304 bytes",
                FailureKind::TooLarge,
            ),
            (7, "etcdserver: permission denied", FailureKind::Denied),
            (3, "etcdserver: user name is empty", FailureKind::Denied),
            (
                3,
                "etcdserver: authentication failed, invalid user ID or password",
                FailureKind::Credentials,
            ),
            (16, "etcdserver: invalid auth token", FailureKind::Token),
            (14, "etcdserver: no leader", FailureKind::Unreachable),
            (
                14,
                "transport error: invalid peer certificate: UnknownIssuer",
                FailureKind::Tls,
            ),
            (
                14,
                "error reading a body: received fatal alert: CertificateRequired",
                FailureKind::Tls,
            ),
            (
                14,
                "tcp connect error: Connection refused (os error 111)",
                FailureKind::Unreachable,
            ),
            (12, "unknown service etcdserverpb.KV", FailureKind::Refused),
        ] {
            assert_eq!(kind(code, text), expected, "{text}");
        }
        assert!(is_auth_off_text("etcdserver: authentication is not enabled"));
    }
}
