//! Rows of the fleet as JSON lines.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tidewatch_client::Row;

/// A row with every field it has, known or not, and its `key` and `mod_revision`; a container without a row has neither.
pub(crate) struct Line<'a>(pub(crate) &'a Row);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row) = self;
        let mut map = serializer.serialize_map(None)?;
        if !row.key.is_empty() {
            map.serialize_entry("key", &row.key)?;
            map.serialize_entry("mod_revision", &row.mod_revision.0)?;
        }
        let fields = row.fields.iter();
        for (name, value) in fields.filter(|(name, _)| !matches!(name.as_str(), "key" | "mod_revision")) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The last part of a key.
pub(crate) fn name_in(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
