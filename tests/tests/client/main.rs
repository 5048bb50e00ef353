//! The client against the real server.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

mod conformance;
mod crash;
mod load;
mod restart;
mod rig;
