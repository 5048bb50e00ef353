//! `cargo xtask feature-sets`: each crate by itself, as somebody who takes only that crate builds it.
//!
//! In a build of the whole workspace cargo adds up the features that all members ask of a dependency. A crate that forgot to
//! ask for `tokio/net` compiles there and nowhere else; here it does not. The sets come from the manifests: without features,
//! with each one alone, and with all.

use std::collections::BTreeSet;

use anyhow::bail;
use cargo_metadata::{Package, TargetKind};

use crate::process;

/// Lint every crate by itself, with each of its feature sets.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Args {
    /// Only compile, for a Rust whose clippy is not the one we keep clean for.
    #[arg(long)]
    pub(crate) no_lints: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let metadata = crate::workspace::metadata()?;
    let crates_dir = metadata.workspace_root.join("crates");
    let mut failed = Vec::new();
    for package in metadata.workspace_packages() {
        if !package.manifest_path.starts_with(&crates_dir) {
            continue;
        }
        for set in feature_sets(package) {
            if let Err(error) = check(package, &set, args) {
                failed.push(format!("{error:#}"));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} feature sets fail:\n  {}", failed.len(), failed.join("\n  "))
}

/// No features, each alone, all of them; each set once.
fn feature_sets(package: &Package) -> BTreeSet<Vec<&str>> {
    let features: Vec<_> = package
        .features
        .keys()
        .map(String::as_str)
        .filter(|&name| name != "default")
        .collect();
    let mut sets: BTreeSet<_> = features.iter().map(|&feature| vec![feature]).collect();
    sets.insert(Vec::new());
    sets.insert(features);
    sets
}

fn check(package: &Package, features: &[&str], args: Args) -> anyhow::Result<()> {
    let subcommand = if args.no_lints { "check" } else { "clippy" };
    let mut command = process::cargo([
        subcommand,
        "--package",
        package.name.as_str(),
        "--no-default-features",
    ]);
    let is_library = package
        .targets
        .iter()
        .any(|target| target.kind.contains(&TargetKind::Lib));
    command.arg(if is_library { "--lib" } else { "--bins" });
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    if !args.no_lints {
        command.args(["--", "-D", "warnings"]);
    }
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_of_docker_are_with_and_without_bollard_and_tls() {
        let metadata = crate::workspace::metadata().unwrap();
        let docker = metadata
            .packages
            .iter()
            .find(|package| package.name == "tidewatch-docker")
            .unwrap();
        assert_eq!(
            feature_sets(docker),
            BTreeSet::from([vec![], vec!["bollard"], vec!["tls"], vec!["bollard", "tls"]])
        );
    }
}
