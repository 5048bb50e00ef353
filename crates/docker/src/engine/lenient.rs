//! Decoding what may be other than expected.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A field that counts as absent when it is not what it should be.
///
/// The words and shapes of Docker's API grow with every version, and those who imitate it take liberties. One field
/// that cannot be understood must not cost the container it belongs to, let alone all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

impl<T: Default> Lenient<T> {
    pub(super) fn or_default(self) -> T {
        self.0.unwrap_or_default()
    }
}

/// A list of which each element counts for itself.
#[derive(Clone, Debug)]
pub(super) struct LenientVec<T>(pub(super) Vec<T>);

impl<T> Default for LenientVec<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LenientVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Lenient::<Vec<Lenient<T>>>::deserialize(deserializer)?.or_default();
        Ok(Self(
            elements.into_iter().filter_map(|element| element.0).collect(),
        ))
    }
}
