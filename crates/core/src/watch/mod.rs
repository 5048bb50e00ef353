//! Watching keys: what is asked for, what arrives, and how it ends.
//!
//! A [`Watch`] is told a boundary revision when it starts and from then on misses nothing that
//! matches: it gets every later event in order, exactly once, each revision whole, or it ends and
//! says why and where to go on. The promises are spelled out, one by one, in
//! [`check`](crate::check).

mod batch;
mod ended;
mod request;
mod stream;

pub use batch::{Batch, BatchKind, EventRef, Events, Prev, View};
pub use ended::{EndReason, Ended};
pub use request::{OnOverflow, Start, WatchBuilder, WatchRequest};
pub use stream::{Watch, WatchId, WatchSource};
