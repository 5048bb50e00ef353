//! Rows of the fleet as JSON lines.

use serde::ser::{Serialize, Serializer};
use tidewatch_client::Row;

/// A row with every field it has, known or not, and its `key` and `mod_revision`; a container without a row has neither.
pub(crate) struct Line<'a>(pub(crate) &'a Row);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row) = self;
        let line = tidewatch_fleet::Line {
            key: &row.key,
            mod_revision: row.mod_revision,
            fields: &row.fields,
        };
        line.serialize(serializer)
    }
}

/// The last part of a key.
pub(crate) fn name_in(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
