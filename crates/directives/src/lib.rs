//! Directives: temporary, fleet-wide verbosity and switches.
//!
//! Somebody publishes a set once, as JSON under one key; every process has it as a lock-free snapshot a
//! moment later, keeps it while the control plane is away, and drops each directive when its time is
//! over. A [`DirectiveStore`] follows the key; a [`Reader`] asks what applies to a [`Subject`]:
//!
//! ```
//! use tidewatch_directives::{DirectiveStore, Level, MemoryDirectiveStore, Subject};
//! # use tidewatch_core::SystemClock;
//!
//! let store = MemoryDirectiveStore::new(SystemClock::shared());
//! let mut reader = store.reader();
//! # let request_id = "request-1";
//! if reader.load().level(&Subject::new().component("http"), request_id) >= Level::Debug { /* … */ }
//! ```
//!
//! # What holds
//! - There is one way in, [`DirectiveSet::decode`], and it is fail-closed: what is not entirely right is
//!   rejected as a whole, with a stable [`Reason`] and the path of the field.
//! - A life counts from the publish, and ends at the earlier of its time on the wall clock and a deadline
//!   on a clock that never jumps, fixed at first sight: no reconnect, restart, re-read or clock jump
//!   makes it longer.
//! - A malformed publish changes nothing but the [`Status`]; a missing key is the empty set.
//! - Asking takes no lock and allocates nothing.
//!
//! The vectors in `vectors/*.json` say the same about matching, sampling and decoding in a form for
//! programs in any language; `docs/directives.md` explains them.
//!
//! # What this crate does not do
//! It opens no connection: the stores over a [`Keyspace`](tidewatch_core::Keyspace) and over etcd feed an
//! [`Applier`]. It does not log what a directive asks for; that is up to the program.

pub mod applier;
mod decode;
pub mod directive;
pub mod error;
mod json;
pub mod keyspace_store;
pub mod last_good;
pub mod level;
pub mod limits;
pub mod listing;
pub mod memory;
pub mod node;
mod path;
pub mod publisher;
pub mod reason;
mod rfc3339;
pub mod sample;
mod sight;
pub mod snapshot;
mod stamper;
pub mod status;
pub mod store;
pub mod subject;

pub use applier::{Applier, Outcome};
pub use directive::{Directive, DirectiveSet, Life, Match};
pub use error::Error;
pub use keyspace_store::KeyspaceDirectiveStore;
pub use last_good::FileError;
pub use level::Level;
pub use listing::{Answer, Shown};
pub use memory::MemoryDirectiveStore;
pub use node::{NODES, NodeReport, node_key};
pub use publisher::{KEY, Published, Publisher, Stored};
pub use reason::{Reason, Rejection};
pub use snapshot::{Effective, InForce, Origin, Snapshot};
pub use status::{Connection, RejectedSet, Status};
pub use store::{Changes, DirectiveStore, Handle, Reader, Stopped};
pub use subject::{Attribute, Subject};
