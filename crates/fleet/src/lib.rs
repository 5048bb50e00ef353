//! The fleet: workloads, containers and hosts as keys of a keyspace.
//!
//! # What this crate does not do
//! It talks to no Docker and opens no port. It says what the keys and values of a fleet look like,
//! how the halves that different writers own are put together, and what follows from them.

pub mod state;

pub use state::{Health, State};
