//! `cargo xtask loom`: the tests that try every order in which threads can see each other's atomics.

use crate::{process, workspace};

/// What the names of these tests begin with. The others are not made for loom's atomics.
const TESTS: &str = "loom_";

pub(crate) fn run() -> anyhow::Result<()> {
    // A folder of its own: with other flags cargo would build everything else anew each time.
    let target = workspace::metadata()?.target_directory.join("loom");
    let mut command = process::cargo(["test", "--package", "tidewatch-core", "--lib", TESTS]);
    process::run(
        command
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", target),
    )
}
