//! `tidewatch get`: the value of one key.

use bytes::Bytes;
use tidewatch_core::key;

use crate::connection::Connection;
use crate::entry::{Entry, key_text};
use crate::exit;
use crate::failure::{Failure, Result};
use crate::output::Format;

/// Print the value of a key
///
/// As text the value is printed as it is, byte for byte; a terminal gets a line feed after it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The key
    key: String,
}

const EXAMPLES: &str = "\
Ends with 5 if there is no such key.

Examples:
  tidewatch get /config/db
  tidewatch get /workloads/shop | jq .kind
  tidewatch get /config/db --output json";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let name = Bytes::copy_from_slice(args.key.as_bytes());
    key(name.clone())?;
    let client = connection.open().await?;
    let Some(kv) = client.keyspace().get(name.clone()).await? else {
        let message = format!("there is no key {}", key_text(&name));
        let failure = Failure::message(exit::NOT_FOUND, message);
        return Err(if args.key.starts_with('/') && args.key.ends_with('/') {
            failure.hint(format!(
                "`tidewatch ls {}` lists the keys below it",
                key_text(&name)
            ))
        } else {
            failure
        });
    };
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Entry(&kv))?,
        Format::Text => {
            output.bytes(&kv.value)?;
            if output.is_terminal() && !kv.value.ends_with(b"\n") {
                output.line("")?;
            }
        }
    }
    output.flush()
}
