//! The wire forms of Tidewatch: the `.proto` files, the code generated from them, and conversions.
//!
//! Messages and services are in [`v1`]; `cargo xtask codegen` makes them from `crates/proto/proto`.
//! Requests and answers convert with `From` where nothing can go wrong and with `TryFrom` where
//! somebody else made the message; nothing that arrives makes this crate panic or recurse without
//! bound. Watches have functions of their own, in [`watch`]. Errors are in [`error`].
//!
//! With the feature `etcd` there are the messages and services of etcd's v3 API too, in `etcdserverpb`
//! and `mvccpb`; their meaning is in `tidewatch-etcd-api`.
//!
//! # What this crate does not do
//! It opens no connection and serves none: `tidewatch-client` and `tidewatch-server` do.

mod convert;
pub mod error;
mod generated;
mod prepared;
pub mod watch;

pub use convert::{MAX_TXN_DEPTH, Malformed, WatcherStatus, detached, header, txn_depth, watcher};
pub use generated::FILE_DESCRIPTOR_SET;
pub use generated::tidewatch::v1;
#[cfg(feature = "etcd")]
pub use generated::{authpb, etcdserverpb, mvccpb};
pub use prepared::{Prepared, PreparedCodec, PreparedEncoder};
