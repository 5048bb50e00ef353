//! Values as bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::key::FleetKey;

/// Fields of a JSON object that nobody here knows. They survive every rewrite.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// Reads the value of a key.
///
/// # Errors
/// [`Error::InvalidValue`], which says where and what.
pub fn decode<T: DeserializeOwned>(key: &FleetKey, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::InvalidValue {
        key: key.to_string(),
        reason: error.to_string(),
    })
}

/// Makes a value: JSON without spaces.
#[expect(
    clippy::missing_panics_doc,
    reason = "the types of this crate always have a JSON form"
)]
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("the types of this crate have text keys and no failing parts")
        .into()
}
