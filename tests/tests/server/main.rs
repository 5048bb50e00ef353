//! The server over a real loopback port, with the generated client stubs.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

mod admin;
mod agent;
mod api;
mod data_dir;
mod directives;
mod drain;
mod fleet;
mod http;
mod keyspace;
mod misuse;
mod origin;
mod prometheus;
mod rig;
mod start;
mod watch;
mod watchers;
