//! A thousand seeds of the simulation: the store and the watch plane with a disk that fails and a process that ends.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::ops::Range;

use tidewatch_tests::simulation::{Coverage, Options, STEPS, run};

/// Runs these seeds, and says how to see what happened in one that breaks a promise. In each quarter everything has to
/// happen that a simulation is for: what never happens is not tested.
fn keep_every_promise(seeds: Range<u64>) {
    let mut coverage = Coverage::default();
    for seed in seeds {
        let run = run(Options {
            seed,
            steps: STEPS,
            traced: false,
        });
        if let Some(violation) = run.violation {
            panic!("seed {seed} breaks a promise, see `cargo xtask sim --seed {seed}`\n{violation}");
        }
        coverage.add(&run.coverage);
    }
    assert_eq!(coverage.missing(), [""; 0], "did not happen at all\n{coverage}");
}

#[test]
fn seeds_0_to_249_keep_every_promise() {
    keep_every_promise(0..250);
}

#[test]
fn seeds_250_to_499_keep_every_promise() {
    keep_every_promise(250..500);
}

#[test]
fn seeds_500_to_749_keep_every_promise() {
    keep_every_promise(500..750);
}

#[test]
fn seeds_750_to_999_keep_every_promise() {
    keep_every_promise(750..1000);
}

#[test]
fn a_seed_gives_the_same_trace_every_time() {
    for seed in 0..24 {
        let traced = || {
            run(Options {
                seed,
                steps: STEPS,
                traced: true,
            })
            .trace
        };
        let (first, second) = (traced(), traced());
        assert!(first.lines().count() > 100, "a trace says what happened");
        let differs = first
            .lines()
            .zip(second.lines())
            .find(|(first, second)| first != second);
        assert_eq!(differs, None, "of seed {seed}");
        assert_eq!(first.len(), second.len(), "of seed {seed}");
    }
}
