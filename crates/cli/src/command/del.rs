//! `tidewatch del`: deletes one key.

use bytes::Bytes;
use serde::Serialize;
use tidewatch_core::key;

use crate::connection::Connection;
use crate::entry::key_text;
use crate::failure::{Result, note};
use crate::output::Format;

/// Delete a key
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The key
    key: String,
}

const EXAMPLES: &str = "\
A key that does not exist is no error, so that a script can be run again: `deleted` is 0 then, and
no revision is made. (`get` ends with 5 for such a key.)

Examples:
  tidewatch del /config/db
  tidewatch del /config/db --output json";

#[derive(Serialize)]
struct Line {
    revision: u64,
    deleted: u64,
}

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let name = Bytes::copy_from_slice(args.key.as_bytes());
    let range = key(name.clone())?;
    let client = connection.open().await?;
    let (revision, deleted) = client.keyspace().delete(range).await?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Line {
            revision: revision.0,
            deleted,
        })?,
        Format::Text if deleted == 0 => note(&format!("there was no key {}", key_text(&name))),
        Format::Text => output.line(format_args!("revision {revision}"))?,
    }
    output.flush()
}
