//! The wire forms of Tidewatch: the `.proto` files, the code generated from them, and conversions.
//!
//! Messages and services are in [`v1`]; `cargo xtask codegen` makes them from `crates/proto/proto`.
//! Requests and answers convert with `From` where nothing can go wrong and with `TryFrom` where
//! somebody else made the message; nothing that arrives makes this crate panic or recurse without
//! bound. Watches have functions of their own, in [`watch`]. Errors are in [`error`].
//!
//! # What this crate does not do
//! It opens no connection and serves none: `tidewatch-client` and `tidewatch-server` do.

mod convert;
pub mod error;
mod generated;
pub mod watch;

pub use convert::{MAX_TXN_DEPTH, Malformed, header, txn_depth};
pub use generated::FILE_DESCRIPTOR_SET;
pub use generated::tidewatch::v1;
