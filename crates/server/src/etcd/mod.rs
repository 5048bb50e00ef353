//! The etcd that a keyspace is in instead of a directory, where the build knows etcd.

#[cfg(not(feature = "etcd"))]
#[path = "absent.rs"]
mod adapter;
#[cfg(feature = "etcd")]
mod adapter;

use std::fmt;
use std::path::PathBuf;

pub(crate) use adapter::{check, open};

/// Where an etcd is, and which part of it is the keyspace. A Tidewatch will do too: it speaks etcd's API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Its members, written like `127.0.0.1:2379`, `http://etcd-1:2379` or `https://etcd-1:2379`.
    pub endpoints: Vec<String>,
    /// How all keys of the keyspace begin there. Empty: all of etcd is the keyspace.
    pub namespace: String,
    /// Who reads and writes there. None: nobody is named.
    pub user: Option<EtcdUser>,
    /// How connections are secured. None: not at all.
    pub tls: Option<EtcdTls>,
}

/// A user of etcd's.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The files that TLS towards etcd needs, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTls {
    /// The CAs that etcd's certificate may come from. Those of the system are not asked.
    pub ca: PathBuf,
    /// The certificate that is shown to etcd, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}
