//! `tidewatch status`: how a server and its keyspace are.

use std::time::SystemTime;

use serde::Serialize;
use tidewatch_client::{ReconcilerStatus, ServerStatus, UpstreamStatus};

use crate::age;
use crate::connection::Connection;
use crate::entry::timestamp;
use crate::failure::Result;
use crate::output::Format;
use crate::table::{Table, count, size};

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
    /// Absent where the keyspace is the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream<'a>>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    endpoints: &'a [String],
    namespace: String,
    state: &'a str,
    age_seconds: Option<f64>,
    error: &'a str,
    lag_revisions: u64,
    relists: u64,
    backfills: u64,
    backfills_begun: u64,
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
            upstream: status.upstream.as_ref().map(Upstream::new),
        }
    }
}

impl<'a> Upstream<'a> {
    fn new(status: &'a UpstreamStatus) -> Self {
        Self {
            endpoints: &status.endpoints,
            namespace: String::from_utf8_lossy(&status.namespace).into_owned(),
            state: &status.state,
            age_seconds: status.age.map(|age| age.as_secs_f64()),
            error: &status.error,
            lag_revisions: status.lag_revisions,
            relists: status.relists,
            backfills: status.backfills,
            backfills_begun: status.backfills_begun,
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
        ("size", occupied(status)),
        ("history", size(status.history_bytes)),
        ("leases", status.leases.to_string()),
        ("watchers", status.watchers.to_string()),
    ];
    pairs.extend(status.upstream.iter().map(|etcd| ("etcd", upstream(etcd))));
    pairs.extend(status.reconcilers.iter().map(|host| ("host", reconciler(host))));
    pairs.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
    Table::of_pairs(pairs)
}

/// A quota that another system keeps is not told.
fn occupied(status: &ServerStatus) -> String {
    match status.quota {
        u64::MAX => size(status.bytes),
        quota => format!("{} of {}", size(status.bytes), size(quota)),
    }
}

fn upstream(status: &UpstreamStatus) -> String {
    let age = status
        .age
        .map_or_else(|| "never".to_owned(), |age| format!("{} ago", age::short(age)));
    let mut told = vec![status.state.clone(), format!("current {age}")];
    if status.lag_revisions > 0 {
        told.push(format!("{} behind", count(status.lag_revisions, "revision")));
    }
    told.push(count(status.relists, "relist"));
    told.push(count(status.backfills_begun, "backfill"));
    let (place, told) = (status.endpoints.join(", "), told.join(", "));
    if status.error.is_empty() {
        format!("{place}: {told}")
    } else {
        format!("{place}: {told}: {}", status.error)
    }
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
