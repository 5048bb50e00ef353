//! Watching keys: what is asked for, what arrives, and how it ends.
//!
//! A [`Watch`] is told a boundary revision when it starts and from then on misses nothing that
//! matches: it gets every later event in order, exactly once, each revision whole, or it ends and
//! says why and where to go on. The promises are spelled out, one by one, in
//! [`check`](crate::check).

mod admission;
mod archive;
mod batch;
mod canceler;
mod dispatcher;
mod ended;
mod event_ref;
mod handle;
mod handover;
mod range_index;
mod reader;
mod registry;
mod request;
mod ring;
mod run;
mod selection;
mod stream;
mod topic;
mod waiting;
mod watcher;

pub use archive::{Archive, ArchiveReader};
pub use batch::{Batch, BatchKind, View};
pub use dispatcher::WatchDispatcher;
pub use ended::{EndReason, Ended};
pub use event_ref::{EventRef, Iter, Prev};
pub use handle::{WatcherHandle, WatcherOptions};
pub use registry::WatchRegistry;
pub use request::{OnOverflow, Start, WatchBuilder, WatchRequest};
pub use run::{Batches, Delivery, WireForm};
pub use stream::{Watch, WatchId, WatchSource};
pub use watcher::{WatcherInfo, WatcherState};
