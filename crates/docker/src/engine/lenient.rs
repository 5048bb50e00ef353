//! Decoding what may be other than expected.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How a field is read that is not what it should be: it counts as absent. That takes a second pass over the text.
pub(super) const LENIENT: bool = false;

/// How a field is read that is not what it should be: it is an error.
pub(super) const STRICT: bool = true;

/// A field that counts as absent when it is not what it should be, unless it is read strictly.
///
/// The words and shapes of Docker's API grow with every version, and those who imitate it take liberties. One field
/// that cannot be understood must not cost the container it belongs to, let alone all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lenient<T, const HOW: bool = LENIENT>(pub(super) Option<T>);

impl<T, const HOW: bool> Default for Lenient<T, HOW> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>, const HOW: bool> Deserialize<'de> for Lenient<T, HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if HOW == STRICT {
            return Option::deserialize(deserializer).map(Self);
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

impl<T: Default, const HOW: bool> Lenient<T, HOW> {
    pub(super) fn or_default(self) -> T {
        self.0.unwrap_or_default()
    }
}

/// A list of which each element counts for itself.
#[derive(Clone, Debug)]
pub(super) struct LenientVec<T, const HOW: bool = LENIENT>(pub(super) Vec<T>);

impl<T, const HOW: bool> Default for LenientVec<T, HOW> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const HOW: bool> Deserialize<'de> for LenientVec<T, HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Lenient::<Vec<Lenient<T, HOW>>, HOW>::deserialize(deserializer)?.or_default();
        Ok(Self(
            elements.into_iter().filter_map(|element| element.0).collect(),
        ))
    }
}
