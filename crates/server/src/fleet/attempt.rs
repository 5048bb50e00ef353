//! Reads of several steps at one revision, which compaction may overtake.

use tidewatch_fleet::Error;

/// How often a read is tried. Once more is rare; this often means that the history is shorter than a read
/// takes.
pub(super) const MAX_ATTEMPTS: usize = 4;

/// Reads, and starts over if compaction overtook it.
///
/// # Errors
/// Those of the last attempt.
pub(crate) async fn undisturbed<T, F>(mut read: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match read().await {
            Err(error) if error.is_compacted() => {}
            done => return done,
        }
    }
    read().await
}

#[cfg(test)]
mod tests {
    use tidewatch_core::Revision;

    use super::*;

    fn overtaken() -> Error {
        let (requested, oldest) = (Revision(1), Revision(2));
        Error::Keyspace(tidewatch_core::Error::Compacted { requested, oldest })
    }

    /// Reads with the first so many attempts overtaken.
    async fn with_overtaken(times: usize) -> (usize, Result<(), Error>) {
        let mut attempts = 0;
        let done = undisturbed(|| {
            attempts += 1;
            let done = if attempts > times {
                Ok(())
            } else {
                Err(overtaken())
            };
            std::future::ready(done)
        });
        let done = done.await;
        (attempts, done)
    }

    #[tokio::test]
    async fn a_read_that_compaction_overtakes_starts_over_and_not_for_ever() {
        for times in 0..MAX_ATTEMPTS {
            let (attempts, done) = with_overtaken(times).await;
            assert_eq!((attempts, done.is_ok()), (times + 1, true));
        }
        let (attempts, done) = with_overtaken(MAX_ATTEMPTS).await;
        assert_eq!((attempts, done.is_ok()), (MAX_ATTEMPTS, false));
    }

    #[tokio::test]
    async fn another_error_is_told_at_once() {
        let mut attempts = 0;
        let done: Result<(), _> = undisturbed(|| {
            attempts += 1;
            std::future::ready(Err(Error::Keyspace(tidewatch_core::Error::Closed)))
        })
        .await;
        assert!(done.is_err());
        assert_eq!(attempts, 1);
    }
}
