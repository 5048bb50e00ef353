//! The settings of an embedded keyspace.

use std::time::Duration;

/// How much of the past is kept. Whatever bound is reached first makes the keyspace compact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryWindow {
    /// The most revisions. None: no bound.
    pub max_revisions: Option<u64>,
    /// The most bytes of keys and values, previous values included.
    pub max_bytes: u64,
    /// The greatest age.
    pub max_age: Duration,
}

impl Default for HistoryWindow {
    /// Seven days or 1 GiB.
    fn default() -> Self {
        Self {
            max_revisions: None,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// The bounds of the watch plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// How many batches a watcher may fall behind before it is lagging.
    pub room: usize,
    /// The most watchers at a time.
    pub max_watchers: usize,
    /// How long events may be held back from readers that
    /// [coalesce](crate::watch::WatchRequest::coalesce) them. Zero: not at all.
    pub max_batch_delay: Duration,
}

impl Default for WatchSettings {
    /// Room for 1024 batches and for a million watchers; 5 ms.
    fn default() -> Self {
        Self {
            room: 1024,
            max_watchers: 1_000_000,
            max_batch_delay: Duration::from_millis(5),
        }
    }
}

/// The settings of an embedded keyspace, apart from its journal and clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much of the past is kept.
    pub history: HistoryWindow,
    /// The most bytes of keys and values, without history. Beyond it writes fail with
    /// [`Error::NoSpace`](crate::Error::NoSpace).
    pub quota_bytes: u64,
    /// The bounds of the watch plane.
    pub watch: WatchSettings,
}

impl Default for Settings {
    /// The defaults of the parts, and a quota of 2 GiB, as in etcd.
    fn default() -> Self {
        Self {
            history: HistoryWindow::default(),
            quota_bytes: 2 << 30,
            watch: WatchSettings::default(),
        }
    }
}
