//! Rows of the fleet as JSON lines.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tidewatch_client::Row;

/// A row with every field it has, known or not, and its `key` and `mod_revision`.
pub(crate) struct Line<'a> {
    row: &'a Row,
    more: Option<(&'static str, &'a str)>,
}

impl<'a> Line<'a> {
    /// The row as it is.
    pub(crate) fn new(row: &'a Row) -> Self {
        Self { row, more: None }
    }

    /// The row with one more field, unless it has one of that name.
    pub(crate) fn with(row: &'a Row, name: &'static str, value: &'a str) -> Self {
        let more = (!row.fields.contains_key(name)).then_some((name, value));
        Self { row, more }
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.row.key)?;
        map.serialize_entry("mod_revision", &self.row.mod_revision.0)?;
        if let Some((name, value)) = self.more {
            map.serialize_entry(name, value)?;
        }
        let fields = self.row.fields.iter();
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
