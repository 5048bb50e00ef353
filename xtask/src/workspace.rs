//! Where things are in the tree.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cargo_metadata::{Metadata, MetadataCommand};

use crate::process;

/// The root of the workspace that this task was built from.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; the built-in path serves a binary that is started by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// The packages of the workspace and their features, without the crates they depend on.
pub(crate) fn metadata() -> anyhow::Result<Metadata> {
    let manifest = root().join("Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .context("cannot read the workspace's metadata")
}

/// Where a release build put the binary.
pub(crate) fn binary(profile: &str, name: &str) -> anyhow::Result<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(metadata()?
        .target_directory
        .into_std_path_buf()
        .join(profile)
        .join(file))
}

/// The target triple that `rustc` builds for when none is asked for.
pub(crate) fn host_triple() -> anyhow::Result<String> {
    let version = process::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    Ok(host.to_owned())
}
