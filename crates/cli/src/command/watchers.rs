//! `tidewatch watchers`: who watches, and how far they are.

use clap::builder::styling::AnsiColor;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tidewatch_client::{WatchId, WatcherState, WatcherStatus};
use tidewatch_core::KeyRange;
use tidewatch_core::key::RangeEnd;

use crate::age;
use crate::connection::Connection;
use crate::entry::{KEY, Names, bytes_field, line_of, timestamp};
use crate::failure::Result;
use crate::output::Format;
use crate::table::{Cell, Table, size};

/// Show who watches, and end watches
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Ls(Ls),
    Cancel(Cancel),
}

/// List the watchers, and how far each of them is
///
/// A watcher that is synced gets changes as they are committed. One that lags has fallen behind, or begun in the past, and
/// reads on at its own pace; that costs nobody else anything. BEHIND counts the revisions it has not been given yet, AGE
/// is that of the first of them, PENDING their size. A watcher without a client is the server's own.
#[derive(Debug, clap::Args)]
#[command(after_help = LS_EXAMPLES)]
struct Ls {}

const LS_EXAMPLES: &str = "\
Examples:
  tidewatch watchers ls
  tidewatch watchers ls --output json | jq 'select(.lag_seconds > 60) | .id'";

/// End a watch
///
/// Its reader is told that it was canceled, and where it could go on without a gap; `tidewatch watch` ends with that.
#[derive(Debug, clap::Args)]
#[command(after_help = CANCEL_EXAMPLES)]
struct Cancel {
    /// The watch's id, as `tidewatch watchers ls` shows it
    id: u64,
}

const CANCEL_EXAMPLES: &str = "\
Ends with 5 if there is no such watch.

Examples:
  tidewatch watchers cancel 17";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    match &args.action {
        Action::Ls(Ls {}) => list(connection).await,
        Action::Cancel(args) => cancel(args, connection).await,
    }
}

async fn list(connection: Connection) -> Result {
    let client = connection.open().await?;
    let mut output = connection.output();
    let mut table = Table::new(["ID", "STATE", "BEHIND", "AGE", "PENDING", "FOR", "CLIENT", "KEYS"]);
    let mut after = None;
    loop {
        let page = client.watchers(after).await?;
        for watcher in &page.watchers {
            match output.format() {
                Format::Json => output.json(&Line(watcher))?,
                Format::Text => table.row(cells(watcher)),
            }
        }
        output.table(&mut table)?;
        after = page.watchers.last().map(|last| last.id);
        if !page.more || after.is_none() {
            return output.flush();
        }
    }
}

async fn cancel(args: &Cancel, connection: Connection) -> Result {
    let client = connection.open().await?;
    client.cancel_watcher(WatchId(args.id)).await?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&serde_json::json!({ "id": args.id, "canceled": true }))?,
        Format::Text => output.line(format_args!("watch {} canceled", args.id))?,
    }
    output.flush()
}

/// The most ranges of a watcher that people are shown.
const SHOWN_RANGES: usize = 3;

fn cells(watcher: &WatcherStatus) -> [Cell; 8] {
    let ranges = watcher.ranges.iter().take(SHOWN_RANGES);
    let mut keys: Vec<_> = ranges
        .map(|range| line_of(range.to_string().as_bytes()))
        .collect();
    if watcher.ranges.len() > SHOWN_RANGES {
        keys.push(format!("and {} more", watcher.ranges.len() - SHOWN_RANGES));
    }
    let behind = watcher.lag_revisions > 0;
    [
        watcher.id.to_string().into(),
        state(watcher),
        watcher.lag_revisions.to_string().into(),
        watcher
            .lag
            .filter(|_| behind)
            .map(age::short)
            .unwrap_or_default()
            .into(),
        if behind {
            size(watcher.pending_bytes)
        } else {
            String::new()
        }
        .into(),
        watcher.since.map(age::of).unwrap_or_default().into(),
        line_of(watcher.peer.as_bytes()).into(),
        keys.join(" ").into(),
    ]
}

fn state(watcher: &WatcherStatus) -> Cell {
    let name = state_name(watcher.state);
    match watcher.state {
        _ if watcher.canceled => Cell::styled("canceled", AnsiColor::Red.on_default()),
        Some(WatcherState::Lagging) => Cell::styled(name, AnsiColor::Yellow.on_default()),
        Some(WatcherState::Synced) => Cell::styled(name, AnsiColor::Green.on_default()),
        _ => name.into(),
    }
}

fn state_name(state: Option<WatcherState>) -> &'static str {
    state.map_or("unknown", WatcherState::name)
}

