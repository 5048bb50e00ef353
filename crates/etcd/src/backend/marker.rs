//! The key that says which keyspace a namespace is.

use bytes::Bytes;
use serde_json::Value;
use tidewatch_core::{KeyspaceId, Revision};

use super::namespace::Namespace;
use crate::header::mix;

/// How every marker begins, so that other values need not be read as JSON.
const BEGIN: &[u8] = br#"{"tidewatch_namespace":"#;

/// The form that is written.
const VERSION: u64 = 1;

/// What is in a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The prefix of the namespace, as text.
    pub(crate) namespace: String,
    /// The random number that was drawn when the namespace was first used, or found to be another keyspace.
    pub(crate) id: u64,
}

/// A value that is no marker, where there should be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMarker {
    /// Somebody else's.
    Foreign,
    /// One of a later version of ours.
    Newer(u64),
}

/// A marker, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) marker: Marker,
    pub(crate) written: Revision,
}

impl Marker {
    /// A marker that nobody else has.
    pub(crate) fn fresh(namespace: &Namespace) -> Self {
        Self::with_id(namespace, KeyspaceId::random().0)
    }

    pub(crate) fn with_id(namespace: &Namespace, id: u64) -> Self {
        Self {
            namespace: namespace.shown(),
            id,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let namespace = Value::from(self.namespace.as_str());
        let id = KeyspaceId(self.id);
        format!(r#"{{"tidewatch_namespace":{namespace},"keyspace":"{id}","version":{VERSION}}}"#).into()
    }

    /// # Errors
    /// It is none, or one that this version does not understand.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, NoMarker> {
        if !value.starts_with(BEGIN) {
            return Err(NoMarker::Foreign);
        }
        let json: Value = serde_json::from_slice(value).map_err(|_| NoMarker::Foreign)?;
        let version = json["version"].as_u64().ok_or(NoMarker::Foreign)?;
        if version > VERSION {
            return Err(NoMarker::Newer(version));
        }
        let namespace = json["tidewatch_namespace"].as_str().ok_or(NoMarker::Foreign)?;
        let id: KeyspaceId = json["keyspace"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or(NoMarker::Foreign)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            id: id.0,
        })
    }

    /// The keyspace in this cluster.
    pub(crate) fn keyspace(&self, cluster: u64) -> KeyspaceId {
        KeyspaceId(mix(self.id, cluster).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let namespace = Namespace::new(b"/fleet \"\xff/".as_slice()).unwrap();
        let marker = Marker::fresh(&namespace);
        assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
    }

    #[test]
    fn what_others_wrote_is_no_marker_and_a_newer_one_is_told_apart() {
        for value in [
            "",
            "{}",
            "1",
            r#"{"tidewatch_namespace":"/a/"}"#,
            r#"{"tidewatch_namespace":"#,
        ] {
            assert_eq!(
                Marker::decode(value.as_bytes()),
                Err(NoMarker::Foreign),
                "{value}"
            );
        }
        let newer = br#"{"tidewatch_namespace":"/a/","something":{},"version":2}"#;
        assert_eq!(Marker::decode(newer), Err(NoMarker::Newer(2)));
    }

    #[test]
    fn the_same_marker_in_another_cluster_is_another_keyspace() {
        let marker = Marker::fresh(&Namespace::new("").unwrap());
        assert_ne!(marker.keyspace(7), marker.keyspace(8));
    }
}
