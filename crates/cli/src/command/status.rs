//! `tidewatch status`: how a server and its keyspace are.

use std::time::SystemTime;

use serde::Serialize;
use tidewatch_client::{ReconcilerStatus, ServerStatus};

use crate::age;
use crate::connection::Connection;
use crate::entry::timestamp;
use crate::failure::Result;
use crate::output::Format;
use crate::table::{Table, count};

/// Show how the server and its keyspace are
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

const EXAMPLES: &str = "\
Examples:
  tidewatch status
  tidewatch status --output json | jq .revision";

pub(crate) async fn run(_: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    let status = client.status().await?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Line::new(&status))?,
        Format::Text => output.table(&mut table(&status))?,
    }
    output.flush()
}

/// A line for scripts.
#[derive(Serialize)]
struct Line<'a> {
    revision: u64,
    oldest_revision: u64,
    dispatched_revision: u64,
    keyspace_id: String,
    backend: &'a str,
    watchers: u64,
    keys: u64,
    bytes: u64,
    quota_bytes: u64,
    history_bytes: u64,
    leases: u64,
    version: &'a str,
    started: Option<String>,
    reconcilers: Vec<Reconciler<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Reconciler<'a> {
    host: &'a str,
    endpoint: &'a str,
    reachable: bool,
    since: Option<String>,
    error: &'a str,
    last_sync: Option<String>,
    syncs: u64,
    drift: u64,
    containers: u64,
    untracked: u64,
}

impl<'a> Line<'a> {
    fn new(status: &'a ServerStatus) -> Self {
        Self {
            revision: status.revision.0,
            oldest_revision: status.oldest.0,
            dispatched_revision: status.dispatched.0,
            keyspace_id: status.keyspace.to_string(),
            backend: &status.backend,
            watchers: status.watchers,
            keys: status.keys,
            bytes: status.bytes,
            quota_bytes: status.quota,
            history_bytes: status.history_bytes,
            leases: status.leases,
            version: &status.version,
            started: status.started.map(timestamp),
            reconcilers: status.reconcilers.iter().map(Reconciler::new).collect(),
            warnings: &status.warnings,
        }
    }
}

impl<'a> Reconciler<'a> {
    fn new(status: &'a ReconcilerStatus) -> Self {
        Self {
            host: &status.host,
            endpoint: &status.endpoint,
            reachable: status.reachable,
            since: status.since.map(timestamp),
            error: &status.error,
            last_sync: status.last_sync.map(timestamp),
            syncs: status.syncs,
            drift: status.drift,
            containers: status.containers,
            untracked: status.untracked,
        }
    }
}

fn table(status: &ServerStatus) -> Table {
    let mut pairs = vec![
        ("version", status.version.clone()),
        ("up for", status.started.map(age::of).unwrap_or_default()),
        ("keyspace", status.keyspace.to_string()),
        ("backend", status.backend.clone()),
        ("revision", status.revision.to_string()),
        ("oldest", status.oldest.to_string()),
        ("keys", status.keys.to_string()),
        (
            "size",
            format!("{} of {}", size(status.bytes), size(status.quota)),
        ),
        ("history", size(status.history_bytes)),
        ("leases", status.leases.to_string()),
        ("watchers", status.watchers.to_string()),
    ];
    pairs.extend(status.reconcilers.iter().map(|host| ("host", reconciler(host))));
    pairs.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
    Table::of_pairs(pairs)
}

fn reconciler(status: &ReconcilerStatus) -> String {
    let ReconcilerStatus {
        host,
        endpoint,
        containers,
        untracked,
        ..
    } = status;
    let ago = |time: Option<SystemTime>| time.map(age::of).unwrap_or_default();
    if status.reachable {
        let synced = ago(status.last_sync);
        let containers = count(*containers, "container");
        format!("{host} at {endpoint}: {containers}, {untracked} untracked, synced {synced} ago")
    } else {
        format!(
            "{host} at {endpoint}: unreachable for {}: {}",
            ago(status.since),
            status.error
        )
    }
}

/// A size in the largest unit in which it is at least one.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (2 << 30, "2.0 GiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
