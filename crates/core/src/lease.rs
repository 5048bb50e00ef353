//! Leases: keys that vanish unless somebody keeps them alive.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::limits::MAX_LEASE_TTL_SECS;

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

/// Checks what a lease is asked for, and rounds its time to live up to whole seconds. Every backend calls
/// this first.
///
/// # Errors
/// [`Error::InvalidArgument`].
pub fn check_grant(id: Option<LeaseId>, ttl: Duration) -> Result<Duration, Error> {
    if id.is_some_and(|id| id.0 <= 0) {
        return Err(Error::InvalidArgument {
            what: "lease id",
            reason: "it must be positive; leave it out to have one chosen".into(),
        });
    }
    let secs = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    if ttl < Duration::from_secs(1) || secs > MAX_LEASE_TTL_SECS.unsigned_abs() {
        return Err(Error::InvalidArgument {
            what: "time to live",
            reason: format!("it must be between 1 and {MAX_LEASE_TTL_SECS} seconds"),
        });
    }
    Ok(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn times_to_live_are_whole_seconds_from_one_up() {
        let ok = |ttl| check_grant(None, ttl).unwrap();
        assert_eq!(ok(SECOND), SECOND);
        assert_eq!(ok(Duration::from_millis(1001)), SECOND * 2);
        for ttl in [
            Duration::ZERO,
            Duration::from_millis(999),
            Duration::from_secs(9_000_000_001),
            Duration::MAX,
        ] {
            let error = check_grant(None, ttl).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{ttl:?}: {error}");
        }
        for id in [0, -1, i64::MIN] {
            assert!(check_grant(Some(LeaseId(id)), SECOND).is_err());
        }
    }
}
