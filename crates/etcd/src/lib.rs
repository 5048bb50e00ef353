//! Lists and watches etcd without missing a change.
//!
//! The heart is the [`Machine`]: one enum says where it is, one function what it does next, and it does nothing itself. A
//! [`Feed`] runs it with a transport and a clock and yields what a range of etcd is made of: a snapshot at one revision, then
//! every revision after it, whole, in order, once. [`EtcdDirectiveStore`] follows the directives under a key with it:
//!
//! ```no_run
//! use tidewatch_directives::{DirectiveStore, Level, Subject};
//! use tidewatch_etcd::EtcdDirectiveStore;
//!
//! # async fn example(path: &str, request_id: &str) -> Result<(), tidewatch_etcd::Error> {
//! let store = EtcdDirectiveStore::builder(["etcd-1:2379", "etcd-2:2379"], "/directives").last_good(path).connect().await?;
//! let mut reader = store.reader();
//! if reader.load().level(&Subject::new().component("http"), request_id) >= Level::Debug { /* … */ }
//! # Ok(())
//! # }
//! ```
//!
//! [`EtcdBackend`] is a whole keyspace in etcd, with everything of it in memory: one watch feeds any number of watches.
//!
//! # Recovery
//!
//! | what happened | what comes of it |
//! |---|---|
//! | a connection or a member is lost | the next member, after a pause that grows and is drawn at random; from the last revision on |
//! | a member stops without a word | it is asked after [`PROBE_INTERVAL`](machine::timing::PROBE_INTERVAL), and left when it does not answer: at most [`STALE_AT_MOST`](machine::timing::STALE_AT_MOST) if another one does |
//! | an election | nothing, if it ends within [`ELECTION_TIMEOUT`](machine::timing::ELECTION_TIMEOUT) |
//! | history was compacted past us | a snapshot under the same [`Identity`]; [`Mirror`] tells it as what changed |
//! | the cluster was wiped, restored, or is another one | a snapshot under another [`Identity`] |
//! | a message is larger than [`MAX_MESSAGE_BYTES`](client::MAX_MESSAGE_BYTES), or the watch does not catch up | a snapshot |
//! | the right to read is gone | an interruption; the next attempt after [`SLOW_PAUSE`](machine::timing::SLOW_PAUSE) or more |
//! | a token has expired | another one |
//!
//! Whether all is well is public: [`Feed::health`] has the [`Phase`] and the moment for which what was delivered is known to be all.
//! etcd's reports of progress are believed from [the versions on](Version::tells_progress_truly) that got them right; others
//! answer a small linearizable read beside them.
//!
//! # Limits
//! A cluster that was set up again in the same way has the same id. It is told from the one before it by a revision or a term
//! that goes back, or by the last change that was delivered, which is not in its history. One that agrees in all three is taken for
//! the one before it.
//!
//! # What this crate does not do
//! It compacts nothing unless it is asked to, and grants no rights; a reader writes nothing. It needs a tokio runtime; etcd-client needs `protoc` to be
//! built, which `cargo xtask` brings.

pub mod backend;
pub mod calls;
pub mod client;
pub mod delivery;
pub mod error;
pub mod failure;
pub mod feed;
pub mod header;
pub mod machine;
pub mod mirror;
pub mod phase;
mod start;
pub mod store;
pub mod transport;
pub mod version;

pub use backend::{EtcdBackend, EtcdBackendBuilder, UpstreamStatus};
pub use client::{Access, EtcdTransport, Tls};
pub use delivery::{Delivery, SnapshotReason};
pub use error::Error;
pub use failure::{Failure, FailureKind};
pub use feed::{Feed, Health, HealthReader, Update};
pub use header::{Header, Identity};
pub use machine::{Machine, Selection};
pub use mirror::{Change, Mirror};
pub use phase::Phase;
pub use store::{EtcdDirectiveStore, EtcdDirectiveStoreBuilder};
pub use version::Version;
