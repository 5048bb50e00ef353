//! How long things may take, and why so long.
//!
//! The promise is that a member which stops answering costs at most [`STALE_AT_MOST`] while another one answers: the longest
//! silence before a question, the time for its answer, the longest first pause, and a whole dial that finds the next member
//! stopped too, fit into it.

use std::time::Duration;

/// After this long without a sign that what was delivered is all there is, etcd is asked. HTTP/2 pings alone would be too slow:
/// etcd ends connections that ping more often than every 5 s.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(1500);

/// How long etcd may take to answer such a question, to accept a watch, or to answer a small read. Reads that go through the
/// cluster take milliseconds; a second is a member in trouble.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a member that answers by itself may take to answer for the cluster: an election takes one to two seconds, and the
/// watch of a follower lives through it.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(2500);

/// How long a connection may take, with TLS and the first answer.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may take when a password is shown: etcd spends about a tenth of a second of one core on each, one
/// after the other, and many may come at once.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one page of a list may take: it may be tens of megabytes.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause before another attempt is drawn below this. Long enough that hundreds who lost one member do not come
/// back in one burst, short enough to keep the promise above.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between attempts: how late the end of a long outage may be noticed.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The shortest pause after a failure that [needs a hand](crate::FailureKind::needs_a_hand). As much again is drawn on top.
pub const SLOW_PAUSE: Duration = Duration::from_secs(15);

/// A watch that has lived this long has shown that its member is well: pauses start small again.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// How often the right to read is checked. etcd looks at it when a watch is made and never again, so a watch outlives the
/// role that allowed it.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How often a watch that is being filled in on history is asked whether it has caught up: etcd looks after such watches
/// every 100 ms, and newer versions leave the question unanswered until they have.
pub const CATCH_UP_INTERVAL: Duration = Duration::from_millis(100);

/// A watch that is being filled in and has had nothing to say for this long is given up for a new list: etcd goes through a
/// long history of other keys at some ten thousand revisions a second at best.
pub const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a watch of several keys that is being filled in by an older etcd has to have no events before it counts as caught up.
/// There an answer on the stream says nothing about that; etcd looks after such watches every 100 ms, and brings each of them at
/// least a thousand revisions further.
pub const QUIET: Duration = Duration::from_millis(500);

/// How long the state may be out of date when the serving member stops and another one answers.
pub const STALE_AT_MOST: Duration = Duration::from_secs(5);

const _: () = assert!(
    PROBE_INTERVAL.as_millis()
        + ANSWER_TIMEOUT.as_millis()
        + FIRST_PAUSE.as_millis()
        + DIAL_TIMEOUT.as_millis()
        < STALE_AT_MOST.as_millis()
);

/// How many entries a page has at first. etcd reads a page while it holds a lock that writers need too.
pub const PAGE_ENTRIES: u32 = 500;

/// How many entries a page has at most, as in the lists of Kubernetes. etcd counts all that are left for every page, so that small
/// pages of a large keyspace cost it the square of its size; but where large values follow small ones, it puts as many of them
/// together before anybody can refuse them.
pub const MAX_PAGE_ENTRIES: u32 = 10_000;

/// How many bytes a page should have, about: the next one is larger or smaller accordingly.
pub const PAGE_BYTES: usize = 2 << 20;

/// How often a list is begun anew without a pause, when compaction or another history overtakes it.
pub const RESTARTS_AT_ONCE: u32 = 3;
