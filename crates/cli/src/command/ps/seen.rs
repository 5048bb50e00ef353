//! What `ps --watch` has told, so that it tells each change once.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_client::{ContainerUpdate, Row};
use tidewatch_core::Revision;

/// The rows as they were last told. As large as the fleet.
#[derive(Default)]
pub(super) struct Seen {
    rows: BTreeMap<String, Row>,
    /// The keys that a snapshot has not confirmed yet; none outside of a snapshot.
    unconfirmed: Option<BTreeSet<String>>,
}

/// What to tell.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A row is new or different.
    Row(Row),
    /// A row is gone.
    Removed { key: String, revision: Revision },
}

impl Seen {
    /// Takes note of an update, and returns what is new in it. After a lost connection all rows come again; only what
    /// changed meanwhile is new.
    pub(super) fn apply(&mut self, update: ContainerUpdate) -> Vec<Change> {
        match update {
            ContainerUpdate::SnapshotBegin(_) => {
                self.unconfirmed = Some(self.rows.keys().cloned().collect());
                Vec::new()
            }
            ContainerUpdate::Row(row) => {
                if let Some(unconfirmed) = &mut self.unconfirmed {
                    unconfirmed.remove(&row.key);
                }
                if self.rows.get(&row.key) == Some(&row) {
                    return Vec::new();
                }
                self.rows.insert(row.key.clone(), row.clone());
                vec![Change::Row(row)]
            }
            ContainerUpdate::Removed { key, revision } => self.remove(key, revision).into_iter().collect(),
            ContainerUpdate::SnapshotEnd(revision) => {
                let gone = self.unconfirmed.take().unwrap_or_default();
                gone.into_iter()
                    .filter_map(|key| self.remove(key, revision))
                    .collect()
            }
            ContainerUpdate::Progress(_) => Vec::new(),
        }
    }

    fn remove(&mut self, key: String, revision: Revision) -> Option<Change> {
        self.rows.remove(&key)?;
        Some(Change::Removed { key, revision })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(key: &str, revision: u64) -> Row {
        let fields = json!({"state": "running"});
        Row {
            key: key.to_owned(),
            mod_revision: Revision(revision),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    fn told(seen: &mut Seen, updates: impl IntoIterator<Item = ContainerUpdate>) -> Vec<Change> {
        updates
            .into_iter()
            .flat_map(|update| seen.apply(update))
            .collect()
    }

    #[test]
    fn after_a_new_snapshot_only_the_differences_are_told() {
        use ContainerUpdate::{Row as New, SnapshotBegin, SnapshotEnd};
        let mut seen = Seen::default();
        let first = [
            SnapshotBegin(Revision(5)),
            New(row("/a", 2)),
            New(row("/b", 3)),
            New(row("/c", 4)),
            SnapshotEnd(Revision(5)),
        ];
        assert_eq!(told(&mut seen, first).len(), 3);
        let second = [
            SnapshotBegin(Revision(9)),
            New(row("/a", 2)),
            New(row("/b", 8)),
            SnapshotEnd(Revision(9)),
        ];
        let removed = Change::Removed {
            key: "/c".to_owned(),
            revision: Revision(9),
        };
        assert_eq!(told(&mut seen, second), [Change::Row(row("/b", 8)), removed]);
    }

    #[test]
    fn a_row_that_was_never_told_is_not_removed() {
        let removed = ContainerUpdate::Removed {
            key: "/a".to_owned(),
            revision: Revision(2),
        };
        assert_eq!(told(&mut Seen::default(), [removed]), []);
    }
}
