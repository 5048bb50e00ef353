//! How a watch of etcd is doing.

use std::time::Instant;

use crate::failure::Failure;

/// How a watch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been read yet.
    Connecting {
        /// Why the last attempt failed, if one was made.
        error: Option<Failure>,
        /// How many attempts have failed.
        attempts: u32,
    },
    /// What was delivered is what etcd holds: the watch answers, or did a moment ago.
    Live,
    /// What was delivered may be out of date.
    Interrupted {
        /// When it was last known to be what etcd holds.
        since: Instant,
        /// Why.
        error: Failure,
        /// How many attempts to go on have failed.
        attempts: u32,
    },
    /// It was stopped, and will deliver nothing more.
    Stopped,
}
