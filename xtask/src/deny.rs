//! `cargo xtask deny`: the rules of `deny.toml` for licenses, duplicate or banned crates, and where crates come from.

use anyhow::bail;

use crate::process::{self, report};

const HOW_TO_GET_IT: &str = "get it with `cargo install cargo-deny --locked`";

/// Check the dependencies' licenses, bans and sources.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check the known vulnerabilities instead, for which cargo-deny fetches its database.
    #[arg(long)]
    pub(crate) advisories: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !process::has_cargo_tool("deny") {
        if process::in_ci() || args.advisories {
            bail!("cargo-deny is missing; {HOW_TO_GET_IT}");
        }
        report(&format!(
            "NOT CHECKED: licenses, bans and sources, because cargo-deny is missing; {HOW_TO_GET_IT}"
        ));
        return Ok(());
    }
    let mut command = process::cargo(["deny", "--workspace", "--all-features", "check"]);
    command.args(if args.advisories {
        ["advisories"].as_slice()
    } else {
        ["bans", "licenses", "sources"].as_slice()
    });
    process::run(&mut command)
}
