//! `tidewatch directives publish`: replaces the set.

use std::fs::File;
use std::io::{self, Read};

use anyhow::Context as _;
use tidewatch_core::Revision;
use tidewatch_directives::DirectiveSet;
use tidewatch_directives::limits::MAX_SET_BYTES;

use super::{changed, rejected};
use crate::connection::Connection;
use crate::failure::Result;

/// Replace the set of directives
///
/// The set is JSON, as in `{"directives":[{"id":"a","level":"debug","match":{"host":"h1"},"ttl_secs":900}]}`. Lives
/// begin when it is published. A set that is not entirely right is rejected as a whole, and the one before stays.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file with the set; `-` reads stdin
    file: String,
    /// Only if the set was last written at this revision; 0: only if there is none
    #[arg(long, value_name = "REVISION")]
    at: Option<Revision>,
}

const EXAMPLES: &str = "\
Ends with 2 if the set is rejected, and with 4 if it is at another revision.

Examples:
  tidewatch directives publish incident.json
  tidewatch directives publish - --at 42 < incident.json";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let json = read(&args.file)?;
    // A server would say the same; like this nobody has to be asked.
    DirectiveSet::decode(&json).map_err(|rejection| rejected(&rejection))?;
    let client = connection.open().await?;
    let (revision, _) = client.publish_directives(&json, args.at).await?;
    changed(&connection, revision.0)
}

/// All of a file, or a little more than a set may have: enough to know that it is too large.
fn read(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut json = Vec::new();
    let limit = MAX_SET_BYTES as u64 + 1;
    let read = if file == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut json)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut json))
    };
    let name = if file == "-" { "stdin" } else { file };
    read.with_context(|| format!("failed to read directives from {name}"))?;
    Ok(json)
}
