//! Servers that share an etcd: one keyspace, whatever becomes of them or of it.

mod certificate;
#[path = "../../agent/engine.rs"]
mod engine;
mod fault;
mod host;
mod moving;
mod outage;
mod restored;
mod scale;
mod sharing;
mod tier;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tidewatch_client::Client;
use tidewatch_core::watch::{BatchKind, EventRef};
use tidewatch_core::{Batch, EventKind, Keyspace, Watch, prefix};
use tidewatch_tests::program::ServerProgram;

/// How long to wait for something that must come. Generous: some of it is much, and it is only reached when a test fails.
const CEILING: Duration = Duration::from_secs(600);

/// Where the tests write.
const PREFIX: &str = "/fleet-test/";

/// A server on an etcd, and a client of it.
struct Server {
    program: ServerProgram,
    ks: Keyspace,
}

impl Server {
    async fn on(etcd: impl IntoIterator<Item = impl ToString>) -> anyhow::Result<Self> {
        Self::with(etcd, &[]).await
    }

    /// The same with options for `serve`.
    async fn with(etcd: impl IntoIterator<Item = impl ToString>, options: &[&str]) -> anyhow::Result<Self> {
        let members: Vec<_> = etcd.into_iter().map(|member| member.to_string()).collect();
        let program = ServerProgram::start_on_etcd(&members, options)?;
        let ks = Client::builder(program.endpoint()).connect().await?.keyspace();
        Ok(Self { program, ks })
    }

    /// A watch of what tests write.
    async fn watch(&self) -> anyhow::Result<Watch> {
        Ok(self.ks.watch(prefix(PREFIX)?).start().await?)
    }

    /// What `tidewatch status` says.
    fn status(&self) -> anyhow::Result<Value> {
        let lines = self.program.run(&["status"])?;
        lines.into_iter().next().context("it says nothing")
    }
}

/// The name of a key of the tests.
fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

async fn next(watch: &mut Watch) -> anyhow::Result<Batch> {
    let next = tokio::time::timeout(CEILING, watch.next()).await;
    Ok(next.context("there is nothing to say")??)
}

/// The next events, as their revision and what they are.
async fn next_events(watch: &mut Watch) -> anyhow::Result<(u64, Vec<String>)> {
    loop {
        let batch = next(watch).await?;
        if batch.kind() == BatchKind::Events {
            return Ok((batch.revision().0, lines(&batch)));
        }
    }
}

fn lines(batch: &Batch) -> Vec<String> {
    let line = |event: EventRef<'_>| {
        let name = event.key().escape_ascii().to_string();
        match event.kind() {
            EventKind::Put => format!(
                "{}={}",
                name.trim_start_matches(PREFIX),
                event.value().escape_ascii()
            ),
            EventKind::Delete => format!("{} deleted", name.trim_start_matches(PREFIX)),
        }
    };
    batch.iter().map(line).collect()
}
