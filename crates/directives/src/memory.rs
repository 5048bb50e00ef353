//! A store without a source: what is published is published here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tidewatch_core::{Clock, KeyspaceId, Revision};

use crate::applier::{Applier, Outcome};
use crate::directive::{Directive, DirectiveSet};
use crate::reason::Rejection;
use crate::snapshot::Origin;
use crate::store::{DirectiveStore, Handle};

/// Directives of one process, published by itself: for programs without a control plane, and for tests.
/// Clones share the set.
///
/// ```
/// use tidewatch_core::SystemClock;
/// use tidewatch_directives::{DirectiveStore, Level, MemoryDirectiveStore, Subject};
///
/// let store = MemoryDirectiveStore::new(SystemClock::shared());
/// store.publish(br#"{"directives":[
///     {"id":"slow-checkout","level":"debug","match":{"component":"http"},"sample_per_mille":500,"ttl_secs":900}
/// ]}"#)?;
///
/// let mut reader = store.reader();
/// let request_id = "request-1";
/// if reader.load().level(&Subject::new().component("http"), request_id) >= Level::Debug {
///     println!("this request is looked at closely");
/// }
/// assert_eq!(reader.load().level(&Subject::new().component("jobs"), request_id), Level::Off);
/// # Ok::<(), tidewatch_directives::Rejection>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryDirectiveStore {
    inner: Arc<Mutex<Inner>>,
    handle: Handle,
}

#[derive(Debug)]
struct Inner {
    applier: Applier,
    origin: Origin,
    set: DirectiveSet,
    clock: Arc<dyn Clock>,
}

impl MemoryDirectiveStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut applier = Applier::new(clock.clone());
        let origin = Origin {
            keyspace: KeyspaceId::random(),
            revision: Revision::INITIAL,
        };
        applier.apply(origin, None);
        applier.live();
        Self {
            handle: applier.handle().clone(),
            inner: Arc::new(Mutex::new(Inner {
                applier,
                origin,
                set: DirectiveSet::new(),
                clock,
            })),
        }
    }

    /// Replaces the set. Its lives begin now.
    ///
    /// # Errors
    /// [`Rejection`]; then the set before is still in force.
    pub fn publish(&self, json: &[u8]) -> Result<Revision, Rejection> {
        self.lock().replace(DirectiveSet::decode(json)?)
    }

    /// Adds a directive, or replaces the one of its id. What has ended leaves the set.
    ///
    /// # Errors
    /// [`Rejection`] if the set becomes too large.
    pub fn set(&self, directive: Directive) -> Result<Revision, Rejection> {
        let mut inner = self.lock();
        let mut set = inner.set.clone();
        set.retain_live(inner.clock.system_time());
        set.insert(directive);
        inner.replace(set)
    }

    /// Takes a directive out, and tells whether it was there.
    pub fn remove(&self, id: &str) -> bool {
        let mut inner = self.lock();
        let found = inner.set.remove(id);
        if found {
            let encoded = inner.set.encode();
            inner.apply(encoded);
        }
        found
    }

    /// Takes all out.
    pub fn clear(&self) -> Revision {
        let mut inner = self.lock();
        inner.set = DirectiveSet::new();
        let encoded = inner.set.encode();
        inner.apply(encoded)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn replace(&mut self, mut set: DirectiveSet) -> Result<Revision, Rejection> {
        set.stamp(self.clock.system_time());
        let encoded = set.check()?;
        self.set = set;
        Ok(self.apply(encoded))
    }

    fn apply(&mut self, encoded: Bytes) -> Revision {
        self.origin.revision = self.origin.revision.next();
        let outcome = self.applier.apply(self.origin, Some(encoded));
        debug_assert_eq!(outcome, Outcome::Applied);
        self.origin.revision
    }
}

impl DirectiveStore for MemoryDirectiveStore {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}
