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
    backend: fn() -> bool,
    /// Why it does not run, as the end of a sentence.
    pub(crate) missing: &'static str,
}

/// All live suites.
pub(crate) const SUITES: &[Suite] = &[DOCKER];

const DOCKER: Suite = Suite {
    name: "docker",
    feature: "live-docker",
    test_target: "live_docker",
    backend: docker_is_here,
    missing: "neither DOCKER_HOST nor /var/run/docker.sock leads to an engine",
};

impl Suite {
    /// Whether the backend seems to be there. The tests themselves find out for certain.
    pub(crate) fn is_present(&self) -> bool {
        (self.backend)()
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
}

impl Backend {
    fn suite(self) -> &'static Suite {
        match self {
            Self::Docker => &DOCKER,
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

fn docker_is_here() -> bool {
    std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty())
        || Path::new("/var/run/docker.sock").exists()
}
