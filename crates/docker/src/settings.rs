//! The bounds and times of a reconciler.

use std::time::Duration;

use crate::plan::RETENTION;

/// The longest first pause after something failed.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How often a reconciler looks, and how long it waits. The defaults are those of the design; each
/// says where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcilerSettings {
    /// From one full resync to the next when nothing gives a reason for one; ± 10 %, so that hosts
    /// do not move in step. What is repaired then is drift.
    pub resync_interval: Duration,
    /// From one ping to the next. With the ping's deadline it bounds how long a daemon that has
    /// stopped answering looks well: 4.5 s of the 5 that are promised.
    pub ping_interval: Duration,
    /// The longest a ping may take.
    pub ping_deadline: Duration,
    /// The longest a full list may take. 1000 containers take a healthy daemon a tenth of a second.
    pub list_deadline: Duration,
    /// The longest any other question to Docker may take.
    pub ask_deadline: Duration,
    /// The longest a call on the keyspace may take. Keeping the lease of the host alive has a bound of its own,
    /// [`RENEW_DEADLINE`](crate::RENEW_DEADLINE).
    pub store_deadline: Duration,
    /// The first and the longest step of the waits between attempts to reach Docker or the keyspace. An
    /// attempt begins with a ping, so the longest one is what lies between pings when all is well; with
    /// the ping's deadline it bounds how long a daemon that answers again looks lost.
    pub backoff: (Duration, Duration),
    /// How soon one drain of dirty containers may follow another: a burst becomes a few lists, and a
    /// single event still waits for nothing. A container that ends is told of twice within some
    /// milliseconds, by its network and by its `die`; who comes second should not wait long. A list of
    /// some ids costs the daemon a millisecond.
    pub drain_spacing: Duration,
    /// How soon a resync may follow another one that only asks for it because much has changed: dirty
    /// containers, workloads or deploy rows. It bounds what a storm of events costs the daemon.
    pub resync_spacing: Duration,
    /// The most containers that are remembered as dirty. Beyond it everything is listed.
    pub max_dirty: usize,
    /// The most inspections at a time.
    pub inspect_concurrency: usize,
    /// How long rows are kept whose containers are gone.
    pub retention: Duration,
    /// How far a subscription reaches back, to close the gap between "subscribed" and "really
    /// subscribed".
    pub overlap: Duration,
}

impl Default for ReconcilerSettings {
    fn default() -> Self {
        Self {
            resync_interval: Duration::from_secs(60),
            ping_interval: Duration::from_secs(2),
            ping_deadline: Duration::from_millis(2_500),
            list_deadline: Duration::from_secs(30),
            ask_deadline: Duration::from_secs(10),
            store_deadline: Duration::from_secs(10),
            backoff: (FIRST_PAUSE, Duration::from_secs(2)),
            drain_spacing: Duration::from_millis(5),
            resync_spacing: Duration::from_millis(100),
            max_dirty: 1024,
            inspect_concurrency: 8,
            retention: RETENTION,
            overlap: Duration::from_secs(10),
        }
    }
}
