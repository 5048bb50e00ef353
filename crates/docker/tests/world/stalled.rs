//! A keyspace that can be made to hang or to be out of reach.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tidewatch_core::conformance::{Call, Intercept};
use tidewatch_core::{BoxFuture, Error};

/// Passes everything on, except transactions while it is told not to, and some keep-alives.
#[derive(Default)]
pub(crate) struct Stalled {
    pub(crate) hangs: AtomicBool,
    pub(crate) unreachable: AtomicBool,
    /// How many transactions have been made to hang.
    pub(crate) waiting: AtomicUsize,
    /// How many of the next keep-alives are never answered.
    pub(crate) hanging_keep_alives: AtomicUsize,
}

impl Intercept for Stalled {
    fn before(&self, call: Call) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match call {
                Call::Txn if self.unreachable.load(Ordering::SeqCst) => {
                    let cause = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Err(Error::Unavailable(Arc::new(cause)));
                }
                Call::Txn if self.hangs.load(Ordering::SeqCst) => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                Call::LeaseKeepAlive if self.takes_a_hanging_one() => std::future::pending::<()>().await,
                _ => {}
            }
            Ok(())
        })
    }
}

impl Stalled {
    fn takes_a_hanging_one(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        let hanging = &self.hanging_keep_alives;
        hanging
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }
}
