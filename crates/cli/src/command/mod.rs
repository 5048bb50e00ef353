//! The subcommands, a file each.

mod agent;
mod backup;
mod completions;
mod del;
mod directives;
mod explain;
mod get;
mod hosts;
mod log;
mod ls;
mod ps;
mod put;
mod restore;
mod serve;
mod status;
mod wait;
mod watch;
mod watchers;
mod workload;

use anyhow::Context as _;

use crate::args::Global;
use crate::connection::Connection;
use crate::failure::Result;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Serve(Box<serve::Args>),
    Agent(agent::Args),
    Ps(ps::Args),
    Explain(explain::Args),
    Hosts(hosts::Args),
    Log(log::Args),
    Workload(workload::Args),
    Wait(wait::Args),
    Directives(directives::Args),
    Get(get::Args),
    Put(put::Args),
    Del(del::Args),
    Ls(ls::Args),
    Watch(watch::Args),
    Watchers(watchers::Args),
    Status(status::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Completions(completions::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, global: Global) -> Result {
        match self {
            Self::Serve(args) => serve::run(&args),
            Self::Agent(args) => agent::run(&args, global.token_file.as_deref()),
            Self::Ps(args) => ask(global, async |connection| ps::run(&args, connection).await),
            Self::Explain(args) => ask(global, async |connection| explain::run(&args, connection).await),
            Self::Hosts(args) => ask(global, async |connection| hosts::run(&args, connection).await),
            Self::Log(args) => ask(global, async |connection| log::run(&args, connection).await),
            Self::Workload(args) => ask(global, async |connection| workload::run(&args, connection).await),
            Self::Wait(args) => ask(global, async |connection| wait::run(&args, connection).await),
            Self::Directives(args) => ask(global, async |connection| {
                directives::run(&args, connection).await
            }),
            Self::Get(args) => ask(global, async |connection| get::run(&args, connection).await),
            Self::Put(args) => ask(global, async |connection| put::run(&args, connection).await),
            Self::Del(args) => ask(global, async |connection| del::run(&args, connection).await),
            Self::Ls(args) => ask(global, async |connection| ls::run(&args, connection).await),
            Self::Watch(args) => ask(global, async |connection| watch::run(&args, connection).await),
            Self::Watchers(args) => ask(global, async |connection| watchers::run(&args, connection).await),
            Self::Status(args) => ask(global, async |connection| status::run(&args, connection).await),
            Self::Backup(args) => ask(global, async |connection| backup::run(&args, connection).await),
            Self::Restore(args) => restore::run(&args),
            Self::Completions(args) => completions::run(&args),
        }
    }
}

/// Runs a command that asks a server, on this thread. One more thread keeps the connection alive and signals heard while
/// this one waits for the reader of stdout.
fn ask(global: Global, command: impl AsyncFnOnce(Connection) -> Result) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let endpoint = global.endpoint.clone();
    let done = runtime.block_on(command(Connection::new(global)));
    done.map_err(|failure| failure.about(&endpoint))
}
