//! The key `/hosts/<host>`: written when something about the host changes, and never otherwise.

use std::time::SystemTime;

use tidewatch_core::txn::{PutRequest, Txn};
use tidewatch_core::{Error, Keyspace, Revision};
use tidewatch_fleet::{FleetKey, Host, HostName, value};

use crate::lister::Daemon;
use crate::presence::Claim;

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
    /// The revision of the key that says so.
    written_at: Revision,
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
            written_at: Revision::default(),
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

    /// Compares with what the key was last written at. If it is gone, or not as we left it, what is
    /// written is not to be relied on; returns whether that is so.
    pub(crate) fn is_overtaken(&mut self, stored_at: Option<Revision>) -> bool {
        if self.written.is_some() && stored_at != Some(self.written_at) {
            self.written = None;
        }
        self.written.is_none()
    }

    /// Writes the key if it says something else than is known, and the claim on the host stands.
    pub(crate) async fn write(&mut self, keyspace: &Keyspace, claim: &Claim) -> Result<(), Error> {
        let Some(state) = self.state.clone() else {
            return Ok(());
        };
        let target = (state, self.daemon.clone());
        if self.written.as_ref() == Some(&target) {
            return Ok(());
        }
        let found = keyspace.get(self.key.to_bytes()).await?;
        let stored = found
            .as_ref()
            .and_then(|kv| serde_json::from_slice::<Host>(&kv.value).ok());
        let mut written_at = found.map(|kv| kv.mod_revision).unwrap_or_default();
        let desired = self.desired(&target.0, stored.as_ref());
        if stored.as_ref() != Some(&desired) {
            let put = PutRequest::new(self.key.to_bytes(), value::encode(&desired));
            let fenced = claim.fence().into_iter().fold(Txn::new(), Txn::when);
            let response = keyspace.txn(fenced.put(put)).await?;
            if !response.succeeded {
                return Ok(()); // Not ours; tried again when it is.
            }
            written_at = response.header.revision;
        }
        self.written = Some(target);
        self.written_at = written_at;
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
