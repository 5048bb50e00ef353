//! Who reconciles a host: the key `/alive/<host>`, which is the fence of every plan.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::txn::{Compare, CompareOp, CompareTarget, Op, OpResponse, PutRequest, RangeRequest, Txn};
use tidewatch_core::{Clock, Error as KeyspaceError, KeyRange, KeyValue, Keyspace, LeaseId, Revision};
use tidewatch_fleet::{Alive, FleetKey, value};

use crate::deadline::within;
use crate::error::Error;
use crate::herald::Herald;
use crate::settings::FIRST_PAUSE;
use crate::status::ReconcilerStatus;

/// How long a reconciler may be silent before its host counts as not observed.
pub const LEASE_TTL: Duration = Duration::from_secs(10);

/// How often the lease is kept alive, from the beginning of one renewal to that of the next.
pub const RENEW_INTERVAL: Duration = Duration::from_millis(3_300);

/// How long one renewal may take. Whoever renews over a network has to have left a server that does not answer by then,
/// so that the next one goes elsewhere.
pub const RENEW_DEADLINE: Duration = Duration::from_millis(2_500);

// A lease lives from the last renewal that was answered, or longer. One that hangs, and the pause after it, leave time
// for another one.
const _: () = assert!(
    RENEW_INTERVAL.as_millis() + 2 * RENEW_DEADLINE.as_millis() + FIRST_PAUSE.as_millis()
        < LEASE_TTL.as_millis()
);

/// How often a claim is tried at once when the key changes in between: it is absent, then our own
/// former one, then that has expired.
const MAX_CLAIMS: usize = 4;

/// The claims of one reconciler on its host, one after the other.
pub(crate) struct Presence {
    keyspace: Keyspace,
    key: FleetKey,
    us: Alive,
    value: Bytes,
    herald: Option<Arc<dyn Herald>>,
    status: ReconcilerStatus,
    clock: Arc<dyn Clock>,
    /// Held while the claim is renewed or replaced, so that the keeper and the worker do not do it at the
    /// same time.
    changing: tokio::sync::Mutex<()>,
    /// The claim that stands, as far as we know.
    claim: Mutex<Option<Claim>>,
}

/// One claim: from the write of the key to its end. Another one, also of the same instance, has another
/// lease and another revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    key: KeyRange,
    lease: LeaseId,
    revision: Revision,
}

/// Whether a host is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is, and has been since the last time that was said.
    Ours,
    /// It is again, or for the first time: somebody else may have had it in between.
    Anew,
    /// Another instance has it, at least up to this revision.
    Theirs(Alive, Revision),
}

impl Hold {
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Theirs(..))
    }

    /// The instance that has the host, if it is not ours.
    pub(crate) fn held_by(&self) -> String {
        match self {
            Self::Theirs(alive, _) => alive.to_string(),
            Self::Ours | Self::Anew => String::new(),
        }
    }
}

impl Claim {
    /// What must hold for a plan to be applied that was made under this claim. Whatever happened to the
    /// key since then is another revision of it: it expired, somebody else had it, we claimed it again.
    /// In another keyspace the revision may be the same, but not the lease, whose number is drawn.
    pub(crate) fn fence(&self) -> [Compare; 2] {
        let lease = Compare {
            range: self.key.clone(),
            op: CompareOp::Equal,
            target: CompareTarget::Lease(Some(self.lease)),
        };
        [Compare::mod_revision(self.key.clone(), self.revision), lease]
    }

    /// Reads the key, to tell whether the fence is what failed.
    pub(crate) fn question(&self) -> Op {
        Op::Range(RangeRequest::new(self.key.clone()))
    }

    /// Whether the answer to [`question`](Self::question) says that the fence holds.
    pub(crate) fn holds(&self, answer: Option<&OpResponse>) -> bool {
        let Some(OpResponse::Range(range)) = answer else {
            return false;
        };
        range.kvs.first().is_some_and(|kv| self.is_of(kv))
    }

    fn is_of(&self, kv: &KeyValue) -> bool {
        kv.lease == Some(self.lease) && kv.mod_revision == self.revision
    }
}

