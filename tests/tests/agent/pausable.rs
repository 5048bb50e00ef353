//! A future that can be stopped as SIGSTOP stops a process: it is not polled, and time goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The switch. Clones switch the same future.
#[derive(Clone, Default)]
pub(crate) struct Pause(Arc<Mutex<Switch>>);

#[derive(Default)]
struct Switch {
    paused: bool,
    waker: Option<Waker>,
}

impl Pause {
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().paused = true;
    }

    pub(crate) fn go_on(&self) {
        let mut switch = self.0.lock().unwrap();
        switch.paused = false;
        if let Some(waker) = switch.waker.take() {
            waker.wake();
        }
    }

    /// The future under this switch.
    pub(crate) fn over<F: Future + Send>(&self, future: F) -> Pausable<F> {
        Pausable {
            pause: self.clone(),
            future: Box::pin(future),
        }
    }
}

pub(crate) struct Pausable<F> {
    pause: Pause,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut switch = self.pause.0.lock().unwrap();
            if switch.paused {
                switch.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.future.as_mut().poll(cx)
    }
}
