//! Asking Docker about one container.

use std::future::Future;

use crate::lister::ListError;

/// Tells what a list does not. Asked on transitions only, never in a steady tick; without it the
/// fields stay empty.
pub trait DockerInspect: Send + Sync + 'static {
    /// The facts about the container with this full id; none if there is no such container.
    ///
    /// # Errors
    /// [`ListError`]. The row is written all the same, with the facts it had.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Option<Facts>, ListError>> + Send;
}

/// What a list does not tell about a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it was ended for want of memory, as far as Docker has noticed: one that hears of the end first may say
    /// "no" for good, with exit code 137.
    pub oom_killed: bool,
    /// How often its restart policy has started it again.
    pub restart_count: u64,
    /// When it was last started, RFC 3339; none if never (Docker's year 1).
    pub started_at: Option<String>,
    /// What it exited with, if it does not run and has run.
    pub exit_code: Option<i64>,
    /// What kept it from starting, in Docker's words; empty if nothing did.
    pub error: String,
}

/// For reconcilers without inspection.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInspect;

impl DockerInspect for NoInspect {
    async fn inspect(&self, _id: &str) -> Result<Option<Facts>, ListError> {
        Ok(None)
    }
}
