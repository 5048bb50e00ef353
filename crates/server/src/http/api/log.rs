//! `GET /api/v1/log`: what changed in the fleet, as `tidewatch log` shows it.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tidewatch_core::txn::Header;
use tidewatch_core::{KeyspaceId, Revision};
use tidewatch_fleet::Moment;
use tidewatch_proto::v1;

use super::list::{self, Frame};
use super::query::Query;
use crate::fleet::{LogQuery, MAX_ENTRIES};
use crate::grpc::FleetService;
use crate::http::problem::Problem;

const PARAMETERS: [&str; 4] = ["since", "until", "workload", "limit"];

/// The handler.
pub(super) async fn list(State(fleet): State<FleetService>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::of(&uri, &PARAMETERS)?;
    let now = fleet.clock.system_time();
    let since: Option<Moment> = query.one("since")?;
    let until: Option<Moment> = query.one("until")?;
    let limit = query.one("limit")?;
    if let Some(limit) = limit.filter(|limit| !(1..=MAX_ENTRIES).contains(limit)) {
        let detail = format!("limit cannot be {limit}: it is from 1 to {MAX_ENTRIES}");
        return Err(Problem::with_parameter("limit", detail));
    }
    let asked = LogQuery {
        since: since.map(|since| since.first(now)),
        until: until.map(|until| until.last(now)),
        workload: query.one("workload")?,
        limit: limit.unwrap_or(0),
    };
    let log = asked.run(&fleet.keyspace, &fleet.log_turns).await?;
    let header = log.header.unwrap_or_default();
    let header = Header {
        keyspace: KeyspaceId(header.keyspace_id),
        revision: Revision(header.revision),
    };
    // There are older ones that match; and where the history begins, if that is later than what was asked for.
    let begins = match log.history_begins {
        0 => String::new(),
        begins => format!(r#""history_begins":{begins},"#),
    };
    let fields = format!(r#""more":{},{begins}"#, log.more);
    let items = log.entries.into_iter().map(Entry).collect();
    Ok(list::answer(header, Frame::object_with(header, &fields), list::ready(items)).await?)
}

/// An entry as an item of the list. Its values are taken apart when it is sent: all at once they would be several
/// times as large as their text.
struct Entry(v1::LogEntry);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Item::from(&self.0).serialize(serializer)
    }
}

/// A change, with the fields of the command's JSON lines.
#[derive(Serialize)]
struct Item<'a> {
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
    value: Option<Value>,
    prev_value: Option<Value>,
}

impl<'a> From<&'a v1::LogEntry> for Item<'a> {
    fn from(entry: &'a v1::LogEntry) -> Self {
        let time = entry.time.and_then(|time| SystemTime::try_from(time).ok());
        Self {
            kind: match entry.kind() {
                v1::EventKind::Delete => "delete",
                v1::EventKind::Put => "put",
            },
            revision: entry.revision,
            time: time.map(|time| humantime::format_rfc3339_millis(time).to_string()),
            key: &entry.key,
            workload: &entry.workload,
            host: &entry.host,
            row: &entry.row,
            state_before: &entry.state_before,
            state_after: &entry.state_after,
            message: &entry.message,
            value: serde_json::from_str(&entry.json).ok(),
            prev_value: serde_json::from_str(&entry.prev_json).ok(),
        }
    }
}
