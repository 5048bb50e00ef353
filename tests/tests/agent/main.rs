//! Reconcilers that are away from their keyspace: claims, pauses, and what is told of them meanwhile.

#![expect(clippy::unwrap_used, reason = "the helpers are tests too")]

mod engine;
mod failover;
mod fence;
mod idle;
mod log;
mod outage;
mod pausable;
mod program;
#[path = "../client/rig.rs"]
#[allow(dead_code, reason = "it has what tests of the client need too")]
mod rig;
