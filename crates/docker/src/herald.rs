//! Keeping a host's lease alive, and what travels with that.

use tidewatch_core::{BoxFuture, Error, LeaseId, Revision};

use crate::status::ReconcilerStatus;

/// A way of its own to keep the lease of a host alive, which takes along what its reconciler says about
/// itself. Without one the lease is kept alive by the keyspace's own call, and nobody is told anything.
pub trait Herald: Send + Sync {
    /// Gives the lease its full time to live again. False: the lease is gone, or `/alive/<host>` is no
    /// longer attached to it, or no longer as it was written at revision `claimed`; then the host is claimed
    /// anew.
    ///
    /// Called about every three seconds, and when there is news; not again before it has returned or was
    /// dropped, which happens [`RENEW_DEADLINE`](crate::RENEW_DEADLINE) after it was called. What takes longer than the
    /// lease can wait for is no part of it.
    ///
    /// # Errors
    /// Those of the keyspace. After [`Error::Unsupported`] the keyspace's own call is made instead.
    ///
    /// # Cancel safety
    /// The future may be dropped; the lease may have been kept alive or not.
    fn keep_alive<'a>(
        &'a self,
        status: &'a ReconcilerStatus,
        lease: LeaseId,
        claimed: Revision,
    ) -> BoxFuture<'a, Result<bool, Error>>;
}
