//! What a watch tells, as lines.

use std::fmt;
use std::time::SystemTime;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tidewatch_core::watch::{EventRef, Prev};
use tidewatch_core::{EndReason, Ended, EventKind, Position, Revision};

use super::resume_revision;
use crate::entry::{KEY, PREV_VALUE, VALUE, bytes_field, lease, line_of, timestamp};

/// One step of a watch. Serialized it is a line for scripts, displayed one for people.
pub(super) enum Line<'a> {
    /// It is registered; what happens after this is told.
    Created(Position),
    /// A mark in the stream: `snapshot_begin`, `snapshot_end` or `progress`.
    Mark(&'static str, Revision),
    /// An entry of a snapshot.
    Snapshot(Revision, EventRef<'a>),
    /// A change.
    Event(Revision, Option<SystemTime>, EventRef<'a>),
    /// It is over.
    Canceled {
        /// Up to where everything was told.
        revision: Revision,
        ended: &'a Ended,
    },
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.name())?;
        match self {
            Self::Created(position) => {
                map.serialize_entry("revision", &position.revision.0)?;
                map.serialize_entry("keyspace_id", &position.keyspace.to_string())?;
            }
            Self::Mark(_, revision) => map.serialize_entry("revision", &revision.0)?,
            Self::Snapshot(revision, event) => event_fields(&mut map, *revision, None, *event)?,
            Self::Event(revision, time, event) => event_fields(&mut map, *revision, *time, *event)?,
            Self::Canceled { revision, ended } => {
                let oldest = match ended.reason {
                    EndReason::Compacted { oldest, .. } => Some(oldest.0),
                    _ => None,
                };
                map.serialize_entry("revision", &revision.0)?;
                map.serialize_entry("reason", ended.reason.name())?;
                map.serialize_entry("message", &ended.reason.to_string())?;
                map.serialize_entry(
                    "resume_revision",
                    &resume_revision(ended).map(|revision| revision.0),
                )?;
                map.serialize_entry("compact_revision", &oldest)?;
            }
        }
        map.end()
    }
}

fn event_fields<M: SerializeMap>(
    map: &mut M,
    revision: Revision,
    time: Option<SystemTime>,
    event: EventRef<'_>,
) -> Result<(), M::Error> {
    map.serialize_entry("revision", &revision.0)?;
    bytes_field(map, KEY, event.key())?;
    bytes_field(map, VALUE, event.value())?;
    map.serialize_entry("create_revision", &event.create_revision().0)?;
    map.serialize_entry("mod_revision", &event.mod_revision().0)?;
    map.serialize_entry("version", &event.version())?;
    map.serialize_entry("lease", &lease(event.lease()))?;
    map.serialize_entry("time", &time.map(timestamp))?;
    match event.prev() {
        Prev::NotRequested => Ok(()),
        Prev::Absent => map.serialize_entry(PREV_VALUE[0], &None::<&str>),
        Prev::Entry(prev) => bytes_field(map, PREV_VALUE, &prev.value),
    }
}

