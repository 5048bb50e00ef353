//! The server over a real loopback port, with the generated client stubs.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

mod admin;
mod data_dir;
mod drain;
mod fleet;
mod http;
mod keyspace;
mod rig;
mod start;
mod watch;
