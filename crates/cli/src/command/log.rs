//! `tidewatch log`: what changed in the fleet.

use serde::Serialize;
use serde_json::Value;
use tidewatch_client::{EventKind, LogEntry, LogQuery};
use tidewatch_core::{Clock as _, SystemClock};
use tidewatch_fleet::{Moment, WorkloadId};

use crate::connection::Connection;
use crate::entry::timestamp;
use crate::failure::{Result, note};
use crate::output::Format;

/// Show what changed in the fleet, oldest first
///
/// The log is the history of the keyspace, which reaches back seven days, or 1 GiB if that is less. Times are UTC.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only what happened since then: how long ago, or a time (RFC 3339, UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only what had happened by then, likewise; a time lasts as long as its last digit, a second or less
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only of this workload
    #[arg(long, value_name = "ID")]
    workload: Option<WorkloadId>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch log --since 1h
  tidewatch log --since 2026-03-01T03:00:00Z --until 2026-03-01T03:15:00Z --workload shop
  tidewatch log --output json | jq -r .key";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let now = SystemClock.system_time();
    let query = LogQuery {
        since: args.since.map(|since| since.first(now)),
        until: args.until.map(|until| until.last(now)),
        workload: args
            .workload
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        limit: Some(args.limit),
    };
    let client = connection.open().await?;
    let log = client.log(query).await?;
    if log.more {
        note(&format!("older changes are left out: --limit is {}", args.limit));
    }
    if let Some(revision) = log.history_begins {
        note(&format!(
            "the history does not reach back that far, it begins at revision {revision}"
        ));
    }
    let mut output = connection.output();
    for entry in &log.entries {
        match output.format() {
            Format::Json => output.json(&Line::new(entry))?,
            Format::Text => {
                let time = entry
                    .time
                    .map(|time| humantime::format_rfc3339_seconds(time).to_string());
                let time = time.unwrap_or_else(|| "unknown time".to_owned());
                output.line(format_args!(
                    "{time:<20}  {:<8}  {}",
                    entry.revision, entry.message
                ))?;
            }
        }
    }
    output.flush()
}

/// A line for scripts.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    revision: u64,
    time: Option<String>,
    key: &'a str,
    workload: &'a str,
    host: &'a str,
    row: &'a str,
    state_before: &'a str,
    state_after: &'a str,
    message: &'a str,
    value: &'a Option<Value>,
    prev_value: &'a Option<Value>,
}

impl<'a> Line<'a> {
    fn new(entry: &'a LogEntry) -> Self {
        Self {
            kind: match entry.kind {
                EventKind::Put => "put",
                EventKind::Delete => "delete",
            },
            revision: entry.revision.0,
            time: entry.time.map(timestamp),
            key: &entry.key,
            workload: &entry.workload,
            host: &entry.host,
            row: &entry.row,
            state_before: &entry.state_before,
            state_after: &entry.state_after,
            message: &entry.message,
            value: &entry.value,
            prev_value: &entry.prev_value,
        }
    }
}
