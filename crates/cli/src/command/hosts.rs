//! `tidewatch hosts`: the Docker hosts, and whether they answer.

use clap::builder::styling::AnsiColor;
use tidewatch_client::Row;
use tidewatch_fleet::Host;

use crate::age::since;
use crate::connection::Connection;
use crate::failure::Result;
use crate::fleet_row::{Line, name_in};
use crate::output::Format;
use crate::table::{Cell, Table};

/// Show the Docker hosts, and whether they answer
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

const EXAMPLES: &str = "\
LAG is what the last change took from Docker's event to its commit, SYNCED when everything was
last compared, DRIFT how many rows had to be repaired because an event was lost.

Examples:
  tidewatch hosts
  tidewatch hosts --output json | jq 'select(.reachable | not) | .error'";

pub(crate) async fn run(_: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    let hosts = client.hosts().await?;
    let mut output = connection.output();
    let mut table = Table::new([
        "HOST", "DOCKER", "SINCE", "ADDRESS", "VERSION", "LAG", "SYNCED", "DRIFT", "ERROR",
    ]);
    for host in &hosts {
        match output.format() {
            Format::Json => output.json(&Line(host))?,
            Format::Text => table.row(cells(host)),
        }
    }
    output.table(&mut table)?;
    output.flush()
}

fn cells(row: &Row) -> [Cell; 9] {
    let host: Host = row.parse().unwrap_or_default();
    let state = if host.reachable {
        Cell::styled("reachable", AnsiColor::Green.on_default())
    } else {
        Cell::styled("unreachable", AnsiColor::Red.on_default())
    };
    let docker = ["docker", "engine", "server"]
        .iter()
        .find_map(|name| host.versions.get(*name))
        .or_else(|| host.versions.values().next());
    [
        name_in(&row.key).into(),
        state,
        since(&host.since).into(),
        host.address.into(),
        docker.cloned().unwrap_or_default().into(),
        number(row, "lag_ms")
            .map(|ms| format!("{ms} ms"))
            .unwrap_or_default()
            .into(),
        since(row.text("last_sync")).into(),
        number(row, "drift")
            .map(|drift| drift.to_string())
            .unwrap_or_default()
            .into(),
        host.error.into(),
    ]
}

/// What only a reconciler can tell; nothing of a host that has none, or one that tells another server.
fn number(row: &Row, field: &str) -> Option<u64> {
    row.fields.get(field)?.as_u64()
}
