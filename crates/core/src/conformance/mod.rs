//! What every backend and every journal must do, as tests for those who write one.
//!
//! Behind the feature `conformance`, for use in `#[cfg(test)]`:
//! [`journal_conformance!`](crate::journal_conformance) and
//! [`backend_conformance!`](crate::backend_conformance) expand to plain `#[test]` functions and need
//! no other dependency. [`MemoryJournal`] is a journal that fails and waits when it is told to, and
//! [`intercepted`] makes a keyspace whose calls do.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod backend;
mod intercept;
pub mod journal;
mod memory_journal;

pub use backend::{Capabilities, Subject};
pub use intercept::{Call, Intercept, intercepted};
pub use memory_journal::MemoryJournal;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Runs a future to its end on this thread. Enough for whatever needs no timer and no network of an
/// async runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs `body` to its end while `driver` runs beside it.
pub async fn drive<T>(driver: impl Future<Output = ()>, body: impl Future<Output = T>) -> T {
    let (mut driver, mut body) = (pin!(driver), pin!(body));
    let mut driving = true;
    poll_fn(|cx| {
        driving = driving && driver.as_mut().poll(cx).is_pending();
        body.as_mut().poll(cx)
    })
    .await
}

/// Runs `first` and `second` to their ends at the same time.
pub async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(cx)
        {
            a = Some(output);
        }
        if b.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(cx)
        {
            b = Some(output);
        }
        match (a.take(), b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (first, second) => {
                (a, b) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Keyspace;

    mod in_memory {
        use super::*;

        async fn subject() -> Subject {
            Subject::embedded(Keyspace::builder()).await.unwrap()
        }

        crate::backend_conformance!(block_on, subject);
    }

    mod journaled {
        use super::*;

        async fn subject() -> Subject {
            let builder = Keyspace::builder().journal(MemoryJournal::new());
            Subject::embedded(builder).await.unwrap()
        }

        crate::backend_conformance!(block_on, subject);
    }

    mod memory_journal {
        use super::*;

        fn in_memory() -> impl FnMut() -> MemoryJournal {
            let journal = MemoryJournal::new();
            move || journal.clone()
        }

        crate::journal_conformance!(in_memory);
    }
}
