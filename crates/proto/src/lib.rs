//! The wire forms of Tidewatch: the `.proto` files, the code generated from them, and conversions.
//!
//! Messages and services are in [`v1`]; `cargo xtask codegen` makes them from `crates/proto/proto`.
//!
//! # What this crate does not do
//! It opens no connection and serves none: `tidewatch-client` and `tidewatch-server` do.

mod generated;

pub use generated::FILE_DESCRIPTOR_SET;
pub use generated::tidewatch::v1;
