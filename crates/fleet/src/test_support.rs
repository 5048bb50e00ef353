//! What the unit tests of this crate build their cases from.

mod overtaken;

use tidewatch_core::{KeyValue, Revision};

pub(crate) use overtaken::overtaken_after;

pub(crate) fn kv(key: &str, value: &str, revision: u64) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        lease: None,
    }
}
