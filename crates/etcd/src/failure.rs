//! Why something that was asked of etcd did not happen, as far as it matters for what is done next.

use std::fmt;

/// Why a call or a watch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort of failure it is.
    pub kind: FailureKind,
    /// What etcd, the connection or TLS said; without keys or values.
    pub text: String,
}

/// Sorts of failures; each is answered in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No answer: not connected, cut off, too late, or no leader. Another member may do better.
    Unreachable,
    /// Certificates do not fit. It may be mended on either side, but not by trying again soon.
    Tls,
    /// The user, or nobody as a user, is not allowed to. Trying again helps only after somebody has granted it.
    Denied,
    /// Name or password are wrong.
    Credentials,
    /// The token is no longer valid; a new connection has a new one.
    Token,
    /// The revision has been compacted.
    Compacted,
    /// The revision is ahead of the store: its history is not the one that was read before.
    Future,
    /// A message is larger than what is accepted.
    TooLarge,
    /// Anything else that etcd refuses.
    Refused,
}

impl Failure {
    /// A failure of a sort, in these words.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Unreachable, text)
    }

    /// What a watch was canceled with, which is all that etcd says in its stream.
    pub(crate) fn canceled(reason: &str) -> Self {
        let has = |text: &str| reason.contains(text);
        let kind = if has("permission denied") || has("user name is empty") {
            FailureKind::Denied
        } else if has("invalid auth token") {
            FailureKind::Token
        } else if has("required revision has been compacted") {
            FailureKind::Compacted
        } else if has("no leader") {
            FailureKind::Unreachable
        } else {
            FailureKind::Refused
        };
        let text = if reason.is_empty() {
            "etcd canceled the watch without a reason".to_owned()
        } else {
            format!("etcd canceled the watch: {reason}")
        };
        Self::new(kind, text)
    }
}

impl FailureKind {
    /// Whether it stays until somebody changes settings, here or there.
    pub fn needs_a_hand(self) -> bool {
        matches!(self, Self::Tls | Self::Denied | Self::Credentials)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
