//! Printing what a watch tells.

use futures_util::FutureExt as _;
use tidewatch_core::{Batch, BatchKind, EndReason, Ended, Watch};

use super::line::Line;
use super::over;
use crate::failure::Result;
use crate::output::{Format, Output};
use crate::signal::{Signals, stdout_closed};

/// Prints until the watch ends, the person ends it, or nobody reads any more.
pub(super) async fn print(mut watch: Watch, mut output: Output) -> Result {
    let mut signals = Signals::new()?;
    let mut closed = std::pin::pin!(stdout_closed());
    tell(&mut output, &Line::Created(watch.created()))?;
    loop {
        // Lines wait for each other only while more of them are there already.
        let next = if let Some(next) = watch.next().now_or_never() {
            next
        } else {
            output.flush()?;
            tokio::select! {
                next = watch.next() => next,
                _ = signals.next() => return interrupted(&watch, output),
                () = &mut closed => return Ok(()),
            }
        };
        match next {
            Ok(batch) => show(&mut output, &batch)?,
            Err(ended) => {
                tell_end(&watch, &mut output, &ended)?;
                return Err(over(&ended));
            }
        }
    }
}

fn show(output: &mut Output, batch: &Batch) -> Result {
    let revision = batch.revision();
    match batch.kind() {
        BatchKind::SnapshotBegin => tell(output, &Line::Mark("snapshot_begin", revision)),
        BatchKind::SnapshotEnd => tell(output, &Line::Mark("snapshot_end", revision)),
        BatchKind::Progress => tell(output, &Line::Mark("progress", revision)),
        BatchKind::Snapshot => batch
            .iter()
            .try_for_each(|event| tell(output, &Line::Snapshot(revision, event))),
        BatchKind::Events => batch
            .iter()
            .try_for_each(|event| tell(output, &Line::Event(revision, batch.time(), event))),
    }
}

fn tell(output: &mut Output, line: &Line<'_>) -> Result {
    match output.format() {
        Format::Json => output.json(line),
        Format::Text if line.is_for_people() => output.line(line),
        Format::Text => Ok(()),
    }
}

/// The person has seen enough. A script is told where to go on.
fn interrupted(watch: &Watch, mut output: Output) -> Result {
    let ended = Ended {
        reason: EndReason::Canceled,
        last_delivered: watch.last_delivered(),
        resume: watch.position(),
    };
    tell_end(watch, &mut output, &ended)
}

fn tell_end(watch: &Watch, output: &mut Output, ended: &Ended) -> Result {
    let revision = ended.last_delivered.unwrap_or(watch.created().revision);
    tell(output, &Line::Canceled { revision, ended })?;
    output.flush()
}
