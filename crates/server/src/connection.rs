//! What is known of the connection a request came on, and what its client holds there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewatch_core::Error;

/// A connection; clones share it. Every request carries one in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    watches: Arc<AtomicUsize>,
    max_watches: usize,
    label: Arc<str>,
}

/// What stands between the address of a peer and the number of its connection.
const NUMBER: &str = " #";

/// The peer and the number of the connection that a [label](Connection::label) tells; of another text, it and 0.
pub(crate) fn peer_of(label: &str) -> (&str, u64) {
    let parts = label.rsplit_once(NUMBER);
    parts
        .and_then(|(peer, number)| Some((peer, number.parse().ok()?)))
        .unwrap_or((label, 0))
}

/// Room for one watch on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct WatchSlot(Arc<AtomicUsize>);

impl Connection {
    /// `number` is counted since the server's start, from 1 on: an address may come again.
    pub(crate) fn new(peer: SocketAddr, number: u64, max_watches: usize) -> Self {
        Self {
            watches: Arc::default(),
            max_watches,
            label: format!("{peer}{NUMBER}{number}").into(),
        }
    }

    /// For whom its watches are.
    pub(crate) fn label(&self) -> Arc<str> {
        self.label.clone()
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

    const ANYBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4711);

    #[test]
    fn a_label_tells_the_peer_and_its_connection() {
        let connection = Connection::new(ANYBODY, 17, 2);
        assert_eq!(peer_of(&connection.label()), ("127.0.0.1:4711", 17));
        assert_eq!(peer_of("reconciler"), ("reconciler", 0));
        assert_eq!(peer_of("tenant #one"), ("tenant #one", 0));
    }

    #[test]
    fn a_connection_has_room_for_so_many_watches_and_gets_it_back() {
        let connection = Connection::new(ANYBODY, 1, 2);
        let first = connection.watch_slot().unwrap();
        let _second = connection.clone().watch_slot().unwrap();
        let error = connection.watch_slot().unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { limit: 2, .. }), "{error}");
        drop(first);
        connection.watch_slot().unwrap();
    }
}
