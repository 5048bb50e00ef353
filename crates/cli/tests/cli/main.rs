//! The command as a person and a script meet it: the real binary, and a real server behind it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod backup;
mod bad_input;
mod crash;
mod data_dir;
mod directives;
mod exec;
mod fleet;
mod follow;
mod help;
mod keyspace;
mod limit;
mod pipe;
#[expect(unreachable_pub, reason = "elsewhere it is a module of a library")]
#[path = "../../../../tests/src/port.rs"]
mod port;
mod program;
mod resume;
mod serve;
mod server;
mod wait;
mod watch;
mod watchers;
