//! Reading `/events`.

use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::lenient::Lenient;
use super::transport::shorten;
use crate::event::DockerEvent;

/// What an event may be about and change a list.
const FILTERS: &str = r#"{"type":["container","network","image"]}"#;

/// What happens to containers without a trace in a list, besides everything that begins with `exec_`: a health
/// probe alone is three events.
const UNLISTED: &[&str] = &[
    "archive-path",
    "attach",
    "commit",
    "copy",
    "detach",
    "export",
    "extract-to-dir",
    // A signal was sent; what comes of it is told by `die`.
    "kill",
    "prune",
    "resize",
    "top",
];

/// What the engine reports once its list shows it. With everything else it is the other way round: `pause`, `unpause`,
/// `update` and a network's `connect` are reported first and saved to where lists come from afterwards, so that whoever
/// lists at once may see what was before.
const LISTED_BEFORE_TOLD: &[&str] = &["create", "destroy", "die", "health_status", "oom", "start"];

/// After which the image that a list shows may be another: its name has moved, or has gone.
const IMAGE_RENAMED: &[&str] = &["delete", "import", "load", "pull", "tag", "untag"];

/// What to ask for.
///
/// `since` is given in whole seconds, which everybody understands, and rounded down: a second of overlap costs
/// duplicates, a gap would cost events.
pub(super) fn target(since: Option<SystemTime>) -> String {
    let filters = utf8_percent_encode(FILTERS, NON_ALPHANUMERIC);
    match since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        Some(since) => format!("/events?since={}&filters={filters}", since.as_secs()),
        None => format!("/events?filters={filters}"),
    }
}

/// Reads one line. None where it is about nothing that a list shows; [`DockerEvent::Doubt`] where it cannot be read.
pub(super) fn decode(line: &[u8]) -> Option<DockerEvent> {
    let raw: RawEvent = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(error) => return Some(doubt(format!("an event cannot be read ({error})"))),
    };
    let time = raw.time();
    let Some(action) = raw.action.0.or(raw.status.0) else {
        return Some(doubt(format!(
            "an event says nothing of what happened: {}",
            shorten(&String::from_utf8_lossy(line))
        )));
    };
    let actor = raw.actor.or_default();
    match raw.typ.0.as_deref().unwrap_or("container") {
        "container" => {
            let verb = verb(&action);
            if verb.starts_with("exec_") || UNLISTED.contains(&verb) {
                return None;
            }
            Some(container(actor.id.0.or(raw.id.0), action, time))
        }
        "network" if matches!(&*action, "connect" | "disconnect") => {
            let id = actor.attributes.or_default().container.0;
            Some(container(id, format!("network {action}"), time))
        }
        "image" if IMAGE_RENAMED.contains(&&*action) => Some(doubt(format!(
            "an image has another name, which containers may show ({})",
            shorten(&action)
        ))),
        _ => None,
    }
}

/// Whether a list that is asked for at once may show what was before this event.
pub(super) fn may_be_early(action: &str) -> bool {
    !LISTED_BEFORE_TOLD.contains(&verb(action))
}

/// The word that an action begins with: some go on with particulars (`health_status: healthy`).
fn verb(action: &str) -> &str {
    action.split(':').next().unwrap_or(action)
}

fn container(id: Option<String>, action: String, time: Option<SystemTime>) -> DockerEvent {
    match id {
        Some(id) if !id.is_empty() => DockerEvent::Container { id, action, time },
        _ => doubt(format!(
            "an event does not say which container it is about ({})",
            shorten(&action)
        )),
    }
}

fn doubt(reason: String) -> DockerEvent {
    DockerEvent::Doubt { reason }
}

/// `id` and `status` are the form of old engines, `Actor` and `Action` that of the others; most send both.
#[derive(Deserialize)]
struct RawEvent {
    #[serde(default, rename = "Type")]
    typ: Lenient<String>,
    #[serde(default, rename = "Action")]
    action: Lenient<String>,
    #[serde(default)]
    status: Lenient<String>,
    #[serde(default)]
    id: Lenient<String>,
    #[serde(default, rename = "Actor")]
    actor: Lenient<Actor>,
    #[serde(default)]
    time: Lenient<u64>,
    #[serde(default, rename = "timeNano")]
    time_nano: Lenient<u64>,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(default, rename = "ID")]
    id: Lenient<String>,
    #[serde(default, rename = "Attributes")]
    attributes: Lenient<Attributes>,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    container: Lenient<String>,
}

