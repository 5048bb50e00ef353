//! What is known of the connection a request came on, and what its client holds there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewatch_core::Error;

/// A connection; clones share it. Every request carries one in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    watches: Arc<AtomicUsize>,
    max_watches: usize,
}

/// Room for one watch on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct WatchSlot(Arc<AtomicUsize>);

impl Connection {
    pub(crate) fn new(max_watches: usize) -> Self {
        Self {
            watches: Arc::default(),
            max_watches,
        }
    }

    /// Takes room for a watch.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`]; exact, also when several are asked for at once.
    pub(crate) fn watch_slot(&self) -> Result<WatchSlot, Error> {
        let below = |held| (held < self.max_watches).then_some(held + 1);
        // Only the count itself is shared; nothing else is ordered by it.
        match self
            .watches
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
        {
            Ok(_) => Ok(WatchSlot(self.watches.clone())),
            Err(_) => Err(Error::LimitExceeded {
                what: "watches on one connection",
                limit: self.max_watches,
            }),
        }
    }
}

impl Drop for WatchSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_room_for_so_many_watches_and_gets_it_back() {
        let connection = Connection::new(2);
        let first = connection.watch_slot().unwrap();
        let _second = connection.clone().watch_slot().unwrap();
        let error = connection.watch_slot().unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { limit: 2, .. }), "{error}");
        drop(first);
        connection.watch_slot().unwrap();
    }
}
