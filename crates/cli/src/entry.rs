//! Entries of the keyspace as JSON and as text.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tidewatch_core::{KeyValue, LeaseId};

/// An entry as `get` and `ls` print it.
pub(crate) struct Entry<'a>(pub(crate) &'a KeyValue);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kv = self.0;
        let mut map = serializer.serialize_map(None)?;
        bytes_field(&mut map, KEY, &kv.key)?;
        bytes_field(&mut map, VALUE, &kv.value)?;
        map.serialize_entry("create_revision", &kv.create_revision.0)?;
        map.serialize_entry("mod_revision", &kv.mod_revision.0)?;
        map.serialize_entry("version", &kv.version)?;
        map.serialize_entry("lease", &lease(kv.lease))?;
        map.end()
    }
}

/// A field of bytes has two names: one for text, one for everything else in base64.
pub(crate) type Names = [&'static str; 2];

pub(crate) const KEY: Names = ["key", "key_base64"];
pub(crate) const VALUE: Names = ["value", "value_base64"];
pub(crate) const PREV_VALUE: Names = ["prev_value", "prev_value_base64"];

/// Writes bytes as text where they are UTF-8, else in base64 under the second name.
pub(crate) fn bytes_field<M: SerializeMap>(
    map: &mut M,
    [text_name, base64_name]: Names,
    bytes: &[u8],
) -> Result<(), M::Error> {
    match str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(text_name, text),
        Err(_) => map.serialize_entry(base64_name, &STANDARD.encode(bytes)),
    }
}

/// A lease as a number, as etcd writes it; 0 is none.
pub(crate) fn lease(lease: Option<LeaseId>) -> i64 {
    lease.map_or(0, |id| id.0)
}

/// A point in time as RFC 3339 with milliseconds, in UTC.
pub(crate) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A key as text: what is not ASCII text is escaped, but letters of all languages stay.
pub(crate) fn key_text(key: &Bytes) -> String {
    line_of(key)
}

/// The longest preview of a value, in characters: fits a terminal beside a key.
const PREVIEW_CHARS: usize = 72;

/// The beginning of a value, on one line.
pub(crate) fn preview(value: &[u8]) -> String {
    // Four bytes make a character at most; there is no need to look at the rest of a large value.
    let beginning = &value[..value.len().min(4 * (PREVIEW_CHARS + 1))];
    let mut text: String = line_of(beginning);
    if let Some((end, _)) = text.char_indices().nth(PREVIEW_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Bytes as text on one line: control characters and bytes that are not UTF-8 are escaped, so that
/// nothing that was stored can steer a terminal.
pub(crate) fn line_of(bytes: &[u8]) -> String {
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        line.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    line
}

#[cfg(test)]
mod tests {
    use tidewatch_core::Revision;

    use super::*;

    fn entry(value: &'static [u8], lease: Option<LeaseId>) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"/k"),
            value: Bytes::from_static(value),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            lease,
        }
    }

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        let text = serde_json::to_string(&Entry(&entry("grün".as_bytes(), None))).unwrap();
        assert_eq!(
            text,
            r#"{"key":"/k","value":"grün","create_revision":2,"mod_revision":3,"version":2,"lease":0}"#
        );
        let bytes = serde_json::to_string(&Entry(&entry(b"\xff\x00", Some(LeaseId(7))))).unwrap();
        assert_eq!(
            bytes,
            r#"{"key":"/k","value_base64":"/wA=","create_revision":2,"mod_revision":3,"version":2,"lease":7}"#
        );
    }

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(preview(b"a\nb\x1b[2J\xff"), r"a\nb\u{1b}[2J\xff");
        assert_eq!(preview("é".repeat(80).as_bytes()), format!("{}…", "é".repeat(72)));
        assert_eq!(preview("é".repeat(72).as_bytes()), "é".repeat(72));
    }
}
