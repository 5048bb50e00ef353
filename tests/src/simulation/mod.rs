//! A keyspace and everybody around it, on one thread, with time by hand and everything that is left to chance decided by
//! one seed.
//!
//! What runs is the real thing: index, leases, history, registry, dispatcher and driver. What is made up is the disk
//! (`journal.rs`: groups that fail or take time, compactions and recoveries that fail, a process that ends before a group
//! is durable or before anybody knows that it is), time (`ManualClock`), and who runs next (`executor.rs`). Writers write,
//! watchers stall, die and resume, leases expire, the keyspace is closed, drained, killed and opened again; `draw.rs` and
//! `world.rs` say how often. In the end a calm comes in which everybody must get what they wait for.
//!
//! Judged is everything: each revision as it gets durable (`truth.rs`), each answer and each read against a model
//! (`model.rs`), each watch by [`check`](tidewatch_core::check), and each watcher's whole story over all its watches
//! (`tale.rs`). The truth is what the disk has, and the disk's own replay of it; nothing is asked of what is under test.
//!
//! A seed always gives the same run: `cargo xtask sim --seed N` shows what happens in it.

mod chronicle;
mod coverage;
mod dice;
mod draw;
mod executor;
mod journal;
mod judge;
mod ledger;
mod model;
mod relay;
mod run;
mod subscriber;
mod tale;
mod truth;
mod world;
mod writer;

pub use coverage::Coverage;
pub use run::{Options, Run, STEPS, run};
