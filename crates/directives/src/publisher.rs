//! Publishing into a keyspace.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tidewatch_core::key::KeyRange;
use tidewatch_core::txn::{Compare, Op, OpResponse, PutRequest, RangeRequest, Txn, TxnResponse};
use tidewatch_core::{Clock, KeyValue, Keyspace, Revision};

use crate::directive::{Directive, DirectiveSet, Life};
use crate::error::Error;
use crate::reason::Rejection;
use crate::snapshot::Origin;
use crate::store::Handle;

/// The key under which a keyspace holds the set in force.
pub const KEY: &str = "/directives";

/// How often a change of one directive is tried again when somebody else changed the set in between. Two
/// people who do so at once need two; more is a loop that somebody should hear of.
const MAX_ATTEMPTS: usize = 8;

/// Publishes directives into a keyspace, with lives that say until when: counted from now, on this
/// process's clock. Clones are cheap.
///
/// ```
/// use tidewatch_core::{Keyspace, SystemClock};
/// use tidewatch_directives::{Directive, Publisher};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ks = Keyspace::memory();
/// tokio::spawn(ks.driver());
/// let publisher = Publisher::new(ks, SystemClock::shared());
/// let directive = Directive::decode(br#"{"id":"a","level":"debug","match":{"host":"h1"},"ttl_secs":900}"#)?;
/// let published = publisher.set(directive).await?;
/// assert_eq!(publisher.show().await?.unwrap().revision, published.revision);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher {
    keyspace: Keyspace,
    clock: Arc<dyn Clock>,
    key: KeyRange,
    store: Option<Handle>,
}

/// A set in the keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// When it was written; for one that was not there to be removed, the current revision.
    pub revision: Revision,
    /// The directives, their lives stamped.
    pub set: DirectiveSet,
}

/// What is under the key, right or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// When it was written.
    pub revision: Revision,
    /// The value as it is.
    pub value: Bytes,
    /// What it says, or why it is not in force.
    pub set: Result<DirectiveSet, Rejection>,
}

impl Publisher {
    /// Publishes under [`KEY`].
    #[expect(clippy::missing_panics_doc, reason = "the key is one")]
    pub fn new(keyspace: Keyspace, clock: Arc<dyn Clock>) -> Self {
        Self {
            keyspace,
            clock,
            key: tidewatch_core::key(KEY).expect("the key is neither empty nor long"),
            store: None,
        }
    }

    /// Publishes under another key.
    ///
    /// # Errors
    /// [`tidewatch_core::Error::InvalidKey`].
    pub fn under(mut self, key: impl Into<Bytes>) -> Result<Self, tidewatch_core::Error> {
        self.key = tidewatch_core::key(key)?;
        Ok(self)
    }

    /// Has a set that was written without us, and changed here before it was stamped, live as long as
    /// this store says.
    #[must_use]
    pub fn with_store(mut self, store: Handle) -> Self {
        self.store = Some(store);
        self
    }

    /// Replaces the set. With a revision, only if the set was last written then; 0 stands for a set that
    /// is not there.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Changed`], [`Error::Keyspace`].
    pub async fn publish(&self, json: &[u8], at: Option<Revision>) -> Result<Published, Error> {
        let mut set = DirectiveSet::decode(json).map_err(Error::Rejected)?;
        set.stamp(self.clock.system_time());
        let value = set.check().map_err(Error::Rejected)?;
        let response = self.write(value, at).await?;
        if response.succeeded {
            let revision = response.header.revision;
            return Ok(Published { revision, set });
        }
        Err(Error::Changed {
            expected: at.unwrap_or_default(),
            actual: found(&response).map_or(Revision(0), |stored| stored.mod_revision),
        })
    }

    /// Adds a directive, or replaces the one of its id. What has ended leaves the set.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the set becomes too large; [`Error::Stored`], [`Error::Conflict`],
    /// [`Error::Keyspace`].
    pub async fn set(&self, directive: Directive) -> Result<Published, Error> {
        let now = self.clock.system_time();
        let directive = {
            let end = directive.life().end(now);
            directive.with_life(Life::Until(end))
        };
        self.change(|set| {
            set.retain_live(now);
            set.insert(directive.clone());
            Ok(())
        })
        .await
    }

