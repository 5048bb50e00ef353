//! The command as a person and a script meet it: the real binary, and a real server behind it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod backup;
mod bad_input;
mod crash;
mod data_dir;
mod exec;
mod fleet;
mod help;
mod keyspace;
mod pipe;
mod program;
mod resume;
mod serve;
mod server;
mod watch;
