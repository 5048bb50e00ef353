//! Leases: keys that vanish unless somebody keeps them alive.

use std::fmt;
use std::time::Duration;

/// The name of a lease: positive, chosen by the caller or by the keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives without being kept alive. Whole seconds on the wire.
    pub ttl: Duration,
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its name.
    pub id: LeaseId,
    /// The time to live it was granted with.
    pub granted: Duration,
    /// What is left of it.
    pub remaining: Duration,
    /// The keys attached to it, in order.
    pub keys: Vec<bytes::Bytes>,
}