/// A line for scripts.
struct Line<'a>(&'a WatcherStatus);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let watcher = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &watcher.id.0)?;
        map.serialize_entry("state", state_name(watcher.state))?;
        map.serialize_entry("canceled", &watcher.canceled)?;
        map.serialize_entry("position", &watcher.position.0)?;
        map.serialize_entry("lag_revisions", &watcher.lag_revisions)?;
        map.serialize_entry("lag_seconds", &watcher.lag.map(|lag| lag.as_secs_f64()))?;
        map.serialize_entry("pending_bytes", &watcher.pending_bytes)?;
        map.serialize_entry("since", &watcher.since.map(timestamp))?;
        map.serialize_entry("peer", &watcher.peer)?;
        map.serialize_entry("connection", &watcher.connection)?;
        let ranges: Vec<_> = watcher.ranges.iter().map(Range).collect();
        map.serialize_entry("ranges", &ranges)?;
        map.serialize_entry("prev_kv", &watcher.view.prev_kv)?;
        map.serialize_entry("keys_only", &watcher.view.keys_only)?;
        map.serialize_entry("no_put", &watcher.view.no_put)?;
        map.serialize_entry("no_delete", &watcher.view.no_delete)?;
        map.end()
    }
}

/// A range for scripts: a `key`, a `prefix`, or a `start` and an `end`, which is missing where there is none.
struct Range<'a>(&'a KeyRange);

const PREFIX: Names = ["prefix", "prefix_base64"];
const START: Names = ["start", "start_base64"];
const END: Names = ["end", "end_base64"];

impl Serialize for Range<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let range = self.0;
        let mut map = serializer.serialize_map(None)?;
        match (range.as_slash_prefix(), range.end()) {
            (Some(prefix), _) => bytes_field(&mut map, PREFIX, prefix)?,
            (None, RangeEnd::Single) => bytes_field(&mut map, KEY, range.start())?,
            (None, RangeEnd::Before(end)) => {
                bytes_field(&mut map, START, range.start())?;
                bytes_field(&mut map, END, end)?;
            }
            (None, RangeEnd::Unbounded) => bytes_field(&mut map, START, range.start())?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tidewatch_core::watch::View;
    use tidewatch_core::{Revision, key, prefix, range};

    use super::*;

    fn watcher() -> WatcherStatus {
        WatcherStatus {
            id: WatchId(17),
            ranges: vec![
                key("/a").unwrap(),
                prefix("/b/").unwrap(),
                range("/c", "/d").unwrap(),
                KeyRange::from_key("/e\u{1b}[2J"),
            ],
            view: View {
                prev_kv: true,
                ..View::default()
            },
            peer: "127.0.0.1:4711".to_owned(),
            connection: Some(3),
            since: Some(SystemTime::UNIX_EPOCH),
            state: Some(WatcherState::Lagging),
            canceled: false,
            position: Revision(40),
            lag_revisions: 2,
            lag: Some(Duration::from_millis(1500)),
            pending_bytes: 3000,
        }
    }

    #[test]
    fn scripts_get_everything() {
        insta::assert_snapshot!(serde_json::to_string(&Line(&watcher())).unwrap(), @r#"{"id":17,"state":"lagging","canceled":false,"position":40,"lag_revisions":2,"lag_seconds":1.5,"pending_bytes":3000,"since":"1970-01-01T00:00:00.000Z","peer":"127.0.0.1:4711","connection":3,"ranges":[{"key":"/a"},{"prefix":"/b/"},{"start":"/c","end":"/d"},{"start":"/e\u001b[2J"}],"prev_kv":true,"keys_only":false,"no_put":false,"no_delete":false}"#);
    }

    #[test]
    fn people_get_what_matters() {
        let mut table = Table::new(["ID", "STATE", "BEHIND", "AGE", "PENDING", "FOR", "CLIENT", "KEYS"]);
        let settled = WatcherStatus {
            since: None,
            state: Some(WatcherState::Synced),
            ranges: vec![KeyRange::from_key("/e\u{1b}[2J")],
            lag_revisions: 0,
            peer: String::new(),
            connection: None,
            ..watcher()
        };
        let ended = WatcherStatus {
            canceled: true,
            ..settled.clone()
        };
        for watcher in [
            WatcherStatus {
                since: None,
                ..watcher()
            },
            settled,
            ended,
        ] {
            table.row(cells(&watcher));
        }
        let mut shown = Vec::new();
        table.write(&mut shown, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(shown).unwrap(), @r"
        ID   STATE      BEHIND   AGE   PENDING   FOR   CLIENT           KEYS
        17   lagging    2        1s    2.9 KiB         127.0.0.1:4711   /a /b/* [/c, /d) and 1 more
        17   synced     0                                               [/e\x1b[2J, ∞)
        17   canceled   0                                               [/e\x1b[2J, ∞)
        ");
    }
}
