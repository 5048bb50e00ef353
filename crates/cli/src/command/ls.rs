//! `tidewatch ls`: the keys below a prefix.

use bytes::Bytes;
use tidewatch_client::MAX_ANSWER_BYTES;
use tidewatch_core::key::RangeEnd;
use tidewatch_core::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use tidewatch_core::txn::RangeRequest;
use tidewatch_core::{KeyRange, prefix, range};

use crate::connection::Connection;
use crate::entry::{Entry, key_text, preview};
use crate::failure::Result;
use crate::output::Format;
use crate::table::Table;

/// List the keys below a prefix, with their values
///
/// All of them are read at one revision. As text a value is shortened to one line.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The prefix, which starts and ends with a slash; `/` lists everything below it
    prefix: String,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch ls /config/
  tidewatch ls /containers/shop/ --output json | jq -r .key";

/// Entries asked for at a time: with the largest keys and values a page is an answer that is accepted.
const PAGE: usize = 32;
const _: () = assert!(PAGE * (MAX_KEY_BYTES + MAX_VALUE_BYTES + ENTRY_BYTES) < MAX_ANSWER_BYTES);

/// More than an entry takes besides its key and its value.
const ENTRY_BYTES: usize = 256;

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let mut rest = prefix(Bytes::copy_from_slice(args.prefix.as_bytes()))?;
    let client = connection.open().await?;
    let mut output = connection.output();
    let mut table = Table::new(["KEY", "REVISION", "VALUE"]);
    let mut revision = None;
    loop {
        let (header, page) = client
            .keyspace()
            .range(RangeRequest {
                revision,
                limit: Some(PAGE),
                ..RangeRequest::new(rest.clone())
            })
            .await?;
        revision = Some(header.revision);
        for kv in &page.kvs {
            match output.format() {
                Format::Json => output.json(&Entry(kv))?,
                Format::Text => table.row([
                    key_text(&kv.key).into(),
                    kv.mod_revision.to_string().into(),
                    preview(&kv.value).into(),
                ]),
            }
        }
        match page.kvs.last() {
            Some(last) if page.more => rest = after(&last.key, &rest)?,
            _ => break,
        }
    }
    output.table(&mut table)?;
    output.flush()
}

/// The part of a prefix's range that lies behind a key.
fn after(key: &Bytes, whole: &KeyRange) -> Result<KeyRange> {
    let next = [&key[..], b"\0"].concat();
    match whole.end() {
        RangeEnd::Before(end) => Ok(range(next, end.clone())?),
        // Not of a prefix that ends with a slash.
        RangeEnd::Single | RangeEnd::Unbounded => Ok(KeyRange::from_key(next)),
    }
}
