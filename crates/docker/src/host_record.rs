//! The key `/hosts/<host>`: written when something about the host changes, and never otherwise.

use std::time::SystemTime;

use tidewatch_core::txn::{PutRequest, Txn};
use tidewatch_core::{Error, Keyspace};
use tidewatch_fleet::{FleetKey, Host, HostName, value};

use crate::lister::Daemon;
use crate::presence::Presence;

/// What is known of a host, and whether it is written.
pub(crate) struct HostRecord {
    key: FleetKey,
    address: String,
    daemon: Daemon,
    /// Whether Docker answers, and if not, why. None: not asked yet.
    state: Option<Result<(), String>>,
    /// When `state` became what it is.
    since: SystemTime,
    /// The state that is known to be written, with the daemon it was written for.
    written: Option<(Result<(), String>, Daemon)>,
}

impl HostRecord {
    pub(crate) fn new(host: HostName, address: String) -> Self {
        Self {
            key: FleetKey::Host(host),
            address,
            daemon: Daemon::default(),
            state: None,
            since: SystemTime::UNIX_EPOCH,
            written: None,
        }
    }

    /// The daemon that answered last.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(crate) fn reachable(&mut self, daemon: &Daemon, now: SystemTime) {
        if self.state != Some(Ok(())) {
            self.state = Some(Ok(()));
            self.since = now;
        }
        self.daemon = Daemon {
            // It ticks, and is no part of what the host is.
            time: None,
            ..daemon.clone()
        };
    }

    pub(crate) fn unreachable(&mut self, error: &str, now: SystemTime) {
        // Another error of the same outage is no transition.
        if !matches!(self.state, Some(Err(_))) {
            self.state = Some(Err(error.to_owned()));
            self.since = now;
        }
    }

    /// What is written is not to be relied on.
    pub(crate) fn forget(&mut self) {
        self.written = None;
    }

    /// Writes the key if it says something else than is known, and the host is ours.
    pub(crate) async fn write(&mut self, keyspace: &Keyspace, presence: &Presence) -> Result<(), Error> {
        let Some(state) = self.state.clone() else {
            return Ok(());
        };
        let target = (state, self.daemon.clone());
        if self.written.as_ref() == Some(&target) {
            return Ok(());
        }
        let stored = keyspace.get(self.key.to_bytes()).await?;
        let stored = stored.and_then(|kv| serde_json::from_slice::<Host>(&kv.value).ok());
        let desired = self.desired(&target.0, stored.as_ref());
        if stored.as_ref() != Some(&desired) {
            let put = PutRequest::new(self.key.to_bytes(), value::encode(&desired));
            let txn = Txn::new().when(presence.fence()).put(put);
            if !keyspace.txn(txn).await?.succeeded {
                return Ok(()); // Not ours; tried again when it is.
            }
        }
        self.written = Some(target);
        Ok(())
    }

    fn desired(&self, state: &Result<(), String>, stored: Option<&Host>) -> Host {
        let mut host = stored.cloned().unwrap_or_default();
        let reachable = state.is_ok();
        // A host that was reachable before a restart of ours has been so since then.
        let same = stored.is_some_and(|stored| stored.reachable == reachable && !stored.since.is_empty());
        if !same {
            host.since = humantime::format_rfc3339_seconds(self.since).to_string();
        }
        if !same || host.error.is_empty() != reachable {
            host.error = state.as_ref().err().cloned().unwrap_or_default();
        }
        host.reachable = reachable;
        host.address.clone_from(&self.address);
        if reachable {
            host.daemon_id.clone_from(&self.daemon.id);
            host.versions.clone_from(&self.daemon.versions);
        }
        host
    }
}
