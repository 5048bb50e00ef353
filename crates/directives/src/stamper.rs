//! Writing sets down again that others wrote without us, with lives that say until when.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tidewatch_core::{Backoff, BoxFuture, Clock};

use crate::directive::DirectiveSet;
use crate::error::Error;
use crate::publisher::Publisher;
use crate::snapshot::Origin;

/// Between attempts to write: soon at first, since most that fail meet a restart, and in the end rarely, since a keyspace
/// that is full refuses them for hours, from every server.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A set whose lives only say how long.
#[derive(Clone, Debug)]
pub(crate) struct Unstamped {
    pub(crate) origin: Origin,
    pub(crate) set: DirectiveSet,
    /// From when its lives count.
    pub(crate) first_seen: SystemTime,
}

type Write = dyn Fn(Unstamped) -> BoxFuture<'static, Result<bool, Error>> + Send;

/// Stamps one set at a time, the one that is in force, beside whatever its owner waits for.
pub(crate) struct Stamper {
    write: Box<Write>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    work: Work,
    /// What was last said to have failed, so that it is said once.
    warned_of: Option<Origin>,
}

enum Work {
    Nothing,
    /// Ends in `Nothing`, or in `Pausing` if it fails.
    Writing(Unstamped, BoxFuture<'static, Result<bool, Error>>),
    /// Ends in `Writing`.
    Pausing(Unstamped, BoxFuture<'static, ()>),
}

impl Stamper {
    pub(crate) fn new(publisher: Publisher, clock: Arc<dyn Clock>) -> Self {
        let publisher = Arc::new(publisher);
        let write = move |found: Unstamped| -> BoxFuture<'static, _> {
            let publisher = publisher.clone();
            let Unstamped {
                origin,
                set,
                first_seen,
            } = found;
            Box::pin(async move { publisher.stamp(set, origin.revision, first_seen).await })
        };
        Self::with_write(Box::new(write), clock)
    }

    fn with_write(write: Box<Write>, clock: Arc<dyn Clock>) -> Self {
        let (base, max) = BACKOFF;
        Self {
            write,
            clock,
            backoff: Backoff::new(base, max),
            work: Work::Nothing,
            warned_of: None,
        }
    }

    /// Takes note of what is in force: a set to be stamped, or none. What was being written before is given up, for it has
    /// been replaced.
    pub(crate) fn note(&mut self, found: Option<Unstamped>) {
        let known = match &self.work {
            Work::Nothing => None,
            Work::Writing(known, _) | Work::Pausing(known, _) => Some(known.origin),
        };
        if found.as_ref().map(|found| found.origin) == known {
            return;
        }
        self.backoff.reset();
        self.work = found.map_or(Work::Nothing, |found| self.begin(found));
    }

    fn begin(&self, found: Unstamped) -> Work {
        let writing = (self.write)(found.clone());
        Work::Writing(found, writing)
    }

    /// Goes on for as long as it can without waiting.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let next = match &mut self.work {
                Work::Nothing => return,
                Work::Writing(found, writing) => match writing.as_mut().poll(cx) {
                    Poll::Pending => return,
                    // If it was not written, somebody else has changed the set, and it will be heard of.
                    Poll::Ready(Ok(_)) => Work::Nothing,
                    Poll::Ready(Err(error)) => {
                        if self.warned_of != Some(found.origin) {
                            self.warned_of = Some(found.origin);
                            let revision = found.origin.revision;
                            tracing::warn!(%revision, %error, "the directives were not stamped");
                        }
                        if matches!(error, Error::Rejected(_)) {
                            Work::Nothing
                        } else {
                            let pause = self.clock.sleep(self.backoff.next_delay());
                            Work::Pausing(found.clone(), pause)
                        }
                    }
                },
                Work::Pausing(found, pause) => {
                    if pause.as_mut().poll(cx).is_pending() {
                        return;
                    }
                    let found = found.clone();
                    self.begin(found)
                }
            };
            self.work = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use tidewatch_core::{KeyspaceId, ManualClock, Revision};

    use super::*;

    fn found(revision: u64) -> Unstamped {
        Unstamped {
            origin: Origin {
                keyspace: KeyspaceId(7),
                revision: Revision(revision),
            },
            set: DirectiveSet::new(),
            first_seen: SystemTime::UNIX_EPOCH,
        }
    }

    /// A stamper whose writes go as `write` says, and the revisions that it tried to write at.
    fn stamper(
        clock: &ManualClock,
        write: fn() -> BoxFuture<'static, Result<bool, Error>>,
    ) -> (Stamper, Arc<Mutex<Vec<u64>>>) {
        let tried = Arc::new(Mutex::new(Vec::new()));
        let seen = tried.clone();
        let write = move |found: Unstamped| {
            seen.lock().unwrap().push(found.origin.revision.0);
            write()
        };
        let stamper = Stamper::with_write(Box::new(write), Arc::new(clock.clone()));
        (stamper, tried)
    }

    fn poll(stamper: &mut Stamper) {
        stamper.poll(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn a_keyspace_that_refuses_writes_is_asked_less_and_less_often() {
        let clock = ManualClock::new();
        let refused = || -> BoxFuture<'static, _> {
            Box::pin(std::future::ready(Err(tidewatch_core::Error::Closed.into())))
        };
        let (mut stamper, tried) = stamper(&clock, refused);
        let hour = clock.now() + Duration::from_secs(3600);
        while clock.now() < hour {
            // The set in force is looked at again with every progress.
            stamper.note(Some(found(2)));
            poll(&mut stamper);
            clock.advance(Duration::from_millis(500));
        }
        let count = tried.lock().unwrap().len();
        // Pauses come to half a minute on average.
        assert!((60..300).contains(&count), "{count}");
        stamper.note(Some(found(3)));
        poll(&mut stamper);
        assert_eq!(
            tried.lock().unwrap().last(),
            Some(&3),
            "another set has no pause before it"
        );
    }

    #[test]
    fn a_write_that_hangs_keeps_nobody_waiting_and_gives_way_to_another_set() {
        let clock = ManualClock::new();
        let (mut stamper, tried) = stamper(&clock, || Box::pin(std::future::pending()));
        stamper.note(Some(found(2)));
        poll(&mut stamper);
        poll(&mut stamper);
        stamper.note(Some(found(3)));
        poll(&mut stamper);
        assert_eq!(*tried.lock().unwrap(), [2, 3]);
        stamper.note(None);
        assert!(matches!(stamper.work, Work::Nothing));
    }

    #[test]
    fn what_is_written_is_written_once() {
        let clock = ManualClock::new();
        let (mut stamper, tried) = stamper(&clock, || Box::pin(std::future::ready(Ok(true))));
        stamper.note(Some(found(2)));
        poll(&mut stamper);
        poll(&mut stamper);
        assert_eq!(*tried.lock().unwrap(), [2]);
    }
}
