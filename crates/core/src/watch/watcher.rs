//! A watcher, as operators see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use super::topic::Topic;
use super::{View, WatchId};
use crate::key::KeyRange;
use crate::revision::Revision;

/// What a watcher is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatcherState {
    /// It has not begun to read.
    Starting,
    /// It reads its snapshot.
    Snapshot,
    /// It has fallen behind, or begun in the past, and reads the history.
    Lagging,
    /// It gets events as they are committed.
    Synced,
}

impl WatcherState {
    /// Its name in metrics and wire forms, for instance `synced`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Snapshot => "snapshot",
            Self::Lagging => "lagging",
            Self::Synced => "synced",
        }
    }
}

/// A watcher and how far it is.
#[derive(Clone, Debug)]
pub struct WatcherInfo {
    /// The watch's name.
    pub id: WatchId,
    /// The keys, in order and without ranges that others cover.
    pub ranges: Vec<KeyRange>,
    /// Which parts of the events.
    pub view: View,
    /// For whom it is, as its [request](super::WatchRequest::label) said.
    pub label: Option<Arc<str>>,
    /// When it was registered.
    pub since: SystemTime,
    /// What it is doing.
    pub state: WatcherState,
    /// Whether an operator has ended it, and its reader has not noticed yet.
    pub canceled: bool,
    /// Everything that matches up to here was handed to its reader, who may not have looked at the last
    /// 256 batches of it yet. Ahead of the keyspace if it begins in the future. While a snapshot is
    /// under way, the revision of the snapshot.
    pub position: Revision,
    /// How many revisions the keyspace is ahead of that.
    pub lag_revisions: u64,
    /// The bytes of the records between the two, whether they match or not.
    pub pending_bytes: u64,
    /// When the first of those was committed.
    pub pending_since: Option<SystemTime>,
}

/// What a reader shares with its registry.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: WatchId,
    pub(super) topic: Arc<Topic>,
    pub(super) view: View,
    pub(super) label: Option<Arc<str>>,
    pub(super) since: SystemTime,
    /// Whether it has a place among those who are [admitted](super::WatchRequest::internal).
    pub(super) is_counted: bool,
    /// What the reader has. Only the reader writes these, and nothing is ordered by them.
    position: AtomicU64,
    state: AtomicU8,
    /// Set by operators, read by the reader.
    canceled: AtomicBool,
}

impl Watcher {
    pub(super) fn new(
        id: WatchId,
        topic: Arc<Topic>,
        view: View,
        label: Option<Arc<str>>,
        since: SystemTime,
        is_counted: bool,
    ) -> Self {
        Self {
            id,
            topic,
            view,
            label,
            since,
            is_counted,
            position: AtomicU64::new(0),
            state: AtomicU8::new(0),
            canceled: AtomicBool::new(false),
        }
    }

    pub(super) fn set_position(&self, position: Revision) {
        self.position.store(position.0, Ordering::Relaxed);
    }

    pub(super) fn position(&self) -> Revision {
        Revision(self.position.load(Ordering::Relaxed))
    }

    /// Returns what it was before.
    pub(super) fn set_state(&self, state: WatcherState) -> WatcherState {
        STATES[usize::from(self.state.swap(state as u8, Ordering::Relaxed))]
    }

    pub(super) fn state(&self) -> WatcherState {
        STATES[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// Has the reader end the watch when it next looks; the caller wakes it.
    pub(super) fn cancel(&self) {
        self.canceled.store(true, Ordering::Release);
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}

/// In the order of their numbers.
const STATES: [WatcherState; 4] = [
    WatcherState::Starting,
    WatcherState::Snapshot,
    WatcherState::Lagging,
    WatcherState::Synced,
];
