//! Watching keys: what is asked for, what arrives, and how it ends.
//!
//! A [`Watch`] is told a boundary revision when it starts and from then on misses nothing that
//! matches: it gets every later event in order, exactly once, each revision whole, or it ends and
//! says why and where to go on. The promises are spelled out, one by one, in
//! [`check`](crate::check).

mod batch;
mod dispatcher;
mod ended;
mod handle;
mod range_index;
mod reader;
mod registry;
mod request;
mod selection;
mod stream;
mod topic;

pub use batch::{Batch, BatchKind, EventRef, Events, Prev, View};
pub use dispatcher::WatchDispatcher;
pub use ended::{EndReason, Ended};
pub use handle::{WatcherHandle, WatcherOptions};
pub use registry::WatchRegistry;
pub use request::{OnOverflow, Start, WatchBuilder, WatchRequest};
pub use stream::{Watch, WatchId, WatchSource};
