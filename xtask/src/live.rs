//! `cargo xtask live`: the tests against real backends.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::{process, test};

/// Live tests that share a backend. They are gated by a feature of `tidewatch-tests` and by the name of their file.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    feature: &'static str,
    test_target: &'static str,
    backend: fn() -> Result<(), String>,
}

/// All live suites.
pub(crate) const SUITES: &[Suite] = &[DOCKER, ETCD];

const DOCKER: Suite = Suite {
    name: "docker",
    feature: "live-docker",
    test_target: "live_docker",
    backend: a_docker_daemon_can_start,
};

const ETCD: Suite = Suite {
    name: "etcd",
    feature: "live-etcd",
    test_target: "live_etcd",
    backend: an_etcd_can_start,
};

impl Suite {
    /// Why the suite cannot run here, as the end of a sentence. The tests find out for themselves and say so too, but what a
    /// test prints is shown only where it fails.
    pub(crate) fn obstacle(&self) -> Option<String> {
        (self.backend)().err()
    }

    /// The feature as `--features` takes it in a workspace.
    pub(crate) fn feature_flag(&self) -> String {
        format!("tidewatch-tests/{}", self.feature)
    }
}

/// Run one live suite and insist on its backend.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to test against.
    backend: Backend,
    /// Only tests whose names contain this.
    filter: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Docker,
    Etcd,
}

impl Backend {
    fn suite(self) -> &'static Suite {
        match self {
            Self::Docker => &DOCKER,
            Self::Etcd => &ETCD,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let suite = args.backend.suite();
    let mut command = test::runner();
    // `--workspace` selects the features that `cargo xtask test` builds with, so the two share their dependencies.
    command.args([
        "--workspace",
        "--features",
        &suite.feature_flag(),
        "--test",
        suite.test_target,
    ]);
    command.args(&args.filter);
    process::run(set_required(&mut command, true))
}

/// Tells the tests whether a missing backend is a failure.
pub(crate) fn set_required(command: &mut Command, required: bool) -> &mut Command {
    if required {
        command.env("TIDEWATCH_LIVE_REQUIRED", "1")
    } else {
        command
    }
}

/// Each live test starts an engine of its own, with an image made of a static busybox.
fn a_docker_daemon_can_start() -> Result<(), String> {
    if let Some(missing) = ["dockerd", "docker", "tar"]
        .into_iter()
        .find(|program| !is_in_path(program))
    {
        return Err(format!("`{missing}` is not in the PATH"));
    }
    if !Path::new("/bin/busybox").exists() {
        return Err("/bin/busybox is missing (on Debian: `apt-get install busybox-static`)".to_owned());
    }
    if is_root() {
        Ok(())
    } else {
        Err("only root can start a Docker daemon".to_owned())
    }
}

/// Each live test starts an etcd of its own; the clients are etcd's own and Python's.
fn an_etcd_can_start() -> Result<(), String> {
    for (program, package) in [
        ("etcd", "etcd-server"),
        ("etcdctl", "etcd-client"),
        ("python3", "python3-venv"),
    ] {
        if !is_in_path(program) {
            return Err(format!(
                "`{program}` is not in the PATH (on Debian: `apt-get install {package}`)"
            ));
        }
    }
    Ok(())
}

/// Tests among those that always run which cannot do so here, and why, as the end of a sentence. They too find out for
/// themselves, where it is not shown.
pub(crate) fn lone_obstacles() -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    if !is_in_path("strace") {
        found.push((
            "the journal's tests of syncs",
            "`strace` is not in the PATH (on Debian: `apt-get install strace`)",
        ));
    }
    if !is_in_path("prometheus") {
        found.push((
            "the live test of Prometheus' service discovery",
            "`prometheus` is not in the PATH (on Debian: `apt-get install prometheus`)",
        ));
    }
    if !is_root() {
        found.push((
            "the journal's tests of a full disk",
            "only root can mount a small one",
        ));
    }
    found
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0")
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
