//! Rows as JSON lines: one form for the commands and for HTTP.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tidewatch_core::Revision;

use crate::value::Extra;

/// A row with every field it has, known or not, and before them its `key` and `mod_revision`. What has no
/// row, and so no key, has neither.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its key; empty if it has none.
    pub key: &'a str,
    /// When it was last written.
    pub mod_revision: Revision,
    /// Its fields.
    pub fields: &'a Extra,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.key.is_empty() {
            map.serialize_entry("key", self.key)?;
            map.serialize_entry("mod_revision", &self.mod_revision.0)?;
        }
        let fields = self.fields.iter();
        for (name, value) in fields.filter(|(name, _)| !matches!(name.as_str(), "key" | "mod_revision")) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_key_and_has_it_once() {
        let fields = serde_json::json!({"id": "shop", "key": "theirs", "zone": 1});
        let line = Line {
            key: "/workloads/shop",
            mod_revision: Revision(7),
            fields: fields.as_object().unwrap(),
        };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"key":"/workloads/shop","mod_revision":7,"id":"shop","zone":1}"#
        );
        let without_row = Line { key: "", ..line };
        let json = serde_json::to_string(&without_row).unwrap();
        assert_eq!(json, r#"{"id":"shop","zone":1}"#);
    }
}
