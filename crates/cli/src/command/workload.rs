//! `tidewatch workload`: what is meant to run.

use serde::Serialize;
use tidewatch_client::{Error, Row};
use tidewatch_fleet::{Expect, Kind, Role, Workload, WorkloadId};

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::fleet_row::Line;
use crate::output::Format;
use crate::table::{Cell, Table, count};

/// Declare, list and remove workloads
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Declare(Declare),
    Ls(Ls),
    Rm(Rm),
}

/// Declare a workload, or change a declared one
///
/// Containers that carry the labels tidewatch.managed=true and tidewatch.workload.id=ID get a row of it. A declaration
/// replaces the one before it; fields that other programs keep in it stay.
#[derive(Debug, clap::Args)]
#[command(after_help = DECLARE_EXAMPLES)]
struct Declare {
    /// The workload's id: letters, digits, `.`, `_` and `-`, at most 128
    id: WorkloadId,
    /// What it is: stack, project, image or static (compose belongs to the server)
    #[arg(long)]
    kind: Kind,
    /// Its name for people
    #[arg(long)]
    name: Option<String>,
    /// A label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How many of a role must run; can be repeated
    #[arg(long = "expect", value_name = "ROLE=MIN", value_parser = expectation)]
    expect: Vec<(Role, u32)>,
}

const DECLARE_EXAMPLES: &str = "\
Examples:
  tidewatch workload declare shop --kind stack
  tidewatch workload declare shop --kind stack --name 'The shop' --expect web=2 --expect db=1
  tidewatch workload declare vpn --kind static --label container=wireguard";

/// List the workloads
#[derive(Debug, clap::Args)]
struct Ls {}

/// Remove a workload and its rows
///
/// Containers go on running; without their workload they are no longer tracked. While a deployer has rows of the workload
/// this is refused, unless forced.
#[derive(Debug, clap::Args)]
#[command(after_help = RM_EXAMPLES)]
struct Rm {
    /// The workload's id
    id: WorkloadId,
    /// Remove the deployer's rows too
    #[arg(long)]
    force: bool,
}

const RM_EXAMPLES: &str = "\
Ends with 5 if there is no such workload, and with 4 if deploy rows stand against it.

Examples:
  tidewatch workload rm shop";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    match &args.action {
        Action::Declare(args) => declare(args, connection).await,
        Action::Ls(Ls {}) => list(connection).await,
        Action::Rm(args) => remove(args, connection).await,
    }
}

async fn declare(args: &Declare, connection: Connection) -> Result {
    let workload = Workload {
        name: args.name.clone().unwrap_or_default(),
        labels: args.labels.iter().cloned().collect(),
        expect: args
            .expect
            .iter()
            .map(|(role, min)| (role.clone(), Expect { min: *min }))
            .collect(),
        ..Workload::new(args.id.clone(), args.kind)
    };
    let client = connection.open().await?;
    let row = client.declare_workload(&workload).await?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Line(&row))?,
        Format::Text => output.line(format_args!("revision {}", row.mod_revision))?,
    }
    output.flush()
}

async fn list(connection: Connection) -> Result {
    let client = connection.open().await?;
    let workloads = client.workloads().await?;
    let mut output = connection.output();
    let mut table = Table::new(["ID", "KIND", "NAME", "EXPECTS", "LABELS"]);
    for workload in &workloads {
        match output.format() {
            Format::Json => output.json(&Line(workload))?,
            Format::Text => table.row(cells(workload)),
        }
    }
    output.table(&mut table)?;
    output.flush()
}

fn cells(row: &Row) -> [Cell; 5] {
    let Ok(workload) = row.parse::<Workload>() else {
        return [
            row.key.as_str().into(),
            "?".into(),
            "".into(),
            "".into(),
            "".into(),
        ];
    };
    let expects = workload
        .expect
        .iter()
        .map(|(role, expect)| format!("{role}={}", expect.min));
    let labels = workload
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    [
        workload.id.as_str().into(),
        workload.kind.as_str().into(),
        workload.name.as_str().into(),
        expects.collect::<Vec<_>>().join(" ").into(),
        labels.collect::<Vec<_>>().join(" ").into(),
    ]
}

#[derive(Serialize)]
struct Removed {
    revision: u64,
    deleted: u64,
}

async fn remove(args: &Rm, connection: Connection) -> Result {
    let client = connection.open().await?;
    let removed = client.remove_workload(&args.id, args.force).await;
    let (deleted, revision) = removed.map_err(|error| match error {
        Error::Refused { .. } if !args.force => {
            Failure::from(error).hint("`--force` removes it all the same, with its deploy rows")
        }
        error => error.into(),
    })?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Removed {
            revision: revision.0,
            deleted,
        })?,
        Format::Text => output.line(format_args!(
            "revision {revision}: {} deleted",
            count(deleted, "key")
        ))?,
    }
    output.flush()
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label looks like KEY=VALUE".to_owned()),
    }
}

fn expectation(text: &str) -> Result<(Role, u32), String> {
    const FORM: &str = "an expectation looks like ROLE=MIN, as in web=2";
    let (role, min) = text.split_once('=').ok_or(FORM)?;
    let role = Role::new(role).map_err(|error| error.to_string())?;
    Ok((role, min.parse().map_err(|_| FORM)?))
}
