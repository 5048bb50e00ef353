//! Everything that a run leaves to chance, from one seed.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Throws that the seed decides. Each actor has dice of its own, so that one which throws more often changes nothing for
/// the others.
#[derive(Debug)]
pub(crate) struct Dice {
    rng: RefCell<fastrand::Rng>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Dice for somebody else.
    pub(crate) fn fork(&self) -> Self {
        Self {
            rng: RefCell::new(self.rng.borrow_mut().fork()),
        }
    }

    pub(crate) fn number(&self, among: RangeInclusive<u64>) -> u64 {
        self.rng.borrow_mut().u64(among)
    }

    /// A number below `count`, which is not zero.
    pub(crate) fn below(&self, count: usize) -> usize {
        self.rng.borrow_mut().usize(..count)
    }

    /// Yes, in so many cases of a thousand.
    pub(crate) fn chance(&self, per_mille: u32) -> bool {
        self.rng.borrow_mut().u32(..1000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    pub(crate) fn millis(&self, among: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(among))
    }
}
