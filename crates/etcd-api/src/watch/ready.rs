//! Who of those on a stream has something to say. Only these are looked at when the stream is polled,
//! in the order in which they spoke up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The ones that are ready, each at most once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: Mutex<VecDeque<usize>>,
    stream: AtomicWaker,
}

/// One of those on a stream. As a waker it puts itself into the queue.
#[derive(Debug)]
pub(super) struct Slot {
    key: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    /// The next in turn. It may not be there any more, and it may have nothing to say.
    pub(super) fn pop(&self) -> Option<usize> {
        self.lock().pop_front()
    }

    /// Has the stream's task woken when somebody is ready. Returns whether somebody is already.
    pub(super) fn wait(&self, cx: &Context<'_>) -> bool {
        self.stream.register(cx.waker());
        // Who came before the waker did has woken nobody.
        !self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<usize>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    pub(super) fn new(key: usize, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self {
            key,
            queued: AtomicBool::new(false),
            ready: Arc::clone(ready),
        })
    }

    /// Notes that its turn has come. To be called before it is polled, so that a wake-up from then on
    /// gives it another turn.
    pub(super) fn begin(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Gives it a turn after all who are ready, without waking the stream's task.
    pub(super) fn again(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().push_back(self.key);
        }
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().push_back(self.key);
            self.ready.stream.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_turn_however_often_it_is_woken_and_another_when_it_is_woken_during_it() {
        let ready = Arc::<Ready>::default();
        let (first, second) = (Slot::new(1, &ready), Slot::new(2, &ready));
        for slot in [&first, &second, &first] {
            slot.waker().wake();
        }
        assert_eq!(ready.pop(), Some(1));
        first.begin();
        first.waker().wake();
        assert_eq!([ready.pop(), ready.pop(), ready.pop()], [Some(2), Some(1), None]);
    }

    #[test]
    fn who_is_ready_before_the_stream_waits_is_not_overlooked() {
        let ready = Arc::<Ready>::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(!ready.wait(&cx));
        Slot::new(1, &ready).waker().wake();
        assert!(ready.wait(&cx));
    }
}
