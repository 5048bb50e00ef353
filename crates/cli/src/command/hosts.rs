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
Examples:
  tidewatch hosts
  tidewatch hosts --output json | jq 'select(.reachable | not) | .error'";

pub(crate) async fn run(_: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    let hosts = client.hosts().await?;
    let mut output = connection.output();
    let mut table = Table::new(["HOST", "DOCKER", "SINCE", "ADDRESS", "VERSION", "ERROR"]);
    for host in &hosts {
        match output.format() {
            Format::Json => output.json(&Line(host))?,
            Format::Text => table.row(cells(host)),
        }
    }
    output.table(&mut table)?;
    output.flush()
}

fn cells(row: &Row) -> [Cell; 6] {
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
        host.error.into(),
    ]
}
