//! etcd's v3 API over any keyspace: every etcd client is a client of Tidewatch.
//!
//! [`EtcdApi`] is built from a [`Keyspace`](tidewatch_core::Keyspace) and adds its services to those of
//! a gRPC server. Ranges, transactions, leases, errors and watches mean what they mean with etcd; what
//! differs, and why, is listed in `docs/etcd-compatibility.md`.
//!
//! | service | what is there |
//! |---|---|
//! | `KV` | everything |
//! | `Watch` | everything |
//! | `Lease` | everything |
//! | `Maintenance` | `Status`, `Alarm` (there never is one), `Hash`, `HashKV` |
//! | `Cluster` | `MemberList` |
//! | `Auth` | `AuthStatus` (it is off) |
//!
//! Every other call is answered with UNIMPLEMENTED and a sentence that says what to do instead.
//!
//! # What this crate does not do
//! It opens no port and spawns no task; it keeps nothing that the keyspace does not. It knows neither
//! raft nor members: the one member it tells about is the server itself.

mod api;
mod auth;
mod cluster;
mod error;
mod kv;
mod lease;
mod maintenance;
mod oversized;
mod watch;

pub use api::{EtcdApi, Limits, Member};
pub use watch::{StreamHost, WatchHost};
