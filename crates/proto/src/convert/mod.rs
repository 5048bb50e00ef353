//! Between the types of `tidewatch-core` and messages.
//!
//! A request that makes no sense is an [`Error`](tidewatch_core::Error) for its sender; an answer
//! that makes none is [`Malformed`].

mod key;
mod lease;
mod request;
mod response;
mod status;

pub(crate) use self::key::{event, millis};
pub(crate) use self::request::known;
pub use self::request::{MAX_TXN_DEPTH, txn_depth};
pub use self::response::header;

use std::fmt;

/// What a server sent makes no sense: it is of another version, or no Tidewatch server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's answer makes no sense: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A field that a message needs.
pub(crate) fn needed<T>(field: Option<T>, what: &'static str) -> Result<T, Malformed> {
    field.ok_or(Malformed(what))
}