impl Presence {
    pub(crate) fn new(
        keyspace: Keyspace,
        us: Alive,
        herald: Option<Arc<dyn Herald>>,
        status: ReconcilerStatus,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            keyspace,
            key: FleetKey::Alive(status.host().clone()),
            value: value::encode(&us),
            us,
            herald,
            status,
            clock,
            changing: tokio::sync::Mutex::new(()),
            claim: Mutex::new(None),
        }
    }

    /// The claim that stands, as far as we know. What is looked at from now on is looked at under it.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.standing().clone()
    }

    /// Whether anybody is told how the reconciler is whenever the lease is kept alive.
    pub(crate) fn is_told(&self) -> bool {
        self.herald.is_some()
    }

    /// Makes sure that the lease lives and the key is there; without them, claims the host.
    pub(crate) async fn keep(&self) -> Result<Hold, Error> {
        let _alone = self.changing.lock().await;
        if let Some(claim) = self.claim() {
            if self.renew(&claim).await? {
                return Ok(Hold::Ours);
            }
            // Somebody may have deleted or overwritten the key by hand, so that the lease lives still.
            self.give_up().await;
        }
        Ok(self.acquire().await?)
    }

    /// Gives a claim up that does not stand any more, though its lease may live, and claims the host anew;
    /// unless that has been done already.
    pub(crate) async fn replace(&self, lost: &Claim) -> Result<Hold, Error> {
        let _alone = self.changing.lock().await;
        match self.claim() {
            Some(claim) if claim != *lost => return Ok(Hold::Ours),
            Some(_) => self.give_up().await,
            None => {}
        }
        Ok(self.acquire().await?)
    }

    /// Gives the host up, so that it counts as not observed at once.
    pub(crate) async fn release(&self) {
        let _alone = self.changing.lock().await;
        self.give_up().await;
    }

    /// Waits until the key is written or deleted after `revision`. For ever, if it cannot be watched.
    pub(crate) fn change_after(&self, revision: Revision) -> impl Future<Output = ()> + Send + 'static {
        let watch = self
            .keyspace
            .watch(self.key.to_range())
            .from_revision(revision.next())
            .keys_only();
        async move {
            if let Ok(mut watch) = watch.start().await {
                while let Ok(batch) = watch.next().await {
                    if !batch.is_empty() {
                        return;
                    }
                }
            }
            std::future::pending::<()>().await;
        }
    }

    /// Keeps the lease of a claim alive, in a time that leaves some for another attempt. False: the claim no
    /// longer stands.
    async fn renew(&self, claim: &Claim) -> Result<bool, Error> {
        match within(&*self.clock, RENEW_DEADLINE, self.try_renew(claim)).await {
            Some(renewed) => Ok(renewed?),
            None => Err(Error::KeyspaceTimeout {
                after: RENEW_DEADLINE,
            }),
        }
    }

    async fn try_renew(&self, claim: &Claim) -> Result<bool, KeyspaceError> {
        if let Some(herald) = &self.herald {
            match herald.keep_alive(&self.status, claim.lease, claim.revision).await {
                Err(KeyspaceError::Unsupported { .. }) => {}
                Err(KeyspaceError::LeaseNotFound { .. }) => return Ok(false),
                other => return other,
            }
        }
        match self.keyspace.lease_keep_alive(claim.lease).await {
            Ok(_) => {}
            Err(KeyspaceError::LeaseNotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let stored = self.keyspace.get(self.key.to_bytes()).await?;
        Ok(stored.is_some_and(|kv| claim.is_of(&kv)))
    }

    async fn give_up(&self) {
        let claim = self.standing().take();
        if let Some(claim) = claim {
            // What cannot be revoked expires.
            let _ = self.keyspace.lease_revoke(claim.lease).await;
        }
    }

    async fn acquire(&self) -> Result<Hold, KeyspaceError> {
        // Who waits for a host asks first: a lease that nobody needs would be a write that nobody needs.
        let read = RangeRequest::new(self.key.to_range());
        let (header, mut stored) = self.keyspace.range(read).await?;
        if let Some(theirs) = stored.kvs.pop().and_then(|kv| self.other(&kv)) {
            return Ok(Hold::Theirs(theirs, header.revision));
        }
        let (_, grant) = self.keyspace.lease_grant(None, LEASE_TTL).await?;
        let claimed = self.claim_under(grant.id).await;
        if !matches!(claimed, Ok(Hold::Anew)) {
            // A lease without a key would only wait for its end.
            let _ = self.keyspace.lease_revoke(grant.id).await;
        }
        claimed
    }

    async fn claim_under(&self, lease: LeaseId) -> Result<Hold, KeyspaceError> {
        let key = self.key.to_range();
        let mut unchanged = Compare::absent(key.clone());
        let mut seen = Revision::default();
        for _ in 0..MAX_CLAIMS {
            let put = PutRequest::new(self.key.to_bytes(), self.value.clone()).lease(lease);
            let question = Op::Range(RangeRequest::new(key.clone()));
            let claim = Txn::new().when(unchanged).put(put).or_else(question);
            let response = self.keyspace.txn(claim).await?;
            seen = response.header.revision;
            if response.succeeded {
                *self.standing() = Some(Claim {
                    key,
                    lease,
                    revision: seen,
                });
                return Ok(Hold::Anew);
            }
            let found = match response.responses.into_iter().next() {
                Some(OpResponse::Range(mut range)) => range.kvs.pop(),
                _ => None,
            };
            unchanged = match found {
                // It went away in between.
                None => Compare::absent(key.clone()),
                Some(found) => {
                    if let Some(theirs) = self.other(&found) {
                        return Ok(Hold::Theirs(theirs, seen));
                    }
                    // Our own, of a former life, or nobody's: it is ours if nobody is faster.
                    Compare::mod_revision(key.clone(), found.mod_revision)
                }
            };
        }
        let somebody = Alive {
            instance: "somebody else".to_owned(),
            ..Alive::default()
        };
        Ok(Hold::Theirs(somebody, seen))
    }

    /// Who has the key, if that is another instance. What cannot be read is nobody's.
    fn other(&self, kv: &KeyValue) -> Option<Alive> {
        let alive = serde_json::from_slice::<Alive>(&kv.value).ok()?;
        (alive.instance != self.us.instance).then_some(alive)
    }

    fn standing(&self) -> MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
