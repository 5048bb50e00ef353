//! The heart of Tidewatch: a keyspace with revisions, and watches that miss nothing.
//!
//! A [`Keyspace`] is an ordered map from keys to values in which every change has a [`Revision`].
//! It can be read at old revisions, changed by transactions, and watched: a [`Watch`] delivers
//! every change after a boundary it is told, in order, exactly once, or ends and says why.
//!
//! # What this crate does not do
//! It knows no wire format, no disk, no Docker and no etcd: those are crates that build on
//! [`Backend`] and [`Journal`]. It never spawns a task: what must run is the future that
//! [`Keyspace::driver`] returns. It reads no clock but the [`Clock`] it is given.

pub mod backend;
pub mod backoff;
pub mod check;
pub mod clock;
#[cfg(any(feature = "conformance", test, doc))]
pub mod conformance;
pub mod error;
pub mod event;
pub mod history;
pub mod journal;
pub mod key;
pub mod keyspace;
pub mod lease;
pub mod limits;
pub mod revision;
pub mod settings;
pub mod store;
mod sync;
pub mod txn;
pub mod watch;

pub use backend::{Backend, BoxFuture, Status};
pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SystemClock, Uptime};
pub use error::Error;
pub use event::{Event, EventKind, KeyValue, Record};
pub use history::{History, SnapshotReader};
pub use journal::{Journal, Recovered};
pub use key::{KeyRange, key, prefix, range};
pub use keyspace::Keyspace;
pub use lease::{LeaseGrant, LeaseId, LeaseInfo};
pub use revision::{KeyspaceId, Position, Revision};
pub use settings::{HistoryWindow, Settings, WatchSettings};
pub use store::{Embedded, KeyspaceBuilder, Listing, Replica};
pub use watch::{Batch, BatchKind, EndReason, Ended, Watch};
