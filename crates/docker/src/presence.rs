//! Who reconciles a host: the key `/alive/<host>`, which is the fence of every plan.

use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::txn::{Compare, Op, OpResponse, PutRequest, RangeRequest, Txn};
use tidewatch_core::{Error, Keyspace, LeaseId};
use tidewatch_fleet::{Alive, FleetKey, HostName, value};
use tokio::sync::Mutex;

/// How long a reconciler may be silent before its host counts as not observed.
pub const LEASE_TTL: Duration = Duration::from_secs(10);

/// How often the lease is kept alive: two may be lost.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_millis(3_300);

/// The claim of one reconciler on its host.
pub(crate) struct Presence {
    keyspace: Keyspace,
    key: FleetKey,
    instance: String,
    value: Bytes,
    /// The lease of the key while it is ours, as far as we know. Locked while it is being acquired,
    /// so that the keeper and the worker do not do it at the same time.
    lease: Mutex<Option<LeaseId>>,
}

impl Hold {
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Theirs(_))
    }

    /// The instance that has the host, if it is not ours.
    pub(crate) fn held_by(&self) -> &str {
        match self {
            Self::Theirs(instance) => instance,
            Self::Ours | Self::Anew => "",
        }
    }
}

/// Whether a host is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is, and has been since the last time that was said.
    Ours,
    /// It is again, or for the first time: somebody else may have had it in between.
    Anew,
    /// Another instance has it.
    Theirs(String),
}

impl Presence {
    pub(crate) fn new(keyspace: Keyspace, host: HostName, instance: String) -> Self {
        let value = value::encode(&Alive {
            instance: instance.clone(),
        });
        Self {
            keyspace,
            key: FleetKey::Alive(host),
            instance,
            value,
            lease: Mutex::new(None),
        }
    }

    /// What must hold for a plan to be applied.
    pub(crate) fn fence(&self) -> Compare {
        Compare::value(self.key.to_range(), self.value.clone())
    }

    /// Reads the key, to tell whether the fence is what failed.
    pub(crate) fn question(&self) -> Op {
        Op::Range(RangeRequest::new(self.key.to_range()))
    }

    /// Whether the answer to [`question`](Self::question) says that the fence holds.
    pub(crate) fn holds(&self, answer: Option<&OpResponse>) -> bool {
        let Some(OpResponse::Range(range)) = answer else {
            return false;
        };
        range.kvs.first().is_some_and(|kv| kv.value == self.value)
    }

    /// Makes sure that the lease lives and the key is there; without a lease, claims the host.
    pub(crate) async fn keep(&self) -> Result<Hold, Error> {
        let mut lease = self.lease.lock().await;
        if let Some(id) = *lease {
            match self.keyspace.lease_keep_alive(id).await {
                Ok(_) => return Ok(Hold::Ours),
                Err(Error::LeaseNotFound { .. }) => *lease = None,
                Err(error) => return Err(error),
            }
        }
        self.claim(&mut lease).await
    }

    /// Claims the host again after the fence was found broken, unless that was put right in between.
    pub(crate) async fn reclaim(&self) -> Result<Hold, Error> {
        let mut lease = self.lease.lock().await;
        let stored = self.keyspace.get(self.key.to_bytes()).await?;
        let held = lease.is_some() && stored.is_some_and(|kv| kv.lease == *lease && kv.value == self.value);
        if held {
            return Ok(Hold::Ours);
        }
        self.give_up(&mut lease).await;
        self.claim(&mut lease).await
    }

    /// Gives the host up, so that it counts as not observed at once.
    pub(crate) async fn release(&self) {
        let mut lease = self.lease.lock().await;
        self.give_up(&mut lease).await;
    }

    async fn give_up(&self, lease: &mut Option<LeaseId>) {
        if let Some(id) = lease.take() {
            // What cannot be revoked expires.
            let _ = self.keyspace.lease_revoke(id).await;
        }
    }

    async fn claim(&self, held: &mut Option<LeaseId>) -> Result<Hold, Error> {
        let (_, grant) = self.keyspace.lease_grant(None, LEASE_TTL).await?;
        let put = || PutRequest::new(self.key.to_bytes(), self.value.clone()).lease(grant.id);
        let create = Txn::new()
            .when(Compare::absent(self.key.to_range()))
            .put(put())
            .or_else(self.question());
        let response = self.keyspace.txn(create).await?;
        if response.succeeded {
            *held = Some(grant.id);
            return Ok(Hold::Anew);
        }
        let found = match response.responses.into_iter().next() {
            Some(OpResponse::Range(mut range)) => range.kvs.pop(),
            _ => None,
        };
        let Some(found) = found else {
            // It went away in between; the next attempt finds it absent.
            let _ = self.keyspace.lease_revoke(grant.id).await;
            return Ok(Hold::Theirs(String::new()));
        };
        let holder = serde_json::from_slice::<Alive>(&found.value).ok();
        if let Some(holder) = holder.filter(|holder| holder.instance != self.instance) {
            let _ = self.keyspace.lease_revoke(grant.id).await;
            return Ok(Hold::Theirs(holder.instance));
        }
        // Our own, of a former life, or nobody's: it is ours if nobody was faster.
        let replace = Txn::new()
            .when(Compare::mod_revision(self.key.to_range(), found.mod_revision))
            .put(put());
        if self.keyspace.txn(replace).await?.succeeded {
            *held = Some(grant.id);
            return Ok(Hold::Anew);
        }
        let _ = self.keyspace.lease_revoke(grant.id).await;
        Ok(Hold::Theirs(String::new()))
    }
}
