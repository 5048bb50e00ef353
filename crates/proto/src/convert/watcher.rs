//! Watchers, as operators see them.

use std::time::{Duration, SystemTime};

use tidewatch_core::watch::{View, WatchId, WatcherInfo, WatcherState};
use tidewatch_core::{KeyRange, Revision};

use super::{Malformed, millis};
use crate::v1;

/// A watcher of a server, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherStatus {
    /// The watch's name.
    pub id: WatchId,
    /// The keys, in order and without ranges that others cover.
    pub ranges: Vec<KeyRange>,
    /// Which parts of the events.
    pub view: View,
    /// Who reads it, usually an address and a port. Empty: the server itself.
    pub peer: String,
    /// The number of the connection it came on, counted since the server's start.
    pub connection: Option<u64>,
    /// When it was registered.
    pub since: Option<SystemTime>,
    /// What it is doing. None: something that only a newer version knows.
    pub state: Option<WatcherState>,
    /// Whether somebody has ended it, and it has not been noticed yet: its client does not read.
    pub canceled: bool,
    /// Everything that matches up to here was delivered; ahead of the keyspace if it begins in the
    /// future.
    pub position: Revision,
    /// How many revisions the keyspace is ahead of that.
    pub lag_revisions: u64,
    /// How long ago the first of those was committed, if there is one and that is known.
    pub lag: Option<Duration>,
    /// The bytes of these revisions, whether they match or not.
    pub pending_bytes: u64,
}

/// The message that tells of a watcher at this time. Its peer and connection are its server's to say.
pub fn watcher(info: &WatcherInfo, now: SystemTime) -> v1::Watcher {
    let lag = |since| now.duration_since(since).unwrap_or_default();
    v1::Watcher {
        id: info.id.0,
        ranges: info.ranges.iter().map(Into::into).collect(),
        prev_kv: info.view.prev_kv,
        keys_only: info.view.keys_only,
        no_put: info.view.no_put,
        no_delete: info.view.no_delete,
        peer: String::new(),
        connection: 0,
        since: Some(info.since.into()),
        state: state(info.state).into(),
        canceled: info.canceled,
        position: info.position.0,
        lag_revisions: info.lag_revisions,
        lag_ms: info.pending_since.map(|since| millis(lag(since))),
        pending_bytes: info.pending_bytes,
    }
}

fn state(state: WatcherState) -> v1::WatcherState {
    match state {
        WatcherState::Starting => v1::WatcherState::Starting,
        WatcherState::Snapshot => v1::WatcherState::Snapshot,
        WatcherState::Lagging => v1::WatcherState::Lagging,
        WatcherState::Synced => v1::WatcherState::Synced,
        _ => v1::WatcherState::Unspecified,
    }
}

impl TryFrom<v1::Watcher> for WatcherStatus {
    type Error = Malformed;

    fn try_from(message: v1::Watcher) -> Result<Self, Malformed> {
        let state = match message.state() {
            v1::WatcherState::Unspecified => None,
            v1::WatcherState::Starting => Some(WatcherState::Starting),
            v1::WatcherState::Snapshot => Some(WatcherState::Snapshot),
            v1::WatcherState::Lagging => Some(WatcherState::Lagging),
            v1::WatcherState::Synced => Some(WatcherState::Synced),
        };
        let ranges = message.ranges.into_iter().map(KeyRange::try_from);
        Ok(Self {
            id: WatchId(message.id),
            ranges: ranges
                .collect::<Result<_, _>>()
                .map_err(|_| Malformed("a watcher of keys that cannot be"))?,
            view: View {
                prev_kv: message.prev_kv,
                keys_only: message.keys_only,
                no_put: message.no_put,
                no_delete: message.no_delete,
            },
            peer: message.peer,
            connection: (message.connection != 0).then_some(message.connection),
            since: message.since.and_then(|time| time.try_into().ok()),
            state,
            canceled: message.canceled,
            position: Revision(message.position),
            lag_revisions: message.lag_revisions,
            lag: message.lag_ms.map(Duration::from_millis),
            pending_bytes: message.pending_bytes,
        })
    }
}