impl Line<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Mark(name, _) => name,
            Self::Snapshot(..) => "snapshot",
            Self::Event(_, _, event) => match event.kind() {
                EventKind::Put => "put",
                EventKind::Delete => "delete",
            },
            Self::Canceled { .. } => "canceled",
        }
    }

    /// Whether a person wants to see it. Marks and the end are for scripts: the end is told on stderr.
    pub(super) fn is_for_people(&self) -> bool {
        matches!(self, Self::Snapshot(..) | Self::Event(..))
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (event, time) = match self {
            Self::Snapshot(_, event) => (event, None),
            Self::Event(_, time, event) => (event, *time),
            other => return f.write_str(other.name()),
        };
        // In a snapshot the revision that matters is that of the entry.
        write!(f, "{:<8}", event.mod_revision())?;
        if let Some(time) = time {
            write!(f, "{}  ", humantime::format_rfc3339_seconds(time))?;
        }
        write!(f, "{:<8}  {}", self.name(), line_of(event.key()))?;
        if event.kind() == EventKind::Put {
            write!(f, "  {}", line_of(event.value()))?;
        }
        match event.prev() {
            Prev::NotRequested => Ok(()),
            Prev::Absent => f.write_str("  (was absent)"),
            Prev::Entry(prev) => write!(f, "  (was {})", line_of(&prev.value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;
    use tidewatch_core::watch::View;
    use tidewatch_core::{Batch, Event, KeyValue, KeyspaceId};

    use super::*;

    fn json(line: &Line<'_>) -> String {
        serde_json::to_string(line).unwrap()
    }

    fn kv(value: &'static [u8]) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"/k"),
            value: Bytes::from_static(value),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            lease: None,
        }
    }

    fn batch(events: Vec<Event>, prev_kv: bool) -> Batch {
        let time = UNIX_EPOCH + Duration::from_millis(1_500);
        let view = View {
            prev_kv,
            ..View::default()
        };
        Batch::events(Revision(3), Some(time), events, view, false)
    }

    fn only(batch: &Batch) -> Line<'_> {
        Line::Event(batch.revision(), batch.time(), batch.iter().next().unwrap())
    }

    #[test]
    fn the_fields_that_scripts_rely_on_are_there() {
        let position = Position {
            keyspace: KeyspaceId(255),
            revision: Revision(2),
        };
        assert_eq!(
            json(&Line::Created(position)),
            r#"{"type":"created","revision":2,"keyspace_id":"00000000000000ff"}"#
        );
        assert_eq!(
            json(&Line::Mark("progress", Revision(9))),
            r#"{"type":"progress","revision":9}"#
        );
        let put = batch(vec![Event::put(kv(b"v"), None)], false);
        assert_eq!(
            json(&only(&put)),
            r#"{"type":"put","revision":3,"key":"/k","value":"v","create_revision":2,"mod_revision":3,"version":2,"lease":0,"time":"1970-01-01T00:00:01.500Z"}"#
        );
        let delete = batch(vec![Event::delete(Revision(3), kv(b"\xff"))], true);
        assert_eq!(
            json(&only(&delete)),
            r#"{"type":"delete","revision":3,"key":"/k","value":"","create_revision":0,"mod_revision":3,"version":0,"lease":0,"time":"1970-01-01T00:00:01.500Z","prev_value_base64":"/w=="}"#
        );
        let snapshot = Batch::snapshot(Revision(7), vec![kv(b"v")], View::default());
        let line = Line::Snapshot(snapshot.revision(), snapshot.iter().next().unwrap());
        assert_eq!(
            json(&line),
            r#"{"type":"snapshot","revision":7,"key":"/k","value":"v","create_revision":2,"mod_revision":3,"version":2,"lease":0,"time":null}"#
        );
    }

    #[test]
    fn absent_and_not_asked_are_two_things() {
        let events = vec![Event::put(kv(b"v"), None)];
        assert!(!json(&only(&batch(events.clone(), false))).contains("prev_value"));
        assert!(json(&only(&batch(events, true))).ends_with(r#""prev_value":null}"#));
    }

    #[test]
    fn the_end_tells_where_to_go_on() {
        let compacted = Ended {
            reason: EndReason::Compacted {
                requested: Revision(3),
                oldest: Revision(9),
            },
            last_delivered: None,
            resume: None,
        };
        let line = Line::Canceled {
            revision: Revision(2),
            ended: &compacted,
        };
        assert_eq!(
            json(&line),
            r#"{"type":"canceled","revision":2,"reason":"compacted","message":"revision 3 has been compacted, the oldest one available is 9","resume_revision":null,"compact_revision":9}"#
        );
        let canceled = Ended {
            reason: EndReason::Canceled,
            last_delivered: Some(Revision(7)),
            resume: Some(Position {
                keyspace: KeyspaceId(255),
                revision: Revision(7),
            }),
        };
        let line = Line::Canceled {
            revision: Revision(7),
            ended: &canceled,
        };
        assert_eq!(
            json(&line),
            r#"{"type":"canceled","revision":7,"reason":"canceled","message":"it was canceled","resume_revision":8,"compact_revision":null}"#
        );
    }

    #[test]
    fn people_get_one_line_whatever_was_stored() {
        let put = batch(vec![Event::put(kv(b"a\nb"), Some(kv(b"\x1b[2J")))], true);
        assert_eq!(
            only(&put).to_string(),
            r"3       1970-01-01T00:00:01Z  put       /k  a\nb  (was \u{1b}[2J)"
        );
    }
}
