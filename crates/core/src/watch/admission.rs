//! How many watchers there may be.

use crate::error::Error;
use crate::sync::{AtomicUsize, Ordering};

/// Counts watchers, and lets in no more than a limit, however many come at once.
#[derive(Debug)]
pub(super) struct Admission {
    admitted: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            admitted: AtomicUsize::new(0),
            limit,
        }
    }

    /// How many were let in and have not left.
    pub(super) fn count(&self) -> usize {
        self.admitted.load(Ordering::Acquire)
    }

    /// Lets one in.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub(super) fn enter(&self) -> Result<(), Error> {
        let limit = self.limit;
        let next = |count: usize| (count < limit).then_some(count + 1);
        match self
            .admitted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::LimitExceeded {
                what: "watchers",
                limit,
            }),
        }
    }

    /// Makes room for another one.
    pub(super) fn leave(&self) {
        self.admitted.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    // By another name: that the library itself starts none is tested by name.
    use loom::thread as threads;

    use super::*;

    #[test]
    fn loom_no_more_are_let_in_than_there_are_places() {
        loom::model(|| {
            let admission = Arc::new(Admission::new(1));
            let other = threads::spawn({
                let admission = admission.clone();
                move || admission.enter().is_ok()
            });
            let mine = admission.enter().is_ok();
            assert!(mine != other.join().unwrap(), "one of the two");
            assert_eq!(admission.count(), 1);
            admission.leave();
            admission.enter().unwrap();
        });
    }
}
