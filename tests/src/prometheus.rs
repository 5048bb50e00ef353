//! A Prometheus that belongs to one test.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::port::HeldPort;
use crate::program::Running;
use crate::{json, live};

/// A running Prometheus, on a free port of the loopback interface. It is killed when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    port: HeldPort,
    _running: Running,
}

impl Prometheus {
    /// Whether there is one to start. Without it the test returns at once, having said so.
    ///
    /// # Panics
    /// Where live tests are required and there is none.
    pub fn is_there() -> bool {
        let version = Command::new("prometheus").arg("--version").output();
        let found = version.context("running prometheus (on Debian: apt-get install prometheus)");
        live::backend("prometheus", found).is_some()
    }

    /// Starts it with this configuration, its data in `dir`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(dir: &Path, configuration: &str) -> anyhow::Result<Self> {
        let config = dir.join("prometheus.yml");
        fs::write(&config, configuration)?;
        let port = HeldPort::new()?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={}", port.address()));
        Ok(Self {
            port,
            _running: Running::start(&mut command)?,
        })
    }

    /// What its API answers, as JSON.
    ///
    /// # Errors
    /// Where it does not answer, or with an error.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        json::get(&format!("http://{}{path}", self.port.address())).await
    }
}
