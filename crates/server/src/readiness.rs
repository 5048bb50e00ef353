//! How far the server is: what `/readyz`, `grpc.health.v1` and the drain go by.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::upstream::Followed;

/// A stage in the life of a server. Stages are passed in order and never left backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The keyspace is being read back, or waited for. Left for `Serving`, or the server ends with an error.
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

/// The stage of one server, and whether what it serves is what there is; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    stage: watch::Sender<Stage>,
    followed: Arc<OnceLock<Followed>>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Recovering),
            followed: Arc::default(),
        }
    }

    /// From now on the server is ready only while what it has keeps up with this. Only the first call counts.
    pub(crate) fn follow(&self, followed: Followed) {
        let _ = self.followed.set(followed);
    }

    /// Why others should rather be asked; none if the server is ready.
    pub(crate) fn obstacle(&self) -> Option<String> {
        match *self.stage.borrow() {
            Stage::Serving => self.followed.get().and_then(Followed::obstacle),
            stage => Some(format!("the server is {stage}")),
        }
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
    use std::time::Duration;

    use super::*;
    use crate::upstream::tests::{Told, followed};

    #[test]
    fn a_server_that_serves_is_ready_as_long_as_what_it_has_is_what_there_is() {
        let readiness = Readiness::new();
        let upstream = Told::live();
        readiness.follow(followed(&upstream));
        assert_eq!(readiness.obstacle().unwrap(), "the server is recovering");
        readiness.advance(Stage::Serving);
        assert_eq!(readiness.obstacle(), None);
        upstream.interrupt(Duration::from_secs(60));
        assert!(readiness.obstacle().unwrap().contains("60 s old"));
        readiness.advance(Stage::Draining);
        assert_eq!(readiness.obstacle().unwrap(), "the server is draining");
    }

    #[tokio::test]
    async fn stages_are_never_left_backwards() {
        let readiness = Readiness::new();
        readiness.advance(Stage::Draining);
        readiness.advance(Stage::Serving);
        assert_eq!(readiness.obstacle().unwrap(), "the server is draining");
        readiness.draining().await;
    }
}
