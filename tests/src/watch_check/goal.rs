//! The last revision of a round, as it becomes known.

use tidewatch_core::Revision;
use tidewatch_core::watch::View;
use tokio::sync::watch;

/// Up to where watchers have to get. Every key of the round is written at one revision and deleted at a later one, so that
/// there is something in it for each of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) written: Revision,
    pub(super) deleted: Revision,
}

impl Goal {
    /// The last revision that is delivered to who looks at events this way.
    pub(super) fn of(self, view: View) -> Revision {
        if view.no_delete {
            self.written
        } else {
            self.deleted
        }
    }
}

/// Who waits for it.
#[derive(Clone)]
pub(super) struct Goals(watch::Receiver<Option<Goal>>);

impl Goals {
    pub(super) fn new() -> (watch::Sender<Option<Goal>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// It, if it is known.
    pub(super) fn known(&self) -> Option<Goal> {
        *self.0.borrow()
    }

    /// Waits until it is known; for ever if the round ends without.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn wait(&mut self) -> Goal {
        let known = self
            .0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|known| *known);
        match known {
            Some(goal) => goal,
            None => std::future::pending().await,
        }
    }
}
