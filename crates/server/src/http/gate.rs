//! What answers a request: a small router at first, the whole one when the keyspace is there.

use std::sync::{Arc, OnceLock};

use axum::Router;

/// The router in force; clones share it. The server accepts connections while it still recovers, so
/// that those who probe it see "alive, not ready" instead of nothing.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    startup: Router,
    serving: Arc<OnceLock<Router>>,
}

impl Gate {
    pub(crate) fn new(startup: Router) -> Self {
        Self {
            startup,
            serving: Arc::default(),
        }
    }

    /// From now on `router` answers. Only the first call counts.
    pub(crate) fn open(&self, router: Router) {
        let _ = self.serving.set(router);
    }

    pub(crate) fn router(&self) -> Router {
        self.serving.get().unwrap_or(&self.startup).clone()
    }
}
