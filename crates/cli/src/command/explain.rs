//! `tidewatch explain`: why a container has the row it has, or none.

use serde::Serialize;
use tidewatch_client::Explanation;
use tidewatch_fleet::HostName;

use crate::connection::Connection;
use crate::failure::Result;
use crate::fleet_row::Line;
use crate::output::Format;
use crate::table::Table;

/// Tell why a container has the row it has, or why it has none
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The container's name, its id, or the beginning of its id
    container: String,
    /// Only on this host
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
}

const EXAMPLES: &str = "\
Ends with 5 if no host shows such a container.

Examples:
  tidewatch explain shop-web-1
  tidewatch explain 3f2a9c --host web1";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let client = connection.open().await?;
    let host = args.host.as_ref().map(HostName::as_str);
    let explanations = client.explain(&args.container, host).await?;
    let mut output = connection.output();
    for (number, explanation) in explanations.iter().enumerate() {
        match output.format() {
            Format::Json => output.json(&Told::new(explanation))?,
            Format::Text => {
                if number > 0 {
                    output.line("")?;
                }
                output.table(&mut table(explanation))?;
            }
        }
    }
    output.flush()
}

/// A line for scripts.
#[derive(Serialize)]
struct Told<'a> {
    host: &'a str,
    container_id: &'a str,
    name: &'a str,
    reason: &'a str,
    message: &'a str,
    row: Option<Line<'a>>,
}

impl<'a> Told<'a> {
    fn new(explanation: &'a Explanation) -> Self {
        Self {
            host: &explanation.host,
            container_id: &explanation.container_id,
            name: &explanation.name,
            reason: &explanation.reason,
            message: &explanation.message,
            row: explanation.row.as_ref().map(Line),
        }
    }
}

fn table(explanation: &Explanation) -> Table {
    let row = explanation.row.as_ref();
    Table::of_pairs([
        ("container", explanation.name.clone()),
        ("id", explanation.container_id.clone()),
        ("host", explanation.host.clone()),
        (
            "row",
            row.map_or_else(|| "none".to_owned(), |row| row.key.clone()),
        ),
        ("why", format!("{} ({})", explanation.message, explanation.reason)),
    ])
}
