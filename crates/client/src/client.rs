//! The handle on a server.

use std::sync::Arc;

use tidewatch_core::watch::WatchBuilder;
use tidewatch_core::{Backend, EndReason, KeyRange, Keyspace};

use crate::backend::RemoteBackend;
use crate::builder::ClientBuilder;
use crate::connection::Connection;

/// A client of a Tidewatch server, or of several that serve one keyspace. Clones share their
/// connections.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    backend: Arc<RemoteBackend>,
}

impl Client {
    /// Sets up a client of the server at `endpoint`, for instance `http://127.0.0.1:7480`.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(endpoint.into())
    }

    pub(crate) fn new(connection: Connection) -> Self {
        let connection = Arc::new(connection);
        Self {
            backend: Arc::new(RemoteBackend::new(connection.clone())),
            connection,
        }
    }

    /// The server's keyspace.
    pub fn keyspace(&self) -> Keyspace {
        Keyspace::new(self.backend())
    }

    /// The server's keyspace as a backend.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// Describes a watch, which resumes by itself; [`start`](WatchBuilder::start) begins it.
    pub fn watch(&self, range: KeyRange) -> WatchBuilder {
        WatchBuilder::new(self.backend(), range)
    }

    /// Refuses further calls on the keyspace, and ends all watches: after what this client has
    /// written, if that arrives within half a second.
    pub fn close(&self) {
        self.connection.close(EndReason::Closed);
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}
