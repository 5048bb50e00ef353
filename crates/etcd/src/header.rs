//! What every answer of etcd says about the cluster it comes from.

use tidewatch_core::{KeyspaceId, Revision};

/// The header of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id: a hash of its members' addresses and its token, so a cluster that was wiped and set up again in the
    /// same way has the same.
    pub cluster: u64,
    /// The member that answered.
    pub member: u64,
    /// The revision of the store when it answered; zero where etcd leaves it out.
    pub revision: Revision,
    /// The raft term of the member.
    pub term: u64,
}

/// Which history it is: a cluster, and how often it was seen to have lost its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u64,
    /// Zero for the history that was found first. Each time the same cluster came back with another history, a new number
    /// that follows from what gave it away.
    pub epoch: u64,
}

impl Identity {
    /// The history of a cluster that nothing else is known of.
    pub fn of(cluster: u64) -> Self {
        Self { cluster, epoch: 0 }
    }

    /// The identity as that of a keyspace. It is the cluster's id as long as no loss of history was seen.
    pub fn keyspace(self) -> KeyspaceId {
        if self.epoch == 0 {
            KeyspaceId(self.cluster)
        } else {
            KeyspaceId(mix(self.cluster, self.epoch))
        }
    }

    /// The identity after this answer, which does not continue this history.
    pub(crate) fn replaced_by(self, header: &Header) -> Self {
        if header.cluster != self.cluster {
            return Self::of(header.cluster);
        }
        let epoch = mix(mix(self.epoch, header.term), header.revision.0).max(1);
        Self {
            cluster: self.cluster,
            epoch,
        }
    }
}

/// Two numbers as one (the finaliser of splitmix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(32) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_lost_its_history_is_another_keyspace() {
        let first = Identity::of(7);
        assert_eq!(first.keyspace(), KeyspaceId(7));
        let header = Header {
            cluster: 7,
            revision: Revision(3),
            term: 2,
            ..Header::default()
        };
        let second = first.replaced_by(&header);
        assert_eq!(second.cluster, 7);
        assert_ne!(second.keyspace(), first.keyspace());
        let other = Header { cluster: 8, ..header };
        assert_eq!(second.replaced_by(&other), Identity::of(8));
    }
}
