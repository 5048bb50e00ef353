//! What happened in the fleet, for people.

use tidewatch_core::{Event, EventKind, Record, Revision};

use std::time::SystemTime;

use crate::container::ContainerRow;
use crate::deploy::DeployRow;
use crate::host::{Alive, Host};
use crate::key::FleetKey;
use crate::state::State;
use crate::workload::Workload;

/// A change of one of the fleet's keys, told in a few words.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// The revision of the change.
    pub revision: Revision,
    /// When it was committed, as far as the server can tell.
    pub time: Option<SystemTime>,
    /// The key.
    pub key: FleetKey,
    /// Whether the key was written or deleted.
    pub kind: EventKind,
    /// The container's state before; none if there was no row, or the key is no container row.
    pub before: Option<State>,
    /// The container's state after.
    pub after: Option<State>,
    /// What changed, for instance `shop/web on h1: running → stopped (exit 137)`.
    pub message: String,
}

/// What the records of a history say about the fleet, in their order. Other keys are left out.
pub fn entries<'a>(records: impl IntoIterator<Item = &'a Record>) -> impl Iterator<Item = LogEntry> {
    records.into_iter().flat_map(|record| {
        let told = |event| entry(event, record.time);
        record.events.iter().filter_map(told)
    })
}

/// What one event says about the fleet. None if it is about something else, or nothing that anybody
/// would want to read.
pub fn entry(event: &Event, time: Option<SystemTime>) -> Option<LogEntry> {
    let key = FleetKey::parse(&event.kv.key)?.ok()?;
    let (mut before, mut after) = (None, None);
    let message = match &key {
        FleetKey::Container(..) => {
            let (old, new) = halves::<ContainerRow>(event)?;
            before = old.as_ref().map(|row| row.state);
            after = new.as_ref().map(|row| row.state);
            container(&key, old.as_ref(), new.as_ref())
        }
        FleetKey::Workload(id) => {
            let (old, new) = halves::<Workload>(event)?;
            match (old, new) {
                (None, Some(new)) => format!("{id}: declared, kind {}", new.kind),
                (Some(old), Some(new)) if old.kind != new.kind => {
                    format!("{id}: kind {} → {}", old.kind, new.kind)
                }
                (_, Some(_)) => format!("{id}: declaration changed"),
                (_, None) => format!("{id}: removed"),
            }
        }
        FleetKey::Deploy(workload, row) => {
            let (old, new) = halves::<DeployRow>(event)?;
            deploy(&format!("{workload}/{row}"), old.as_ref(), new.as_ref())
        }
        FleetKey::Host(host) => {
            let (old, new) = halves::<Host>(event)?;
            match (old, new) {
                (_, None) => format!("host {host}: forgotten"),
                (old, Some(new)) => host_changed(host.as_str(), old.as_ref(), &new),
            }
        }
        FleetKey::Alive(host) => match halves::<Alive>(event)? {
            (_, None) => format!("host {host}: nobody reconciles it any more"),
            (Some(old), Some(new)) if old.instance == new.instance => return None,
            (_, Some(new)) => format!("host {host}: reconciled by {}", new.instance),
        },
    };
    Some(LogEntry {
        revision: event.kv.mod_revision,
        time,
        key,
        kind: event.kind,
        before,
        after,
        message,
    })
}

/// The value before and after. None if the one after cannot be read: such values are skipped
/// everywhere. One before that cannot be read counts as none.
fn halves<T: serde::de::DeserializeOwned>(event: &Event) -> Option<(Option<T>, Option<T>)> {
    let new = match event.kind {
        EventKind::Put => Some(serde_json::from_slice(&event.kv.value).ok()?),
        EventKind::Delete => None,
    };
    let old = event
        .prev
        .as_ref()
        .and_then(|prev| serde_json::from_slice(&prev.value).ok());
    Some((old, new))
}

