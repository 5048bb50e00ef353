//! The leases of an embedded keyspace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Error;
use crate::lease::{LeaseGrant, LeaseId};

/// Most leases at a time: a fleet needs one for each host, and a million of them fit in memory.
pub(super) const MAX_LEASES: usize = 1_000_000;

/// All leases, with the keys attached to them and the moments at which they expire.
///
/// Like the index, it holds what is not durable yet too, and each change can be taken back.
#[derive(Debug)]
pub(super) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    deadlines: BTreeSet<(Instant, LeaseId)>,
    limit: usize,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            limit: MAX_LEASES,
        }
    }
}

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// What was granted.
    pub(super) grant: LeaseGrant,
    /// When it expires.
    pub(super) deadline: Instant,
    /// The keys that vanish with it.
    pub(super) keys: BTreeSet<Bytes>,
}

impl Lease {
    fn new(grant: LeaseGrant, now: Instant) -> Self {
        Self {
            grant,
            deadline: now + grant.ttl,
            keys: BTreeSet::new(),
        }
    }
}

impl Leases {
    /// Adds a lease, under a name of its own if none is given.
    ///
    /// # Errors
    /// [`Error::LeaseExists`], [`Error::LimitExceeded`].
    pub(super) fn grant(
        &mut self,
        id: Option<LeaseId>,
        ttl: Duration,
        now: Instant,
    ) -> Result<LeaseGrant, Error> {
        if self.by_id.len() >= self.limit {
            return Err(Error::LimitExceeded {
                what: "leases",
                limit: self.limit,
            });
        }
        let id = match id {
            Some(id) if self.by_id.contains_key(&id) => return Err(Error::LeaseExists { id }),
            Some(id) => id,
            None => self.unused_id(),
        };
        let grant = LeaseGrant { id, ttl };
        self.insert(Lease::new(grant, now));
        Ok(grant)
    }

    /// Adds a lease that has its full time to live.
    pub(super) fn restore(&mut self, grant: LeaseGrant, now: Instant) {
        self.insert(Lease::new(grant, now));
    }

    /// Adds a lease as it was.
    pub(super) fn insert(&mut self, lease: Lease) {
        self.deadlines.insert((lease.deadline, lease.grant.id));
        self.by_id.insert(lease.grant.id, lease);
    }

    /// Removes a lease.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.deadlines.remove(&(lease.deadline, id));
        Some(lease)
    }

    /// The lease of this name, expired or not.
    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Whether there is such a lease and it has not expired. One that has, but was not collected
    /// yet, is as good as gone: nobody can attach to it or keep it alive.
    pub(super) fn is_alive(&self, id: LeaseId, now: Instant) -> bool {
        self.by_id.get(&id).is_some_and(|lease| lease.deadline > now)
    }

    /// Moves a key from one lease to another. A lease that is not there is passed over: the record of
    /// its end takes its keys away.
    pub(super) fn reattach(&mut self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(lease) = from.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }

    /// Gives a lease its full time to live, unless it has expired.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Option<Duration> {
        let lease = self.by_id.get_mut(&id).filter(|lease| lease.deadline > now)?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = now + lease.grant.ttl;
        self.deadlines.insert((lease.deadline, id));
        Some(lease.grant.ttl)
    }

    /// When the next lease expires.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// At most `max` leases that have expired, in the order of their deadlines.
    pub(super) fn expired(&self, now: Instant, max: usize) -> Vec<LeaseId> {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.take(max).map(|&(_, id)| id).collect()
    }

    /// The names of all leases, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = LeaseId> {
        self.by_id.keys().copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn unused_id(&self) -> LeaseId {
        loop {
            let id = LeaseId(fastrand::i64(1..));
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(leases: &mut Leases, id: i64, secs: u32, now: Instant) -> LeaseId {
        leases.grant(Some(LeaseId(id)), SECOND * secs, now).unwrap().id
    }

    #[test]
    fn leases_expire_in_the_order_of_their_deadlines() {
        let now = ManualClock::new().now();
        let mut leases = Leases::default();
        lease(&mut leases, 1, 30, now);
        lease(&mut leases, 2, 10, now);
        lease(&mut leases, 3, 20, now);
        assert_eq!(leases.next_deadline(), Some(now + SECOND * 10));
        assert_eq!(leases.expired(now + SECOND * 9, 9), []);
        assert_eq!(leases.expired(now + SECOND * 20, 9), [LeaseId(2), LeaseId(3)]);
        assert_eq!(leases.expired(now + SECOND * 20, 1), [LeaseId(2)]);
    }

    #[test]
    fn keeping_alive_moves_the_deadline_until_it_has_passed() {
        let now = ManualClock::new().now();
        let mut leases = Leases::default();
        let id = lease(&mut leases, 1, 10, now);
        assert_eq!(leases.keep_alive(id, now + SECOND * 9), Some(SECOND * 10));
        assert!(leases.is_alive(id, now + SECOND * 18));
        assert_eq!(leases.keep_alive(id, now + SECOND * 19), None, "it has expired");
        assert!(!leases.is_alive(id, now + SECOND * 19));
        assert_eq!(leases.keep_alive(LeaseId(7), now), None);
    }

    #[test]
    fn a_key_is_attached_to_one_lease_at_most() {
        let now = ManualClock::new().now();
        let mut leases = Leases::default();
        let (a, b) = (lease(&mut leases, 1, 10, now), lease(&mut leases, 2, 10, now));
        let key = Bytes::from("/k");
        leases.reattach(&key, None, Some(a));
        leases.reattach(&key, Some(a), Some(b));
        assert!(leases.get(a).unwrap().keys.is_empty());
        assert!(leases.get(b).unwrap().keys.contains(&key));
        leases.reattach(&key, Some(b), None);
        assert!(leases.get(b).unwrap().keys.is_empty());
    }

    #[test]
    fn a_name_in_use_is_refused_and_a_chosen_one_is_positive() {
        let now = ManualClock::new().now();
        let mut leases = Leases::default();
        let id = lease(&mut leases, 1, 10, now);
        let error = leases.grant(Some(id), SECOND, now).unwrap_err();
        assert!(matches!(error, Error::LeaseExists { id: LeaseId(1) }));
        assert!(leases.grant(None, SECOND, now).unwrap().id.0 > 0);
    }

    #[test]
    fn there_are_so_many_leases_and_no_more() {
        let now = ManualClock::new().now();
        let mut leases = Leases {
            limit: 2,
            ..Leases::default()
        };
        let first = lease(&mut leases, 1, 10, now);
        lease(&mut leases, 2, 10, now);
        let error = leases.grant(None, SECOND, now).unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { limit: 2, .. }), "{error}");
        leases.remove(first);
        leases.grant(None, SECOND, now).unwrap();
    }
}
