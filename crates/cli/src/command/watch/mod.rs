//! `tidewatch watch`: what happens to keys, as it happens.

mod line;
mod print;
mod react;
mod run;
mod settle;

use std::time::Duration;

use bytes::Bytes;
use tidewatch_client::Client;
use tidewatch_core::txn::RangeRequest;
use tidewatch_core::{EndReason, Ended, KeyRange, Revision, key, prefix};

use crate::connection::Connection;
use crate::exit;
use crate::failure::{Failure, Result, note};

/// Print what happens to a key, or to all keys below a prefix, as it happens
///
/// Goes on by itself after a lost connection or a restarted server, without loss or repetition, and says so on stderr.
/// It ends with 0 when it is interrupted, and with 1 when it cannot go on without a gap: the history it needs is gone,
/// or the server holds another one; and when an operator of the server cancels it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The key, or a prefix, which starts and ends with a slash
    #[arg(value_name = "KEY|PREFIX/")]
    target: String,
    /// Begin with the changes of this revision instead of now; it may lie in the future
    #[arg(long, value_name = "N", conflicts_with = "snapshot", value_parser = clap::value_parser!(u64).range(1..))]
    rev: Option<u64>,
    /// Begin with what is there now
    #[arg(long)]
    snapshot: bool,
    /// Show what was there before each change
    #[arg(long)]
    prev_kv: bool,
    /// Instead of printing events, run CMD with `sh -c` when changes have settled
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// How long nothing must change before CMD runs; under steady change it runs after ten times that
    #[arg(long, value_name = "TIME", default_value = "500ms", requires = "exec", value_parser = duration)]
    settle: Duration,
}

/// How often a quiet watch is told how far it is. It resumes from there: without that, one that was quiet for long would
/// find the history it needs compacted.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
With --output json there is a line for each step: created, snapshot_begin, snapshot, snapshot_end,
put, delete, progress, canceled. Of the last one, `resume_revision` is what to pass to --rev to go
on without a gap, and `compact_revision` the oldest revision there still is.

With --exec, CMD finds in its environment:
  TIDEWATCH_REVISION  the last revision it is run for
  TIDEWATCH_EVENTS    how many changes there were since the run before
  TIDEWATCH_KEYS      their keys, one per line; at most 64 KiB of them
One CMD runs at a time and none is killed: changes during a run lead to one more run after it. With
--snapshot the first run comes as soon as the snapshot is complete. How a run ended is told on
stderr.

Examples:
  tidewatch watch /containers/
  tidewatch watch /config/db --snapshot --output json
  tidewatch watch /containers/shop/ --rev 4711 --prev-kv
  tidewatch watch /containers/ --snapshot --exec 'render-proxy && nginx -s reload' --settle 2s";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let range = range_of(&args.target)?;
    let client = connection.open().await?;
    if is_slash_missing(&client, &args.target).await {
        let target = &args.target;
        note(&format!(
            "there is no key {target}; to watch the keys below it, say {target}/"
        ));
    }
    let mut watch = client.watch(range).progress_every(PROGRESS_INTERVAL);
    if let Some(revision) = args.rev {
        watch = watch.from_revision(Revision(revision));
    }
    if args.snapshot {
        watch = watch.with_snapshot();
    }
    if args.prev_kv {
        watch = watch.with_prev_kv();
    }
    let watch = watch.start().await?;
    match &args.exec {
        Some(command) => react::react(watch, command, args.settle).await,
        None => print::print(watch, connection.output()).await,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "it looks like `500ms` or `2s`".to_owned())
}

/// A target that ends with a slash is a prefix, any other a key.
fn range_of(target: &str) -> Result<KeyRange> {
    let bytes = Bytes::copy_from_slice(target.as_bytes());
    Ok(if target.ends_with('/') {
        prefix(bytes)?
    } else {
        key(bytes)?
    })
}

/// Whether a key that is not there was named, but others are below it: most likely they were meant. A watch of the key would
/// stay silent. Nothing depends on the answer, so an error is left for the watch to tell.
async fn is_slash_missing(client: &Client, target: &str) -> bool {
    if target.ends_with('/') {
        return false;
    }
    let Ok(below) = prefix(Bytes::from(format!("{target}/"))) else {
        return false;
    };
    if !matches!(client.keyspace().get(target.to_owned()).await, Ok(None)) {
        return false;
    }
    let request = RangeRequest {
        limit: Some(1),
        keys_only: true,
        ..RangeRequest::new(below)
    };
    let found = client.keyspace().range(request).await;
    found.is_ok_and(|(_, found)| !found.kvs.is_empty())
}

/// What the end of a watch means to the person who runs it.
fn over(ended: &Ended) -> Failure {
    let hint = match &ended.reason {
        EndReason::Compacted { oldest, .. } => Some(format!(
            "changes were missed; begin anew with `--snapshot`, or with `--rev {oldest}`"
        )),
        EndReason::KeyspaceChanged { .. } => Some("begin anew with `--snapshot`".to_owned()),
        _ => resume_revision(ended).map(|revision| format!("go on without a gap with `--rev {revision}`")),
    };
    let failure = match &ended.reason {
        EndReason::Failed(error) => Failure::from(error.clone()).context("the watch ended"),
        // Who runs this would have been told of nothing.
        EndReason::Canceled => Failure::message(
            exit::FAILED,
            "the watch ended: an operator of the server canceled it",
        ),
        _ => Failure::new(exit::FAILED, ended.clone()),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The revision to begin with to miss nothing, if that can be.
fn resume_revision(ended: &Ended) -> Option<Revision> {
    ended.resume.map(|position| position.revision.next())
}
