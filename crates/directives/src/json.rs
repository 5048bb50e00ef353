//! JSON as it was written, with the keys that occur twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::reason::{Reason, Rejection};

/// A piece of JSON.
pub(crate) enum Json {
    Null,
    Bool,
    /// A number that is whole and not negative.
    Whole(u64),
    /// Any other number.
    Number,
    Text(String),
    Array(Vec<Self>),
    /// In the order they were written, with all that occur.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Reads a text. How deep it may be nested and how large a number may be is limited by `serde_json`, its size by the
    /// caller.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Rejection> {
        serde_json::from_slice(text).map_err(|error| {
            // Its own words may repeat what was written.
            let place = format!("line {} column {}", error.line(), error.column());
            Rejection::new(Reason::InvalidJson, place)
        })
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            found.push(item);
        }
        Ok(Json::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Json::Object(found))
    }
}
