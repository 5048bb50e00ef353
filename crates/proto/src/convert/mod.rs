//! Between the types of `tidewatch-core` and messages.
//!
//! A request that makes no sense is an [`Error`](tidewatch_core::Error) for its sender; an answer
//! that makes none is [`Malformed`].

mod key;
mod lease;
mod request;
mod response;
mod status;
mod watcher;

pub(crate) use self::key::{event, millis};
pub(crate) use self::request::known;
pub use self::request::{MAX_TXN_DEPTH, txn_depth};
pub use self::response::header;
pub use self::watcher::{WatcherStatus, watcher};

use std::fmt;

use bytes::Bytes;

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

/// Below this size the bytes of a request are copied out of it. Decoded bytes are slices of the buffer
/// the message arrived in, at least 8 KiB of it; a keyspace that kept them would keep that too, for
/// each key and value. A message beyond this is a buffer of its own, nearly filled by what it carries.
const DETACH_BELOW: usize = 32 * 1024;

/// The same bytes, fit to be kept for long: without the buffer of the message they came in, if that holds
/// much else.
pub fn detached(bytes: Bytes) -> Bytes {
    if bytes.len() < DETACH_BELOW {
        Bytes::copy_from_slice(&bytes)
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use tidewatch_core::txn::PutRequest;

    use crate::v1;

    #[test]
    fn what_is_kept_of_a_request_does_not_keep_the_request() {
        let put = v1::PutRequest {
            key: Bytes::from_static(b"/a"),
            value: Bytes::from_static(b"value"),
            ..v1::PutRequest::default()
        };
        let wire = Bytes::from(put.encode_to_vec());
        let decoded = v1::PutRequest::decode(wire.clone()).expect("it was encoded just now");
        let kept = PutRequest::from(decoded);
        assert_eq!((&kept.key[..], &kept.value[..]), (&b"/a"[..], &b"value"[..]));
        assert!(wire.is_unique(), "nothing refers to the buffer any more");
    }
}
