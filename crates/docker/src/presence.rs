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

/// How often a claim is tried at once when the key changes in between: it is absent, then our own
/// former one, then that has expired.
const MAX_CLAIMS: usize = 4;

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

    /// Makes sure that the lease lives and the key is there; without them, claims the host.
    pub(crate) async fn keep(&self) -> Result<Hold, Error> {
        let mut lease = self.lease.lock().await;
        if let Some(id) = *lease {
            match self.keyspace.lease_keep_alive(id).await {
                // Somebody may have deleted or overwritten the key by hand.
                Ok(_) if self.is_there(id).await? => return Ok(Hold::Ours),
                Ok(_) | Err(Error::LeaseNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.give_up(&mut lease).await;
        self.claim(&mut lease).await
    }

    async fn is_there(&self, lease: LeaseId) -> Result<bool, Error> {
        let stored = self.keyspace.get(self.key.to_bytes()).await?;
        Ok(stored.is_some_and(|kv| kv.lease == Some(lease) && kv.value == self.value))
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
        let claimed = self.claim_under(grant.id).await;
        if let Ok(Hold::Anew) = claimed {
            *held = Some(grant.id);
        } else {
            // A lease without a key would only wait for its end.
            let _ = self.keyspace.lease_revoke(grant.id).await;
        }
        claimed
    }

    async fn claim_under(&self, lease: LeaseId) -> Result<Hold, Error> {
        let mut unchanged = Compare::absent(self.key.to_range());
        let mut holder = String::from("somebody else");
        for _ in 0..MAX_CLAIMS {
            let put = PutRequest::new(self.key.to_bytes(), self.value.clone()).lease(lease);
            let claim = Txn::new().when(unchanged).put(put).or_else(self.question());
            let response = self.keyspace.txn(claim).await?;
            if response.succeeded {
                return Ok(Hold::Anew);
            }
            let found = match response.responses.into_iter().next() {
                Some(OpResponse::Range(mut range)) => range.kvs.pop(),
                _ => None,
            };
            unchanged = match found {
                // It went away in between.
                None => Compare::absent(self.key.to_range()),
                Some(found) => {
                    if let Ok(alive) = serde_json::from_slice::<Alive>(&found.value) {
                        if alive.instance != self.instance {
                            return Ok(Hold::Theirs(alive.instance));
                        }
                        holder = alive.instance;
                    }
                    // Our own, of a former life, or nobody's: it is ours if nobody is faster.
                    Compare::mod_revision(self.key.to_range(), found.mod_revision)
                }
            };
        }
        Ok(Hold::Theirs(holder))
    }
}
