//! Why a server could not start, or stopped.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server could not start, or stopped other than on request.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody other than this machine could reach the server, and nothing would keep them out.
    #[error(
        "{listen} can be reached from other machines, and anybody there could read and write everything; \
         listen on 127.0.0.1 or [::1], or say --insecure if the network itself keeps others out"
    )]
    NotLoopback {
        /// The address that was asked for.
        listen: SocketAddr,
    },
    /// A setting has a value that cannot be used.
    #[error("invalid {setting}: {reason}")]
    InvalidSetting {
        /// The setting, by the name of its flag.
        setting: &'static str,
        /// What is wrong with it and how to put it right.
        reason: String,
    },
    /// Another process listens on the address.
    #[error("{listen} is in use by another process; stop that one, or choose another address with --listen")]
    PortInUse {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("failed to listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("data directory {} cannot be used: {reason}", .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and how to put it right.
        reason: String,
        /// What the operating system said.
        #[source]
        source: Option<io::Error>,
    },
    /// The database in the data directory cannot be used.
    #[error("failed to open the database in {}", .path.display())]
    Database {
        /// The data directory.
        path: PathBuf,
        /// Why not: it is locked, broken, newer than this program, …
        #[source]
        source: tidewatch_sqlite::Error,
    },
    /// The keyspace in etcd cannot be read or begun, for a reason that does not go away by itself.
    #[error("failed to open the keyspace in etcd")]
    Etcd(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the database remembers could not be read back.
    #[error("failed to recover the keyspace")]
    Recover(#[source] tidewatch_core::Error),
    /// A part of the server ended although nobody asked it to.
    #[error("the {task} ended unexpectedly: {reason}")]
    TaskEnded {
        /// Which part.
        task: &'static str,
        /// How.
        reason: String,
    },
}

/// What kind of failure an [`Error`] is, for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The configuration is wrong; nothing was opened.
    Usage,
    /// The configuration is fine, the server failed.
    Failed,
}

impl Error {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotLoopback { .. } | Self::InvalidSetting { .. } => ErrorClass::Usage,
            _ => ErrorClass::Failed,
        }
    }
}
