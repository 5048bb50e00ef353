//! The Python programs of `docs/examples/python`, against an etcd, a server of ours, one on the etcd, and one on that.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tidewatch_tests::etcd::RealEtcd;
use tidewatch_tests::live;
use tidewatch_tests::program::ServerProgram;

use crate::compare::Pair;

/// What is in the way of the package index is found out soon: so many seconds for each of so few attempts.
const PIP_BOUNDS: [&str; 4] = [
    "--timeout=15",
    "--retries=1",
    "--no-input",
    "--disable-pip-version-check",
];

#[test]
fn the_examples_read_write_and_watch() -> anyhow::Result<()> {
    let Some(etcd) = RealEtcd::for_test() else {
        return Ok(());
    };
    let Some(python) = live::backend("Python with packages from PyPI", Python::ready()) else {
        return Ok(());
    };
    let pair = Pair::of(etcd)?;
    let near = ServerProgram::start_on_etcd(&[pair.theirs.to_string()], &[])?;
    let far = ServerProgram::start_on_etcd(&[near.address().to_string()], &[])?;
    for address in [pair.theirs, pair.ours, near.address(), far.address()] {
        for example in ["generated_stubs.py", "with_etcd3.py"] {
            let mut command = python.command();
            command.arg(examples().join(example)).arg(address.to_string());
            let said = run(&mut command)?;
            println!("{example} of {address}:\n{said}");
            assert!(
                said.contains("PUT") || said.contains("PutEvent"),
                "{example}: {said}"
            );
        }
    }
    Ok(())
}

/// A virtual environment in the target directory, with the examples' requirements and stubs of our `.proto` files.
struct Python {
    dir: PathBuf,
}

impl Python {
    /// Makes it where it is not there, or was made for other requirements.
    fn ready() -> anyhow::Result<Self> {
        let requirements = std::fs::read_to_string(examples().join("requirements.txt"))?;
        let python = Self {
            dir: target()?.join("live-etcd-python"),
        };
        let marker = python.dir.join("requirements.txt");
        if std::fs::read_to_string(&marker).ok().as_deref() != Some(requirements.as_str()) {
            if python.dir.exists() {
                std::fs::remove_dir_all(&python.dir)?;
            }
            run(Command::new("python3").args(["-m", "venv"]).arg(&python.dir))
                .context("on Debian: apt-get install python3-venv")?;
            let mut pip = python.command();
            pip.args(["-m", "pip", "install", "--quiet"]).args(PIP_BOUNDS);
            run(pip.arg("--requirement").arg(examples().join("requirements.txt")))?;
            std::fs::write(marker, requirements)?;
        }
        python.generate_stubs()?;
        Ok(python)
    }

    fn generate_stubs(&self) -> anyhow::Result<()> {
        let (protos, stubs) = (root().join("crates/proto/proto"), self.stubs());
        std::fs::create_dir_all(&stubs)?;
        let mut command = self.command();
        command
            .args(["-m", "grpc_tools.protoc"])
            .arg(format!("--proto_path={}", protos.display()))
            .arg(format!("--python_out={}", stubs.display()))
            .arg(format!("--grpc_python_out={}", stubs.display()));
        for file in std::fs::read_dir(protos.join("etcd"))? {
            command.arg(file?.path());
        }
        run(&mut command).map(drop)
    }

    fn stubs(&self) -> PathBuf {
        self.dir.join("stubs")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.dir.join("bin/python"));
        command
            .env("PYTHONPATH", self.stubs())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // The code that is generated in etcd3 is too old for the faster one.
            .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
        command
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn examples() -> PathBuf {
    root().join("docs/examples/python")
}

fn target() -> anyhow::Result<PathBuf> {
    // `target/debug/deps/<this test>`
    let this = std::env::current_exe()?;
    let dir = this.ancestors().nth(3);
    Ok(dir.context("the test is not in a target directory")?.to_owned())
}

/// What it printed to stdout.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let done = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "{command:?} ended with {}:\n{said}",
        done.status
    );
    Ok(String::from_utf8(done.stdout)?)
}
