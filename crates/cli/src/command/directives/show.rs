//! `tidewatch directives show`: which there are, and which nodes have them.

use serde_json::{Map, Value};
use tidewatch_client::Row;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::fleet_row::Line;
use crate::output::{Format, Output};
use crate::table::{Cell, Table};
use crate::{age, exit};

/// Show the directives, or which nodes have which in force
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show what each node has in force, or has rejected
    #[arg(long)]
    nodes: bool,
}

const EXAMPLES: &str = "\
Directives that have ended are shown until the set is changed.

Examples:
  tidewatch directives show
  tidewatch directives show --output json | jq 'select(.expired | not) | .id'
  tidewatch directives show --nodes";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    if args.nodes {
        let nodes = client.directive_nodes().await?;
        return show_nodes(&nodes, connection.output());
    }
    let listing = client.directives().await?;
    if let Some(rejected) = listing.rejected {
        let (reason, path, message) = (rejected.reason, rejected.path, rejected.message);
        let message = format!("the stored set is rejected: {reason} at {path}: {message}");
        let hint = "the set before it stays in force; `directives publish` replaces what is stored";
        return Err(Failure::message(exit::FAILED, message).hint(hint));
    }
    let mut output = connection.output();
    let mut table = Table::new(["ID", "LEVEL", "MATCH", "FLAGS", "SAMPLE", "EXPIRES AT"]);
    for directive in &listing.directives {
        match output.format() {
            Format::Json => output.json(directive)?,
            Format::Text => table.row(cells(directive)),
        }
    }
    output.table(&mut table)?;
    output.flush()
}

fn cells(directive: &Map<String, Value>) -> [Cell; 6] {
    let text = |field: &str| directive.get(field).and_then(Value::as_str).unwrap_or_default();
    let matches = directive.get("match").and_then(Value::as_object);
    let matches = matches.into_iter().flatten();
    let matches: Vec<_> = matches
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let flags = directive.get("flags").and_then(Value::as_array);
    let flags: Vec<_> = flags.into_iter().flatten().filter_map(Value::as_str).collect();
    let sample = directive.get("sample_per_mille").and_then(Value::as_u64);
    let expired = directive.get("expired").and_then(Value::as_bool) == Some(true);
    let end = text("expires_at");
    [
        text("id").into(),
        text("level").into(),
        matches.join(" ").into(),
        flags.join(" ").into(),
        sample
            .filter(|&rate| rate < 1000)
            .map_or_else(String::new, |rate| format!("{rate}‰"))
            .into(),
        if expired {
            format!("{end} (ended)")
        } else {
            end.to_owned()
        }
        .into(),
    ]
}

fn show_nodes(nodes: &[Row], mut output: Output) -> Result {
    let mut table = Table::new(["NODE", "REVISION", "DIRECTIVES", "REJECTED", "SINCE"]);
    for node in nodes {
        match output.format() {
            Format::Json => output.json(&Line(node))?,
            Format::Text => table.row(node_cells(node)),
        }
    }
    output.table(&mut table)?;
    output.flush()
}

fn node_cells(node: &Row) -> [Cell; 5] {
    let number = |field: &str| node.fields.get(field).and_then(Value::as_u64).unwrap_or_default();
    let rejected = node.fields.get("rejected").and_then(Value::as_object);
    let rejected = rejected.map_or_else(String::new, |rejected| {
        let text = |field: &str| rejected.get(field).and_then(Value::as_str).unwrap_or("?");
        let revision = rejected
            .get("revision")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        format!("{revision}: {} at {}", text("reason"), text("path"))
    });
    [
        node.text("node").into(),
        number("revision").to_string().into(),
        number("directives").to_string().into(),
        rejected.into(),
        age::since(node.text("since")).into(),
    ]
}