fn container(key: &FleetKey, old: Option<&ContainerRow>, new: Option<&ContainerRow>) -> String {
    let place = match key {
        FleetKey::Container(workload, host, row) => format!("{workload}/{row} on {host}"),
        _ => key.to_string(),
    };
    let what = match (old, new) {
        (None, Some(new)) => format!("{}{}", new.state, detail(None, new)),
        (Some(old), None) => format!("{} → row removed", old.state),
        (None, None) => "row removed".to_owned(),
        (Some(old), Some(new)) if old.state != new.state => {
            format!("{} → {}{}", old.state, new.state, detail(Some(old), new))
        }
        (Some(old), Some(new)) => differences(old, new),
    };
    format!("{place}: {what}")
}

/// What belongs to the new state: how it ended, or what it runs.
fn detail(old: Option<&ContainerRow>, new: &ContainerRow) -> String {
    let mut parts = Vec::new();
    if matches!(new.state, State::Stopped | State::Restarting | State::Dead) {
        parts.extend(new.exit_code.map(|code| format!("exit {code}")));
        parts.extend(new.oom_killed.then(|| "out of memory".to_owned()));
    }
    if !new.reason.is_empty() {
        parts.push(new.reason.clone());
    }
    match old {
        None if !new.image_ref.is_empty() => parts.push(new.image_ref.clone()),
        Some(old) if old.container_id != new.container_id && !old.container_id.is_empty() => {
            parts.push("another container".to_owned());
        }
        _ => {}
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// What is different between two rows of one state.
fn differences(old: &ContainerRow, new: &ContainerRow) -> String {
    let mut parts = Vec::new();
    if old.container_id != new.container_id {
        parts.push("another container".to_owned());
    }
    if old.health != new.health {
        let word = |row: &ContainerRow| row.health.map_or("no health", crate::Health::as_str);
        parts.push(format!("{} → {}", word(old), word(new)));
    }
    if old.name != new.name && !old.name.is_empty() {
        parts.push(format!("renamed {} → {}", old.name, new.name));
    }
    if old.image_ref != new.image_ref {
        parts.push(format!("image {} → {}", old.image_ref, new.image_ref));
    }
    if old.restart_count != new.restart_count {
        parts.push(format!("restart {}", new.restart_count));
    } else if old.started_at != new.started_at && old.container_id == new.container_id {
        parts.push("started again".to_owned());
    }
    if old.ports != new.ports {
        parts.push("ports changed".to_owned());
    }
    if old.networks != new.networks {
        parts.push("networks changed".to_owned());
    }
    if parts.is_empty() {
        parts.push("details changed".to_owned());
    }
    format!("{}, {}", new.state, parts.join(", "))
}

fn deploy(place: &str, old: Option<&DeployRow>, new: Option<&DeployRow>) -> String {
    let Some(new) = new else {
        return format!("{place}: deploy row removed");
    };
    let Some(old) = old else {
        return match new.host.as_ref() {
            Some(host) => format!("{place}: deploy row for {host}"),
            None => format!("{place}: deploy row"),
        };
    };
    if old.image_tag != new.image_tag {
        return format!(
            "{place}: deployed {} → {}",
            or_none(&old.image_tag),
            or_none(&new.image_tag)
        );
    }
    if old.container_id != new.container_id && !new.container_id.is_empty() {
        return format!("{place}: deployer names container {:.12}", new.container_id);
    }
    if old.state != new.state {
        return format!(
            "{place}: deployer says {} → {}",
            or_none(&old.state),
            or_none(&new.state)
        );
    }
    format!("{place}: deploy row changed")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn host_changed(host: &str, old: Option<&Host>, new: &Host) -> String {
    let was_reachable = old.map(|old| old.reachable);
    match (was_reachable, new.reachable) {
        (Some(false) | None, true) => format!("host {host}: Docker answers"),
        (Some(true) | None, false) => format!("host {host}: Docker does not answer: {}", new.error),
        _ if old.is_some_and(|old| old.daemon_id != new.daemon_id) => {
            format!("host {host}: another daemon, {}", new.daemon_id)
        }
        (_, false) => format!("host {host}: Docker still does not answer: {}", new.error),
        (_, true) => format!("host {host}: details changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::kv;

    fn row(rest: &str) -> String {
        format!(
            r#"{{"id":"shop:web","workload_id":"shop","workload_kind":"stack","role":"web","host":"h1",{rest}}}"#
        )
    }

    fn told(key: &str, old: Option<&str>, new: Option<&str>) -> Option<String> {
        let prev = old.map(|old| kv(key, old, 4));
        let event = match new {
            Some(new) => Event::put(kv(key, new, 5), prev),
            None => Event::delete(Revision(5), prev.unwrap()),
        };
        let entry = entry(&event, None)?;
        assert_eq!(entry.revision, Revision(5));
        Some(entry.message)
    }

    #[test]
    fn a_change_of_a_container_row_is_told_as_what_happened_to_the_container() {
        let key = "/containers/shop/h1/web";
        let running = row(r#""state":"running","container_id":"c1","name":"web-1","image_ref":"nginx:1""#);
        let cases = [
            (None, Some(&*running), "shop/web on h1: running (nginx:1)"),
            (
                Some(&*running),
                Some(&*row(r#""state":"stopped","container_id":"c1","exit_code":137"#)),
                "shop/web on h1: running → stopped (exit 137)",
            ),
            (
                Some(&*running),
                Some(&*row(
                    r#""state":"stopped","container_id":"c1","exit_code":137,"oom_killed":true"#,
                )),
                "shop/web on h1: running → stopped (exit 137, out of memory)",
            ),
            (
                Some(&*running),
                Some(&*row(
                    r#""state":"running","container_id":"c1","name":"web-2","image_ref":"nginx:1","health":"healthy""#,
                )),
                "shop/web on h1: running, no health → healthy, renamed web-1 → web-2",
            ),
            (
                Some(&*row(r#""state":"missing","container_id":"c1""#)),
                Some(&*row(r#""state":"running","container_id":"c2""#)),
                "shop/web on h1: missing → running (another container)",
            ),
            (Some(&*running), None, "shop/web on h1: running → row removed"),
        ];
        for (old, new, message) in cases {
            assert_eq!(told(key, old, new).as_deref(), Some(message));
        }
    }

    #[test]
    fn declarations_deployments_and_hosts_are_told_too_and_other_keys_are_not() {
        let stack = r#"{"id":"shop","kind":"stack"}"#;
        let cases = [
            (
                "/workloads/shop",
                None,
                Some(stack),
                Some("shop: declared, kind stack"),
            ),
            ("/workloads/shop", Some(stack), None, Some("shop: removed")),
            (
                "/deploy/shop/web",
                Some(r#"{"image_tag":"1"}"#),
                Some(r#"{"image_tag":"2"}"#),
                Some("shop/web: deployed 1 → 2"),
            ),
            (
                "/hosts/h1",
                Some(r#"{"reachable":true}"#),
                Some(r#"{"reachable":false,"error":"no socket"}"#),
                Some("host h1: Docker does not answer: no socket"),
            ),
            (
                "/alive/h1",
                None,
                Some(r#"{"instance":"i1"}"#),
                Some("host h1: reconciled by i1"),
            ),
            (
                "/alive/h1",
                Some(r#"{"instance":"i1"}"#),
                Some(r#"{"instance":"i1"}"#),
                None,
            ),
            (
                "/alive/h1",
                Some("{}"),
                None,
                Some("host h1: nobody reconciles it any more"),
            ),
            ("/config/db", None, Some("x"), None),
            ("/workloads/shop", None, Some("nonsense"), None),
        ];
        for (key, old, new, message) in cases {
            assert_eq!(told(key, old, new).as_deref(), message, "{key}");
        }
    }
}
