//! Tidewatch beside the systems it compares itself with, in one run on one machine.
//!
//! `cargo xtask bench-peers` builds and runs this; a package of its own keeps the peers' dependencies out of
//! everything else. Each file in [`bench`] is one measurement, and its documentation is the method: what is measured,
//! how, and why that is fair. Each file in [`contender`] makes one system fit [`Fanout`](contender::Fanout).
//!
//! What holds for all of them:
//! - **The public API** is measured, ours and theirs: whatever a program that depends on the crate could write.
//! - **Two worker threads**, no more, and everything that is timed runs on them.
//! - **Keys and values are owned**: each published key is an allocation of its own, as one that came in a request is.
//! - **Consumers read**: each event is received as something that the consumer owns and may keep, and the whole of its
//!   value is read into a checksum that the bench then demands.
//! - **Alternating repetitions**: ours, theirs, ours, theirs, each in a new runtime, at least five of each. What is
//!   reported are medians; a disturbance of the machine meets both sides.
//! - **Ratios** above 1 speak for Tidewatch. Whether one holds what was promised is shown and never an exit code.
//!
//! This package measures and judges nothing else; that events are complete and in order is what the tests of
//! `tidewatch-core` are about.

pub mod alternate;
pub mod bench;
pub mod contender;
pub mod crowd;
pub mod driver;
pub mod payload;
pub mod process;
pub mod row;
pub mod server;
pub mod two_workers;
