//! The client against a server that says what it is told to, over a wire that can be cut.

#![allow(clippy::unwrap_used, reason = "tests")]

mod admin;
mod call;
mod fake;
mod fleet;
mod resume;
