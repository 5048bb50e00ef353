//! How far the server is: what `/readyz`, `grpc.health.v1` and the drain go by.

use std::fmt;

use tokio::sync::watch;

/// A stage in the life of a server. Stages are passed in order and never left backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The keyspace is being read back. Left for `Serving`, or the server ends with an error.
    Recovering,
    /// Everything works. Left for `Draining` on request or when a part of the server ends.
    Serving,
    /// No new connections; streams end, calls finish.
    Draining,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recovering => "recovering",
            Self::Serving => "serving",
            Self::Draining => "draining",
        })
    }
}

/// The stage of one server; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    stage: watch::Sender<Stage>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Recovering),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Goes on to `stage`; never goes back.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let forward = stage > *current;
            if forward {
                *current = stage;
            }
            forward
        });
    }

    /// Waits until the server drains. Cancel-safe.
    pub(crate) async fn draining(&self) {
        let mut stage = self.stage.subscribe();
        // The sender lives in `self`: the channel cannot close while this waits.
        let _ = stage.wait_for(|stage| *stage == Stage::Draining).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_are_never_left_backwards() {
        let readiness = Readiness::new();
        readiness.advance(Stage::Draining);
        readiness.advance(Stage::Serving);
        assert_eq!(readiness.stage(), Stage::Draining);
        readiness.draining().await;
    }
}
