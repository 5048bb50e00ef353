//! `tidewatch put`: writes one key.

use std::io::Read as _;

use anyhow::Context as _;
use bytes::Bytes;
use serde::Serialize;
use tidewatch_core::limits::MAX_VALUE_BYTES;
use tidewatch_core::{Error, key};

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Format;

/// Write a key
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The key: 1 to 4096 bytes, usually a path like /config/db
    key: String,
    /// The value, at most 1 MiB; `-` reads it from stdin, byte for byte
    #[arg(allow_hyphen_values = true)]
    value: String,
}

const EXAMPLES: &str = "\
When it returns, the change is on the server's disk. What it prints is the revision of the change.

Examples:
  tidewatch put /config/db postgres://db
  tidewatch put /config/nginx - < nginx.conf";

#[derive(Serialize)]
struct Line {
    revision: u64,
}

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let name = Bytes::copy_from_slice(args.key.as_bytes());
    key(name.clone())?;
    let value = match args.value.as_str() {
        "-" => stdin()?,
        value => Bytes::copy_from_slice(value.as_bytes()),
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::ValueTooLarge {
            key: name,
            len: value.len(),
            max: MAX_VALUE_BYTES,
        }
        .into());
    }
    let client = connection.open().await?;
    let revision = client.keyspace().put(name, value).await?.0;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Line { revision })?,
        Format::Text => output.line(format_args!("revision {revision}"))?,
    }
    output.flush()
}

/// All of stdin, or a little more than a value may have: enough to know that it is too large.
fn stdin() -> anyhow::Result<Bytes> {
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_VALUE_BYTES as u64 + 1)
        .read_to_end(&mut value)
        .context("failed to read the value from stdin")?;
    Ok(value.into())
}
