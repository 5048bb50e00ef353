//! What is held of hosts, within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tidewatch_core::{LeaseId, Revision};
use tidewatch_fleet::{HostName, HostReport, Verdicts};

/// The most hosts of which reports are held, each of about a kilobyte.
pub(super) const MAX_HOSTS: usize = 10_000;

/// The most bytes that are held of what became of containers, of all hosts together: a thousand hosts with a thousand
/// containers each.
pub(super) const MAX_VERDICTS_BYTES: usize = 256 << 20;

/// The last reports of hosts, until their leases end.
pub(super) struct Table {
    held: BTreeMap<HostName, Held>,
    /// When each of them ends.
    ends: BTreeSet<(Instant, HostName)>,
    /// What became of containers, all together, with what is kept free for more.
    verdicts_bytes: usize,
    max_hosts: usize,
    max_verdicts_bytes: usize,
}

/// The last report of one host.
pub(super) struct Held {
    pub(super) lease: LeaseId,
    /// When the host was claimed with that lease: as long as the key says so, the report is about it.
    pub(super) claimed: Revision,
    /// When the lease ends unless it is kept alive again.
    pub(super) ends: Instant,
    /// The number of the report among those of its claim; 0 if whoever made it does not count them.
    pub(super) sequence: u64,
    pub(super) report: HostReport,
    pub(super) verdicts: Known,
}

/// What is known of the containers of a host. It stands until something else is told, or the claim ends.
pub(super) enum Known {
    /// Nothing was told.
    Nothing,
    /// This was told under a number, and may have changed since.
    Told(u64, Arc<Verdicts>),
    /// What was told, of so many bytes, found no room.
    NoRoom(usize),
    /// It found no room, and as many bytes are kept free until the next report now that it has been asked for again: else
    /// all who were refused would send it for the place of one.
    Reserved(usize),
}

impl Known {
    fn bytes(&self) -> usize {
        match self {
            Self::Told(_, verdicts) => verdicts.bytes(),
            Self::Reserved(bytes) => *bytes,
            Self::Nothing | Self::NoRoom(_) => 0,
        }
    }
}

impl Table {
    pub(super) fn new(max_hosts: usize, max_verdicts_bytes: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            verdicts_bytes: 0,
            max_hosts,
            max_verdicts_bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, host: &str, now: Instant) -> Option<&Held> {
        self.held.get(host).filter(|held| held.ends > now)
    }

    /// Lets go of those whose leases have ended. Costs as much as there are of these.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((ends, host)) = self.ends.first()
            && *ends <= now
        {
            let host = host.clone();
            self.remove(&host);
        }
    }

    pub(super) fn remove(&mut self, host: &HostName) -> Option<Held> {
        let held = self.held.remove(host)?;
        self.ends.remove(&(held.ends, host.clone()));
        self.verdicts_bytes -= held.verdicts.bytes();
        Some(held)
    }

    /// Whether there is a place for the report of this host.
    pub(super) fn has_place(&self, host: &HostName) -> bool {
        self.held.len() < self.max_hosts || self.held.contains_key(host)
    }

    /// Whether there is room for so much that became of containers.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.verdicts_bytes + bytes <= self.max_verdicts_bytes
    }

    /// Why a host has no place, for people.
    pub(super) fn why_there_is_no_place(&self) -> String {
        format!(
            "this server holds the reports of at most {} hosts",
            self.max_hosts
        )
    }

    /// Why there is no room for what became of containers, for people.
    pub(super) fn why_there_is_no_room(&self) -> String {
        format!(
            "this server holds at most {} MiB of what is told of containers, of all hosts together",
            self.max_verdicts_bytes >> 20
        )
    }

    /// What is known once this was told.
    pub(super) fn admit(&self, number: u64, verdicts: Verdicts) -> Known {
        let bytes = verdicts.bytes();
        if self.has_room_for(bytes) {
            Known::Told(number, Arc::new(verdicts))
        } else {
            Known::NoRoom(bytes)
        }
    }

    pub(super) fn insert(&mut self, host: HostName, held: Held) {
        self.remove(&host);
        self.verdicts_bytes += held.verdicts.bytes();
        self.ends.insert((held.ends, host.clone()));
        self.held.insert(host, held);
    }
}
