//! Whole revisions from the messages of a watch.

use tidewatch_core::{Event, Record, Revision};

/// Gathers the events of each revision.
///
/// etcd sends a transaction as one message, but splits large messages into fragments: then the last revision in one may go
/// on in the next. How much is held is bounded by what etcd accepts as one transaction, and a message.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The events of the revision that may go on.
    open: Vec<Event>,
}

impl Assembly {
    /// Adds the events of a message, and returns the revisions that are complete with it. Revisions up to `delivered` are left
    /// out: some versions repeat them.
    pub(crate) fn add(&mut self, events: Vec<Event>, fragment: bool, delivered: Revision) -> Vec<Record> {
        let mut whole = Vec::new();
        for event in events {
            let revision = event.kv.mod_revision;
            if revision <= delivered {
                continue;
            }
            if self.revision().is_some_and(|open| open != revision) {
                whole.extend(self.complete());
            }
            self.open.push(event);
        }
        if !fragment {
            whole.extend(self.complete());
        }
        whole
    }

    /// Whether part of a revision is waiting for the rest.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn revision(&self) -> Option<Revision> {
        self.open.last().map(|event| event.kv.mod_revision)
    }

    fn complete(&mut self) -> Option<Record> {
        let revision = self.revision()?;
        Some(Record {
            revision,
            time: None,
            events: std::mem::take(&mut self.open).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewatch_core::KeyValue;

    use super::*;

    fn put(key: &'static str, revision: u64) -> Event {
        let kv = KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::new(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Event::put(kv, None)
    }

    fn shape(records: &[Record]) -> Vec<(u64, usize)> {
        records
            .iter()
            .map(|record| (record.revision.0, record.events.len()))
            .collect()
    }

    #[test]
    fn a_message_gives_the_revisions_that_are_in_it() {
        let mut assembly = Assembly::default();
        let events = vec![put("a", 3), put("b", 3), put("a", 5)];
        assert_eq!(shape(&assembly.add(events, false, Revision(2))), [(3, 2), (5, 1)]);
        assert!(!assembly.is_open());
    }

    #[test]
    fn a_revision_that_goes_on_in_the_next_fragment_is_delivered_whole() {
        let mut assembly = Assembly::default();
        let first = assembly.add(vec![put("a", 3), put("a", 4)], true, Revision(2));
        assert_eq!(shape(&first), [(3, 1)]);
        assert!(assembly.is_open());
        assert!(assembly.add(vec![put("b", 4)], true, Revision(3)).is_empty());
        let last = assembly.add(vec![put("c", 4), put("a", 6)], false, Revision(3));
        assert_eq!(shape(&last), [(4, 3), (6, 1)]);
    }

    #[test]
    fn a_fragment_may_end_with_a_revision() {
        let mut assembly = Assembly::default();
        assert!(assembly.add(vec![put("a", 3)], true, Revision(2)).is_empty());
        assert_eq!(
            shape(&assembly.add(vec![put("a", 4)], false, Revision(2))),
            [(3, 1), (4, 1)]
        );
    }

    #[test]
    fn what_was_delivered_before_is_left_out() {
        let mut assembly = Assembly::default();
        assert_eq!(
            shape(&assembly.add(vec![put("a", 3), put("a", 4)], false, Revision(3))),
            [(4, 1)]
        );
    }
}
