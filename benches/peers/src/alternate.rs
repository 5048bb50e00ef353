//! Taking turns, and medians.

use std::time::Duration;

use anyhow::{Context, Result};

/// How often each side is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Measurements of each side.
    pub repetitions: usize,
}

/// A name and a measurement.
pub type Side<T> = (&'static str, fn() -> Result<T>);

/// Measures all sides in turn, as often as planned. Returns, for each side, what it measured.
///
/// # Errors
/// The first measurement that fails ends it: a median of what is left would be of other conditions.
pub fn alternate<T, const N: usize>(plan: Plan, bench: &str, sides: [Side<T>; N]) -> Result<[Vec<T>; N]> {
    let mut measured = [(); N].map(|()| Vec::with_capacity(plan.repetitions));
    for repetition in 1..=plan.repetitions {
        for ((name, measure), measured) in sides.iter().zip(&mut measured) {
            progress(&format!("{bench}: {name}, {repetition} of {}", plan.repetitions));
            measured.push(measure().with_context(|| format!("{bench}: {name}"))?);
        }
    }
    Ok(measured)
}

/// The middle one, or the mean of the two in the middle.
///
/// # Panics
/// There is none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    assert!(!figures.is_empty(), "the median of nothing");
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    }
}

/// The time that this fraction of all stays within.
///
/// # Panics
/// There is none.
pub fn percentile(times: &mut [Duration], fraction: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let at = ((times.len() - 1) as f64 * fraction).ceil() as usize;
    *times.select_nth_unstable(at).1
}

#[expect(
    clippy::print_stderr,
    reason = "the person who waits sees what is going on; stdout has the figures"
)]
fn progress(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.5), Duration::from_millis(51));
        assert_eq!(percentile(&mut times, 0.99), Duration::from_millis(100));
    }

    #[test]
    fn sides_take_turns() {
        let sides: [Side<u8>; 2] = [("ours", || Ok(1)), ("theirs", || Ok(2))];
        let [ours, theirs] = alternate(Plan { repetitions: 3 }, "bench", sides).expect("no side fails");
        assert_eq!((ours, theirs), (vec![1; 3], vec![2; 3]));
    }
}