    /// Takes a directive out.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stored`], [`Error::Conflict`], [`Error::Keyspace`].
    pub async fn remove(&self, id: &str) -> Result<Published, Error> {
        let missing = || Error::NotFound { id: id.to_owned() };
        self.change(|set| set.remove(id).then_some(()).ok_or_else(missing))
            .await
    }

    /// Takes all out, by deleting the key. Returns the revision, and whether there was a key.
    ///
    /// # Errors
    /// [`Error::Keyspace`].
    pub async fn clear(&self) -> Result<(Revision, bool), Error> {
        let (revision, deleted) = self.keyspace.delete(self.key.clone()).await?;
        Ok((revision, deleted > 0))
    }

    /// What is there. None if there is no key.
    ///
    /// # Errors
    /// [`Error::Keyspace`].
    pub async fn show(&self) -> Result<Option<Stored>, Error> {
        let stored = self.keyspace.get(self.key.start().clone()).await?;
        Ok(stored.map(|stored| Stored {
            revision: stored.mod_revision,
            set: DirectiveSet::decode(&stored.value),
            value: stored.value,
        }))
    }

    /// Writes a set that was found at `revision` down with lives that say until when, counted from
    /// `published`, unless it was changed since. Returns whether it was written.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it becomes too large by that; [`Error::Keyspace`].
    pub async fn stamp(
        &self,
        mut set: DirectiveSet,
        revision: Revision,
        published: SystemTime,
    ) -> Result<bool, Error> {
        set.stamp(published);
        let value = set.check().map_err(Error::Rejected)?;
        Ok(self.write(value, Some(revision)).await?.succeeded)
    }

    async fn change(
        &self,
        change: impl Fn(&mut DirectiveSet) -> Result<(), Error>,
    ) -> Result<Published, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let stored = self.show().await?;
            let revision = stored.as_ref().map_or(Revision(0), |stored| stored.revision);
            let mut set = match stored {
                Some(stored) => stored.set.map_err(Error::Stored)?,
                None => DirectiveSet::new(),
            };
            self.stamp_found(&mut set, revision);
            change(&mut set)?;
            let value = set.check().map_err(Error::Rejected)?;
            let response = self.write(value, Some(revision)).await?;
            if response.succeeded {
                let revision = response.header.revision;
                return Ok(Published { revision, set });
            }
        }
        Err(Error::Conflict {
            attempts: MAX_ATTEMPTS,
        })
    }

    /// Stamps what somebody else wrote without a stamp: as the store saw it, or, if it has not seen it
    /// yet, from now on.
    fn stamp_found(&self, set: &mut DirectiveSet, revision: Revision) {
        if !set.needs_stamp() {
            return;
        }
        if let Some(store) = &self.store {
            let seen = store.load();
            let is_same = |Origin { revision: seen, .. }: Origin| seen == revision;
            if !seen.is_stale() && seen.origin().is_some_and(is_same) {
                set.stamp_as(&seen);
            }
        }
        set.stamp(self.clock.system_time());
    }

    /// Writes the value; with a revision, only if the key was last written then. A lease of the key
    /// remains what it was.
    async fn write(&self, value: Bytes, at: Option<Revision>) -> Result<TxnResponse, Error> {
        let mut put = PutRequest::new(self.key.start().clone(), value);
        let mut txn = Txn::new();
        if let Some(at) = at {
            put.ignore_lease = at != Revision(0);
            txn = txn.when(Compare::mod_revision(self.key.clone(), at));
        }
        let look = RangeRequest {
            keys_only: true,
            ..RangeRequest::new(self.key.clone())
        };
        Ok(self.keyspace.txn(txn.put(put).or_else(Op::Range(look))).await?)
    }
}

fn found(response: &TxnResponse) -> Option<&KeyValue> {
    match response.responses.first() {
        Some(OpResponse::Range(range)) => range.kvs.first(),
        _ => None,
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
