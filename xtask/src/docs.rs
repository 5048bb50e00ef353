//! `cargo xtask docs`: the documentation of our crates, with every warning an error.

use crate::process;

/// Build the API documentation; any warning fails.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Open it in a browser.
    #[arg(long)]
    pub(crate) open: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = process::cargo(["doc", "--workspace", "--all-features", "--no-deps"]);
    if args.open {
        command.arg("--open");
    }
    // Ours come first, and what the caller set stays.
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    process::run(command.env("RUSTDOCFLAGS", format!("-D warnings {flags}").trim_end()))
}
