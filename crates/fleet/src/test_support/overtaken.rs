//! A keyspace whose history does not last as long as who reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewatch_core::conformance::{Call, Intercept, intercepted};
use tidewatch_core::{BoxFuture, Error, Keyspace};

/// The same keyspace. After so many reads, transactions among them, there is a write, and the history before
/// that is compacted.
pub(crate) fn overtaken_after(keyspace: &Keyspace, reads: usize) -> Keyspace {
    let overtaken = Overtaken {
        keyspace: keyspace.clone(),
        left: AtomicUsize::new(reads),
    };
    intercepted(keyspace, Arc::new(overtaken))
}

struct Overtaken {
    /// Without what stands in between.
    keyspace: Keyspace,
    /// How many reads are left.
    left: AtomicUsize,
}

impl Intercept for Overtaken {
    fn after(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let is_read = matches!(call, Call::Range | Call::Txn);
            if is_read && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                let revision = self.keyspace.put("/overtaken", "").await?;
                self.keyspace.compact(revision).await?;
            }
            Ok(())
        })
    }
}
