//! A task made of steps: all of them run, and the end says which failed and what each took.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::process::report;

/// A named part of a task.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnOnce() -> anyhow::Result<()>>,
}

impl Step {
    pub(crate) fn new(name: &'static str, run: impl FnOnce() -> anyhow::Result<()> + 'static) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// Runs all steps, also after one failed, so that one run shows everything there is to mend.
pub(crate) fn run_all(task: &str, steps: Vec<Step>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut summary = Vec::new();
    for step in steps {
        report(&format!("== {task}: {}", step.name));
        let (outcome, took) = timed(step.run);
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        summary.push(format!(
            "{verdict:>8}  {:>6.1} s  {}",
            took.as_secs_f64(),
            step.name
        ));
        if let Err(error) = outcome {
            report(&format!("{} failed: {error:#}", step.name));
            failed.push(step.name);
        }
    }
    report(&format!("== {task}: summary"));
    for line in &summary {
        report(line);
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{task}: {}", failed.join(", "))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took for the person who waits; nothing depends on it"
)]
fn timed(run: impl FnOnce() -> anyhow::Result<()>) -> (anyhow::Result<()>, Duration) {
    let start = Instant::now();
    let outcome = run();
    (outcome, start.elapsed())
}
