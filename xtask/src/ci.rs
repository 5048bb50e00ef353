//! `cargo xtask ci`: `check`, then `test`.

use crate::{check, test};

pub(crate) fn run(args: test::Args) -> anyhow::Result<()> {
    // The tests run even where the check failed: one run shows everything there is to mend.
    let checked = check::run();
    let tested = test::run(args);
    checked.and(tested)
}
