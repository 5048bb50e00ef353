//! Waiting between attempts.

use std::time::Duration;

/// Delays that double from a base up to a maximum, each drawn evenly between zero and the current
/// step ("full jitter"), so that many who failed together do not come back together.
///
/// ```
/// # use std::time::Duration;
/// use tidewatch_core::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// let pause = backoff.next_delay();
/// assert!(pause <= Duration::from_millis(100));
/// backoff.reset(); // after an attempt that worked
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    step: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// Delays of at most `base` at first, and of at most `max` in the end.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self::with_seed(base, max, fastrand::u64(..))
    }

    /// The same, with a choice of seed: equal seeds give equal delays.
    pub fn with_seed(base: Duration, max: Duration, seed: u64) -> Self {
        Self {
            base,
            max,
            step: base.min(max),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.step.mul_f64(self.rng.f64());
        self.step = self.step.saturating_mul(2).min(self.max);
        delay
    }

    /// Starts over, after an attempt that worked.
    pub fn reset(&mut self) {
        self.step = self.base.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_step_that_doubles_up_to_the_maximum() {
        let base = Duration::from_millis(100);
        let max = Duration::from_millis(350);
        for seed in 0..100 {
            let mut backoff = Backoff::with_seed(base, max, seed);
            for limit in [100, 200, 350, 350] {
                assert!(backoff.next_delay() <= Duration::from_millis(limit));
            }
            backoff.reset();
            assert!(backoff.next_delay() <= base);
        }
    }

    #[test]
    fn two_that_failed_together_come_back_apart() {
        let delay =
            |seed| Backoff::with_seed(Duration::from_secs(1), Duration::from_secs(1), seed).next_delay();
        assert_ne!(delay(1), delay(2));
        assert_eq!(delay(1), delay(1));
    }
}
