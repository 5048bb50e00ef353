//! A client for Tidewatch servers, with watches that resume by themselves.
//!
//! ```no_run
//! use tidewatch_client::{Client, prefix};
//! # use tidewatch_client::{Batch, Position};
//! # fn apply(_: &Batch) {}
//! # fn save(_: Option<Position>) {}
//!
//! # async fn example(saved: Option<Position>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:7480").token_file("token").connect().await?;
//! let mut watch = client.watch(prefix("/containers/shop/")?).resume(saved).start().await?;
//! while let Ok(batch) = watch.next().await {
//!     apply(&batch);
//!     save(watch.position());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::keyspace`] gives the same [`Keyspace`] that an embedded store has, so that code which
//! reads, writes and watches does not know where the keyspace is. Beside it stand the calls that only
//! a server answers: those of the [fleet](Client::containers), its [status](Client::status) and
//! [watchers](Client::watchers), and [backups](Client::backup).
//!
//! # Recovery
//!
//! What may be done again without harm is done again, up to [`CALL_ATTEMPTS`] times and within the
//! [request timeout](ClientBuilder::request_timeout), with pauses that double up to
//! [`MAX_CALL_PAUSE`] and are drawn at random below that. Another endpoint is tried where there is one.
//!
//! | what happened | a read | a write | a running watch |
//! |---|---|---|---|
//! | no connection could be made | again, then `Unavailable` | again, then `Unavailable` | resumes |
//! | the connection broke, or no answer came in time; `UNAVAILABLE`, `CANCELLED`, `UNKNOWN`, `INTERNAL`, `ABORTED`, `DATA_LOSS`, `DEADLINE_EXCEEDED` that is not the server's own | again, then `Unavailable` | `OutcomeUnknown` at once: it may have happened | resumes |
//! | the server says `Unavailable` or `Closed` | again, then that | again, then that: it had no effect | resumes |
//! | the server says `LimitExceeded` | that | that | resumes; when it starts: that |
//! | the server says `Compacted` or `KeyspaceChanged` | that | that | ends with it |
//! | an operator [cancels](Client::cancel_watcher) the watch | – | – | ends with `Canceled` |
//! | `INVALID_ARGUMENT`, `PERMISSION_DENIED`, `UNAUTHENTICATED`, `UNIMPLEMENTED`, `NOT_FOUND`, `RESOURCE_EXHAUSTED`, `OUT_OF_RANGE`, … | that | that | ends with it |
//!
//! A watch resumes after the last revision that it has delivered whole. Where a revision had arrived
//! in part it is asked for again, and what the reader has seen of it is left out. A snapshot that was
//! interrupted begins anew, which its reader sees as a second
//! [`SnapshotBegin`](BatchKind::SnapshotBegin). The pauses grow up to [`MAX_WATCH_PAUSE`]; a server
//! that is [draining](EndReason::Draining) says itself how long to wait. Unless
//! [told otherwise](ClientBuilder::give_up_after) a watch goes on trying until it is dropped;
//! [`on_reconnect`](ClientBuilder::on_reconnect) tells what it does.
//!
//! A connection whose other end is gone without a word is found by HTTP/2 pings within
//! [`DEAD_AFTER`], or [what was set](ClientBuilder::dead_after). A reader that stops reading stops the server by HTTP/2's flow control: no more than
//! [`WATCH_WINDOW_BYTES`] and one message wait here for each watch.
//!
//! # What this crate does not do
//! It keeps no cache and writes no file: saving positions is the caller's. It speaks TLS in no
//! version yet. It needs a tokio runtime.

mod admin;
mod backend;
mod builder;
mod client;
mod connection;
mod container_watch;
mod directives;
mod error;
mod failure;
mod fleet;
mod host_report;
mod reconnect;
mod resuming;
mod watch;

pub use admin::{Backup, ReconcilerStatus, ServerStatus, UpstreamStatus, WatcherPage};
pub use builder::ClientBuilder;
pub use client::Client;
pub use connection::{CALL_ATTEMPTS, DEAD_AFTER, MAX_ANSWER_BYTES, MAX_CALL_PAUSE, WATCH_WINDOW_BYTES};
pub use container_watch::{ContainerUpdate, ContainerWatch};
pub use directives::{DirectiveListing, DirectiveRejection};
pub use error::{Error, ErrorKind};
pub use fleet::{ContainerFilter, Explanation, FleetLog, LogEntry, LogQuery, Row};
pub use host_report::{HostClaim, ReportTaken};
pub use reconnect::{MAX_WATCH_PAUSE, Reconnect};

pub use tidewatch_core::watch::{WatchId, WatcherState};
pub use tidewatch_core::{
    Batch, BatchKind, EndReason, Ended, Event, EventKind, KeyRange, KeyValue, Keyspace, Position, Revision,
    Watch, key, prefix, range,
};
pub use tidewatch_proto::WatcherStatus;
