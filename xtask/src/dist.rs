//! `cargo xtask dist`: a release, packed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::process::{self, report};
use crate::{protoc, workspace};

/// What goes beside the binary.
const DOCUMENTS: &[&str] = &["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The profile of what is shipped.
const PROFILE: &str = "dist";

/// Builds what is shipped, with everything in it, and returns where it is.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let mut build = process::cargo([
        "build",
        "--profile",
        PROFILE,
        "--locked",
        "--package",
        "tidewatch",
        "--features",
        "etcd",
    ]);
    protoc::supply(&mut build)?;
    process::run(&mut build)?;
    workspace::binary(PROFILE, "tidewatch")
}

pub(crate) fn run() -> anyhow::Result<()> {
    let binary = build()?;
    let metadata = workspace::metadata()?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name == "tidewatch");
    let version = &package
        .context("the workspace has no package `tidewatch`")?
        .version;
    let name = format!("tidewatch-{version}-{}", workspace::host_triple()?);
    let root = workspace::root();
    let dist = root.join("dist");
    let folder = dist.join(&name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let file_name = binary.file_name().context("the binary's path has no file name")?;
    fs::copy(&binary, folder.join(file_name)).with_context(|| format!("cannot copy {}", binary.display()))?;
    for document in DOCUMENTS {
        fs::copy(root.join(document), folder.join(document))
            .with_context(|| format!("cannot copy {document}"))?;
    }
    let archive = format!("{name}.tar.gz");
    process::run(
        Command::new("tar")
            .current_dir(&dist)
            .args(["-czf", &archive, &name]),
    )?;
    report(&format!("dist/{archive} is ready"));
    Ok(())
}
