//! `ps --watch`.

use futures_util::FutureExt as _;
use serde::Serialize;
use tidewatch_client::ContainerWatch;
use tidewatch_core::Revision;

use super::seen::{Change, Seen};
use super::{containers, show};
use crate::exit;
use crate::failure::{Failure, Result};
use crate::output::{Format, Output};
use crate::signal::{Signals, stdout_closed};
use crate::table::Table;

/// Prints rows until the watch ends, the person ends it, or nobody reads any more.
pub(super) async fn follow(mut watch: ContainerWatch, mut output: Output) -> Result {
    let mut signals = Signals::new()?;
    let mut closed = std::pin::pin!(stdout_closed());
    let mut seen = Seen::default();
    let mut table = containers();
    loop {
        let next = if let Some(next) = watch.next().now_or_never() {
            next
        } else {
            // What is there together is aligned together.
            output.table(&mut table)?;
            output.flush()?;
            tokio::select! {
                next = watch.next() => next,
                _ = signals.next() => return Ok(()),
                () = &mut closed => return Ok(()),
            }
        };
        let update = next.map_err(|ended| Failure::new(exit::FAILED, ended))?;
        for change in seen.apply(update) {
            match change {
                Change::Row(row) => show(&row, &mut table, &mut output)?,
                Change::Removed { key, revision } => removed(&key, revision, &mut table, &mut output)?,
            }
        }
    }
}

/// A line for scripts.
#[derive(Serialize)]
struct Gone<'a> {
    key: &'a str,
    mod_revision: u64,
    removed: bool,
}

fn removed(key: &str, revision: Revision, table: &mut Table, output: &mut Output) -> Result {
    if output.format() == Format::Json {
        return output.json(&Gone {
            key,
            mod_revision: revision.0,
            removed: true,
        });
    }
    // `/containers/<workload>/<host>/<row>`, or `/deploy/<workload>/<row>` of a placeholder.
    let parts: Vec<_> = key.split('/').collect();
    let (workload, host, row) = match parts[..] {
        [_, "containers", workload, host, row] => (workload, host, row),
        [_, "deploy", workload, row] => (workload, "", row),
        _ => (key, "", ""),
    };
    table.row([workload, row, host, "row removed", "", "", "", ""].map(Into::into));
    Ok(())
}