impl RawEvent {
    fn time(&self) -> Option<SystemTime> {
        let since_1970 = match (self.time_nano.0, self.time.0) {
            (Some(nanos), _) => Duration::from_nanos(nanos),
            (None, Some(secs)) => Duration::from_secs(secs),
            (None, None) => return None,
        };
        SystemTime::UNIX_EPOCH.checked_add(since_1970)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(line: &str) -> Option<(String, String)> {
        match decode(line.as_bytes())? {
            DockerEvent::Container { id, action, .. } => Some((id, action)),
            DockerEvent::Doubt { reason } => Some(("doubt".to_owned(), reason)),
        }
    }

    fn seen(id: &str, action: &str) -> (String, String) {
        (id.to_owned(), action.to_owned())
    }

    #[test]
    fn an_event_tells_which_container_to_list() {
        let line = br#"{"status":"die","id":"c1","from":"bb:1","Type":"container","Action":"die","Actor":{"ID":"c1",
            "Attributes":{"exitCode":"137","image":"bb:1"}},"scope":"local","time":1795256993,"timeNano":1795256993000000007}"#;
        let expected = DockerEvent::Container {
            id: "c1".to_owned(),
            action: "die".to_owned(),
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_256_993_000_000_007)),
        };
        assert_eq!(decode(line), Some(expected));
    }

    #[test]
    fn old_and_new_forms_are_understood() {
        assert_eq!(
            action(r#"{"status":"start","id":"c1","time":1}"#),
            Some(seen("c1", "start"))
        );
        assert_eq!(
            action(r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"c1"}}"#),
            Some(seen("c1", "health_status: healthy"))
        );
        // Podman's word for `destroy`, and words nobody has heard of.
        assert_eq!(
            action(r#"{"Type":"container","Action":"remove","Actor":{"ID":"c1"},"scope":"galactic"}"#),
            Some(seen("c1", "remove"))
        );
        assert_eq!(
            action(
                r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}}}"#
            ),
            Some(seen("c1", "network connect"))
        );
    }

    #[test]
    fn what_no_list_shows_is_passed_over() {
        for line in [
            r#"{"Type":"container","Action":"exec_create: /bin/sh -c test","Actor":{"ID":"c1"}}"#,
            r#"{"Type":"container","Action":"exec_die","Actor":{"ID":"c1"}}"#,
            r#"{"Type":"container","Action":"top","Actor":{"ID":"c1"}}"#,
            r#"{"Type":"container","Action":"kill","Actor":{"ID":"c1","Attributes":{"signal":"15"}}}"#,
            r#"{"Type":"container","Action":"prune","Actor":{"ID":""}}"#,
            r#"{"Type":"network","Action":"create","Actor":{"ID":"n1"}}"#,
            r#"{"Type":"image","Action":"push","Actor":{"ID":"i"}}"#,
            r#"{"Type":"volume","Action":"mount","Actor":{"ID":"v"}}"#,
            r#"{"Type":"wormhole","Action":"open"}"#,
        ] {
            assert_eq!(decode(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_attributed_puts_everything_in_doubt() {
        for line in [
            "",
            "{",
            "nonsense",
            "[]",
            "7",
            r#"{"Type":"container","Action":"die"}"#,
            r#"{"Type":"container","Action":"die","Actor":{"ID":7}}"#,
            r#"{"Type":"container","Actor":{"ID":"c1"}}"#,
            r#"{"Type":"network","Action":"disconnect","Actor":{"ID":"n1"}}"#,
            r#"{"Type":"image","Action":"tag","Actor":{"ID":"i"}}"#,
            r#"{"message":"the daemon is shutting down"}"#,
        ] {
            assert!(
                matches!(decode(line.as_bytes()), Some(DockerEvent::Doubt { .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn only_what_is_known_to_be_listed_first_is_not_told_again() {
        for action in ["start", "die", "health_status: healthy", "destroy"] {
            assert!(!may_be_early(action), "{action}");
        }
        for action in [
            "pause",
            "unpause",
            "update",
            "rename",
            "stop",
            "network connect",
            "unheard of",
        ] {
            assert!(may_be_early(action), "{action}");
        }
    }

    #[test]
    fn a_replay_overlaps_and_never_leaves_a_gap() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_256_993_999);
        assert!(target(Some(since)).starts_with("/events?since=1795256993&filters=%7B%22type"));
        assert!(target(None).starts_with("/events?filters="));
    }
}
