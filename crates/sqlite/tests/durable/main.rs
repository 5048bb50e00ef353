//! The promises of the durable journal, checked from outside: with crashes, traced syncs, full disks
//! and broken files.

#![expect(
    clippy::unwrap_used,
    reason = "clippy sees that these are tests only where the attribute is"
)]

mod backup;
mod child;
mod compaction;
mod conformance;
mod crash;
mod durability;
mod full_disk;
mod model;
mod recovery;
mod refusal;
