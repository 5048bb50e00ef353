//! Time, as something that is handed in.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use crate::backend::BoxFuture;

/// Where time comes from. Everything in Tidewatch that looks at a clock or waits for a moment does
/// it through this trait, so that tests can move time by hand.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// A moment that never goes back, for durations and deadlines.
    fn now(&self) -> Instant;

    /// The wall clock, for people and for times that others set. It may jump.
    fn system_time(&self) -> SystemTime;

    /// Waits until `now()` is `deadline` or later.
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;

    /// Waits for a duration.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now() + duration)
    }

    /// How long the machine has been up, for durations that a restart of the process must not begin anew.
    /// None where that cannot be known.
    fn uptime(&self) -> Option<Uptime> {
        None
    }
}

/// How long a machine has been up since one particular start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which start: uptimes of different ones say nothing about each other.
    pub boot: u128,
    /// For how long, times of sleep included.
    pub elapsed: Duration,
}

/// The machine's clock and tokio's timer.
///
/// Waiting needs a tokio runtime with its timer enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The clock, ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where time comes from"
    )]
    fn now(&self) -> Instant {
        // Tokio's clock is the machine's, unless a test has paused it; then sleeps agree with it.
        tokio::time::Instant::now().into_std()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where time comes from"
    )]
    fn system_time(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }

    /// As Linux tells it, in hundredths of a second.
    fn uptime(&self) -> Option<Uptime> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        parse_uptime(&boot, &uptime)
    }
}

fn parse_uptime(boot: &str, uptime: &str) -> Option<Uptime> {
    let seconds = uptime.split_whitespace().next()?.parse().ok()?;
    Some(Uptime {
        boot: u128::from_str_radix(&boot.trim().replace('-', ""), 16).ok()?,
        elapsed: Duration::try_from_secs_f64(seconds).ok()?,
    })
}

/// A clock that stands still until it is told to move. Needs no runtime.
///
/// Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug)]
struct ManualState {
    boot: u128,
    started: Instant,
    now: Instant,
    system: SystemTime,
    next_sleeper: u64,
    /// Ordered by deadline, so that `advance` wakes in that order.
    sleepers: BTreeMap<(Instant, u64), Waker>,
}

impl ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be had from the machine; it never moves again"
    )]
    pub fn new() -> Self {
        let started = Instant::now();
        let state = ManualState {
            boot: fastrand::u128(..),
            started,
            now: started,
            system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            next_sleeper: 0,
            sleepers: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Moves both clocks forward and wakes whoever was waiting for a moment that has come.
    pub fn advance(&self, by: Duration) {
        let woken = {
            let mut state = self.lock();
            state.now += by;
            state.system += by;
            let now = state.now;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Sets the wall clock alone, as an administrator or a time server does.
    pub fn set_system_time(&self, to: SystemTime) {
        self.lock().system = to;
    }

    /// The earliest moment somebody waits for.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().sleepers.keys().next().map(|&(deadline, _)| deadline)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.lock().now
    }

    fn system_time(&self) -> SystemTime {
        self.lock().system
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(ManualSleep {
            clock: self.clone(),
            deadline,
            sleeper: None,
        })
    }

    /// Since the clock was made, each being a machine of its own.
    fn uptime(&self) -> Option<Uptime> {
        let state = self.lock();
        Some(Uptime {
            boot: state.boot,
            elapsed: state.now - state.started,
        })
    }
}

struct ManualSleep {
    clock: ManualClock,
    deadline: Instant,
    sleeper: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.lock();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let sleeper = *self.sleeper.get_or_insert_with(|| {
            state.next_sleeper += 1;
            state.next_sleeper
        });
        state
            .sleepers
            .insert((self.deadline, sleeper), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(sleeper) = self.sleeper {
            self.clock.lock().sleepers.remove(&(self.deadline, sleeper));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_is_read_as_linux_writes_it() {
        let boot = "0f9ab8e0-93a5-4bd3-a2c0-0d2ffb2a2d10\n";
        let uptime = parse_uptime(boot, "350735.47 234388.90\n").unwrap();
        assert_eq!(uptime.boot, 0x0f9a_b8e0_93a5_4bd3_a2c0_0d2f_fb2a_2d10);
        assert_eq!(uptime.elapsed, Duration::from_millis(350_735_470));
        assert_eq!(parse_uptime(boot, ""), None);
        assert_eq!(parse_uptime("no id", "1.00 2.00"), None);
        assert_eq!(parse_uptime(boot, "-1.00 2.00"), None);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_moment_has_come_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(Duration::from_secs(5));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_millis(4_999));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_millis(1));
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_dropped_sleeper_leaves_nothing_behind() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(Duration::from_secs(5));
        assert!(
            sleep
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(clock.next_deadline().is_some());
        drop(sleep);
        assert!(clock.next_deadline().is_none());
    }
}
