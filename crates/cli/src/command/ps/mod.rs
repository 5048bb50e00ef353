//! `tidewatch ps`: the fleet's containers.

mod follow;
mod seen;

use tidewatch_client::{Client, ContainerFilter, Row};
use tidewatch_fleet::{HostName, JoinedRow, State, WorkloadId};

use crate::age;
use crate::connection::Connection;
use crate::failure::{Result, note};
use crate::fleet_row::Line;
use crate::output::{Format, Output};
use crate::state;
use crate::table::{Cell, Table};

/// Show the fleet's containers: what deployers know joined with what Docker shows
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only of this workload
    #[arg(long, value_name = "ID")]
    workload: Option<WorkloadId>,
    /// Only on this host
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// Only in this state
    #[arg(long, value_parser = state::parse)]
    state: Option<State>,
    /// Print what is there, then every row that changes, until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Show the containers that have no row instead, and why
    #[arg(long, conflicts_with_all = ["watch", "workload"])]
    untracked: bool,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch ps
  tidewatch ps --workload shop --watch
  tidewatch ps --state missing
  tidewatch ps --untracked";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    let mut output = connection.output();
    if args.untracked {
        return untracked(&client, args.filter(), output).await;
    }
    if args.watch {
        return follow::follow(client.watch_containers(args.filter()).await?, output).await;
    }
    let rows = client.containers(args.filter()).await?;
    let mut table = containers();
    for row in &rows {
        show(row, &mut table, &mut output)?;
    }
    if rows.is_empty() && output.format() == Format::Text {
        note("no container has such a row; `tidewatch ps --untracked` shows those that have none, and why");
    }
    output.table(&mut table)?;
    output.flush()
}

impl Args {
    fn filter(&self) -> ContainerFilter {
        let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
        ContainerFilter {
            workload: text(self.workload.as_ref().map(WorkloadId::as_str)),
            host: text(self.host.as_ref().map(HostName::as_str)),
            state: text(self.state.map(State::as_str)),
        }
    }
}

/// An empty table of containers.
fn containers() -> Table {
    Table::new([
        "WORKLOAD",
        "ROW",
        "HOST",
        "STATE",
        "UP",
        "PORT",
        "IMAGE",
        "CONTAINER",
    ])
}

/// Prints a row for scripts, or puts it into the table for people.
fn show(row: &Row, table: &mut Table, output: &mut Output) -> Result {
    match output.format() {
        Format::Json => output.json(&Line(row)),
        Format::Text => {
            table.row(cells(row));
            Ok(())
        }
    }
}

fn cells(row: &Row) -> [Cell; 8] {
    let Ok(joined) = row.parse::<JoinedRow>() else {
        // Of a version that is newer than this one: what can be read is shown.
        let text = |field| row.text(field).into();
        return ["workload_id", "row", "host", "state", "", "", "image_ref", "name"].map(text);
    };
    let up = match joined.state {
        State::Running | State::Paused => joined.started_at.as_deref().map(age::since),
        _ => None,
    };
    [
        joined.workload_id.as_str().into(),
        joined.row.as_str().into(),
        joined.host.as_str().into(),
        state::cell(&joined),
        up.unwrap_or_default().into(),
        joined
            .port
            .map(|port| port.to_string())
            .unwrap_or_default()
            .into(),
        joined.image_ref.into(),
        joined.name.into(),
    ]
}

async fn untracked(client: &Client, filter: ContainerFilter, mut output: Output) -> Result {
    let mut table = Table::new(["HOST", "CONTAINER", "IMAGE", "STATE", "WHY"]);
    let (rows, unknown) = client.untracked(filter).await?;
    for row in &rows {
        match output.format() {
            Format::Json => output.json(&Line(row))?,
            Format::Text => {
                table.row(
                    ["host", "name", "image_ref", "state", "message"].map(|field| row.text(field).into()),
                );
            }
        }
    }
    output.table(&mut table)?;
    for unknown in &unknown {
        note(unknown);
    }
    output.flush()
}
