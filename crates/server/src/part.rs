//! The long-running parts of a server, and what happens when one of them ends.

use std::collections::HashMap;
use std::fmt;

use tokio::task::{Id, JoinError, JoinSet};

use crate::error::Error;

/// The running parts. Dropping it stops them all.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Starts a part that is not to end before the server drains.
    pub(crate) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(part).id();
        self.names.insert(id, name);
    }

    /// Waits until a part ends, and tells it as the error that this is. Pending if there is none.
    /// Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.error(joined),
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, as they do in a drain. Cancel-safe.
    pub(crate) async fn all_ended(&mut self) {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            let panicked = matches!(&joined, Err(error) if error.is_panic());
            let error = self.error(joined);
            if panicked {
                tracing::error!(%error, "a part of the server failed while draining");
            }
        }
    }

    fn error(&mut self, joined: Result<(Id, ()), JoinError>) -> Error {
        let (id, reason) = match joined {
            Ok((id, ())) => (id, "it returned".to_owned()),
            Err(error) => (error.id(), error.to_string()),
        };
        Error::TaskEnded {
            task: self.names.remove(&id).unwrap_or("unnamed part"),
            reason,
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_told_by_name() {
        let mut parts = Parts::default();
        parts.spawn("steady", std::future::pending());
        parts.spawn("hasty", async {});
        let error = parts.ended().await;
        assert_eq!(error.to_string(), "the hasty ended unexpectedly: it returned");
        assert_eq!(parts.to_string(), r#"["steady"]"#);
    }

    #[tokio::test]
    async fn a_panic_is_the_end_of_a_part_too() {
        let mut parts = Parts::default();
        parts.spawn("clumsy", async { panic!("tripped") });
        let error = parts.ended().await.to_string();
        assert!(error.starts_with("the clumsy ended unexpectedly:"), "{error}");
        assert!(error.contains("tripped"), "{error}");
    }
}
