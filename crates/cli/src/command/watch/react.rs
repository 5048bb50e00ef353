//! Running a command when what is watched has changed.

use std::time::Duration;

use anyhow::Context as _;
use tidewatch_core::{Clock as _, SystemClock, Watch};

use super::over;
use super::run::Runner;
use super::settle::{Changes, Settle};
use crate::failure::Result;
use crate::signal::Signals;

/// Runs `command` whenever changes have settled, until the watch ends or the person ends it.
///
/// A run that is under way then is waited for. When the watch ends, what it delivered is run for
/// first; when the person ends it, it is not.
pub(super) async fn react(mut watch: Watch, command: &str, settle: Duration) -> Result {
    let clock = SystemClock;
    let mut signals = Signals::new()?;
    let mut settle = Settle::new(settle);
    let mut runner = Runner::new(command);
    loop {
        let settled = async {
            match settle.deadline() {
                Some(deadline) => clock.sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = signals.next() => return finish(&mut runner).await,
            ended = runner.finished() => {
                ended.context("failed to wait for the command")?;
                settle.finished();
            }
            () = settled => {
                if let Some(changes) = settle.take(clock.now()) {
                    start(&mut runner, changes)?;
                }
            }
            next = watch.next() => match next {
                Ok(batch) => settle.note(&batch, clock.now()),
                Err(ended) => {
                    finish(&mut runner).await?;
                    settle.finished();
                    if let Some(changes) = settle.take_rest() {
                        start(&mut runner, changes)?;
                        finish(&mut runner).await?;
                    }
                    return Err(over(&ended));
                }
            },
        }
    }
}

fn start(runner: &mut Runner, changes: Changes) -> Result {
    Ok(runner.start(changes).context("failed to start `sh`")?)
}

async fn finish(runner: &mut Runner) -> Result {
    if runner.is_running() {
        runner
            .finished()
            .await
            .context("failed to wait for the command")?;
    }
    Ok(())
}
