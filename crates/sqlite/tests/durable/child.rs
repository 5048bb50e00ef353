//! Tests that need a process of their own run this binary again, with one ignored test as its `main`.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIR: &str = "TIDEWATCH_TEST_DIR";
const ROLE: &str = "TIDEWATCH_TEST_ROLE";
const SEED: &str = "TIDEWATCH_TEST_SEED";

/// What a child was told.
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) role: String,
    pub(crate) seed: u64,
}

/// The arguments and environment that make this binary run the test `main`.
pub(crate) fn prepare<'a>(
    command: &'a mut Command,
    main: &str,
    dir: &Path,
    role: &str,
    seed: u64,
) -> &'a mut Command {
    command
        .args([main, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROLE, role)
        .env(SEED, seed.to_string())
}

pub(crate) fn this_binary() -> PathBuf {
    env::current_exe().expect("the system knows which binary runs")
}

/// None when somebody runs the ignored tests by hand: there is nothing to do then.
pub(crate) fn orders() -> Option<Orders> {
    let orders = Orders {
        dir: env::var_os(DIR)?.into(),
        role: env::var(ROLE).ok()?,
        seed: env::var(SEED).ok()?.parse().ok()?,
    };
    // The test harness has begun a line with the test's name.
    say("");
    Some(orders)
}

/// Writes a line in one system call: what was written before a kill is whole, and a trace shows it.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// A test's own seed, printed so that a failure can be repeated with `TIDEWATCH_SEED`.
pub(crate) fn seed() -> u64 {
    let seed = env::var("TIDEWATCH_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    say(&format!("TIDEWATCH_SEED={seed}"));
    seed
}

/// Says loudly that a test could not run, and fails where that is asked for.
pub(crate) fn not_run(test: &str, reason: &str) {
    say(&format!("NOT RUN: {test}, because {reason}"));
    assert!(
        env::var_os("TIDEWATCH_LIVE_REQUIRED").is_none_or(|required| required != "1"),
        "{test} must run here, but {reason}"
    );
}
