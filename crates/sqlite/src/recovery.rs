//! Reading everything back, in one scan in the order of the log.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rusqlite::Row;
use tidewatch_core::{Event, EventKind, KeyValue, LeaseGrant, LeaseId, Record, Recovered, Revision};

use crate::error::Error;
use crate::store::Store;

impl Store {
    pub(crate) fn recover(&self) -> Result<Recovered, Error> {
        let failed = |error| Error::sqlite("read", &self.path, error);
        let (base, records) = self.history()?;
        Ok(Recovered {
            keyspace: self.keyspace,
            revision: self.revision,
            oldest: self.oldest,
            base,
            records,
            leases: self.leases().map_err(failed)?,
        })
    }

    /// The newest write of each key before `oldest`, and the records from there on.
    ///
    /// How far a compaction has come makes no difference: what it has not removed yet is passed over.
    fn history(&self) -> Result<(Vec<KeyValue>, Vec<Record>), Error> {
        let failed = |error| Error::sqlite("read", &self.path, error);
        let mut base = HashMap::new();
        let mut records = Vec::new();
        let mut open: Option<OpenRecord> = None;
        let mut last = Revision(0);

        let mut scan = self
            .connection
            .prepare(
                "SELECT revision, key, value, create_revision, version, lease, time_ns FROM events ORDER BY id",
            )
            .map_err(failed)?;
        let mut rows = scan.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let event = event(row).map_err(failed)?;
            let revision = event.kv.mod_revision;
            if revision < last {
                return Err(Error::Corrupt {
                    path: self.path.clone(),
                    detail: format!("revision {revision} comes after {last}"),
                });
            }
            last = revision;
            if revision < self.oldest {
                match event.kind {
                    EventKind::Put => base.insert(event.kv.key.clone(), event.kv),
                    EventKind::Delete => base.remove(&event.kv.key),
                };
                continue;
            }
            match &mut open {
                Some(record) if record.revision == revision => record.events.push(event),
                _ => {
                    let time = row.get::<_, Option<i64>>(6).map_err(failed)?.and_then(from_ns);
                    let next = OpenRecord {
                        revision,
                        time,
                        events: vec![event],
                    };
                    records.extend(open.replace(next).map(OpenRecord::close));
                }
            }
        }
        records.extend(open.map(OpenRecord::close));
        Ok((base.into_values().collect(), records))
    }

    fn leases(&self) -> rusqlite::Result<Vec<LeaseGrant>> {
        self.connection
            .prepare("SELECT id, ttl_ns FROM leases ORDER BY id")?
            .query_map([], |row| {
                Ok(LeaseGrant {
                    id: LeaseId(row.get(0)?),
                    ttl: Duration::from_nanos(row.get(1)?),
                })
            })?
            .collect()
    }
}

/// A record whose events are still coming in.
struct OpenRecord {
    revision: Revision,
    time: Option<SystemTime>,
    events: Vec<Event>,
}

impl OpenRecord {
    fn close(self) -> Record {
        Record {
            revision: self.revision,
            time: self.time,
            events: self.events.into(),
        }
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let value = row.get_ref(2)?.as_blob_or_null()?;
    Ok(Event {
        kind: if value.is_some() {
            EventKind::Put
        } else {
            EventKind::Delete
        },
        kv: KeyValue {
            key: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?),
            value: value.map_or_else(Bytes::new, Bytes::copy_from_slice),
            create_revision: Revision(row.get(3)?),
            mod_revision: Revision(row.get(0)?),
            version: row.get(4)?,
            lease: row.get::<_, Option<i64>>(5)?.map(LeaseId),
        },
        prev: None,
    })
}

fn from_ns(ns: i64) -> Option<SystemTime> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}
