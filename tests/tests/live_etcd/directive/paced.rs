//! Clocks for stores on a real etcd: one with a pace of its own, and one that remembers what was waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tidewatch_core::{BoxFuture, Clock, SystemClock};

/// Runs so many times as fast as the machine's.
#[derive(Debug)]
pub(super) struct PacedClock {
    began: Instant,
    began_at: SystemTime,
    times: f64,
}

impl PacedClock {
    pub(super) fn shared(times: f64) -> Arc<dyn Clock> {
        Arc::new(Self {
            began: SystemClock.now(),
            began_at: SystemClock.system_time(),
            times,
        })
    }

    fn passed(&self) -> Duration {
        (SystemClock.now() - self.began).mul_f64(self.times)
    }
}

impl Clock for PacedClock {
    fn now(&self) -> Instant {
        self.began + self.passed()
    }

    fn system_time(&self) -> SystemTime {
        self.began_at + self.passed()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        SystemClock.sleep(deadline.saturating_duration_since(self.now()).div_f64(self.times))
    }
}

/// Runs as the machine's, and remembers how long whoever waits has planned to.
#[derive(Debug, Default)]
pub(super) struct RememberingClock {
    planned: Mutex<Vec<Duration>>,
}

impl RememberingClock {
    /// Takes what was planned since the last time.
    pub(super) fn take_planned(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.planned.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for RememberingClock {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn system_time(&self) -> SystemTime {
        SystemClock.system_time()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let planned = deadline.saturating_duration_since(self.now());
        self.planned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(planned);
        SystemClock.sleep_until(deadline)
    }
}
