//! `tidewatch agent`: the reconcilers alone, for a server elsewhere.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tidewatch_client::{Client, Reconnect};
use tidewatch_core::SystemClock;
use tidewatch_directives::{DirectiveStore as _, KeyspaceDirectiveStore, node};
use tidewatch_docker::{RENEW_DEADLINE, Trigger};
use tidewatch_server::{LogDirectives, Site, machine_name};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::with_token;
use crate::docker::{DockerArgs, judge};
use crate::failure::{Failure, Result, note};
use crate::reporter::Reporter;
use crate::signal::Signals;
use crate::{exit, trace};

/// Look after the Docker engines here, for a server elsewhere
///
/// Needs no port and keeps nothing: what Docker runs here is written to the server's keyspace. While the server or
/// Docker is away it keeps trying, and when either is back it looks at everything anew. SIGTERM and Ctrl-C give the
/// hosts up, so that their containers read as unknown at once.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server to write to; several, if they serve the same keyspace
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEWATCH_SERVER",
        value_delimiter = ',',
        required = true
    )]
    server: Vec<String>,
    #[command(flatten)]
    docker: DockerArgs,
}

const EXAMPLES: &str = "\
Ends with 2 if an option makes no sense, and otherwise only when it is told to: a server that
cannot be reached is no reason. What is logged goes to stderr; TIDEWATCH_LOG sets how much.

Examples:
  tidewatch agent --server http://10.0.0.1:7480
  tidewatch agent --server http://10.0.0.1:7480 --host-name web2 --host-address 10.0.0.6
  tidewatch agent --server http://10.0.0.1:7480 --docker web2=unix:///var/run/docker.sock,web3=tcp://10.0.0.7:2375";

/// After how long without a sign of life a server counts as dead. A renewal of a lease gives one up after half of it.
const DEAD_AFTER: Duration = Duration::from_secs(4);

// The reconciler gives a renewal up later than the client gives up the server, so that the next one goes to another.
const _: () = assert!(DEAD_AFTER.as_millis() / 2 < RENEW_DEADLINE.as_millis());

/// The reconcilers that are asked for a resync when a lost connection is back. Empty until they are made.
type Triggers = Arc<OnceLock<Vec<Trigger>>>;

pub(crate) fn run(args: &Args, token_file: Option<&Path>) -> Result {
    let sites = args.docker.engines().sites().map_err(judge)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let triggers = Triggers::default();
        let client = args.client(token_file, triggers.clone()).await?;
        // Followed before the server is reached: the agent's own log obeys them as soon as it is.
        let directives = KeyspaceDirectiveStore::builder(client.keyspace()).start();
        let log = LogDirectives::new();
        log.attach(directives.handle().clone());
        trace::start(log)?;
        // Each host says what it has in force, until the runtime ends.
        for site in &sites {
            let (host, store) = (site.host().to_string(), directives.handle().clone());
            tokio::spawn(node::report(
                client.keyspace(),
                host,
                store,
                SystemClock::shared(),
            ));
        }
        look_after(sites, &client, &args.server.join(", "), &triggers).await
    })
}

impl Args {
    /// A client of the server, which is not connected to yet: it may come later.
    async fn client(&self, token_file: Option<&Path>, triggers: Triggers) -> Result<Client> {
        let (first, others) = self
            .server
            .split_first()
            .ok_or_else(|| Failure::message(exit::USAGE, "--server names no server"))?;
        let mut builder = Client::builder(first);
        for other in others {
            builder = builder.endpoint(other);
        }
        let builder = builder.dead_after(DEAD_AFTER);
        let builder = with_token(builder, token_file).on_reconnect(move |told| {
            // Each reconciler has a watch of its own, and one of them may notice what the others do not.
            if let (Reconnect::Resumed { .. }, Some(triggers)) = (told, triggers.get()) {
                triggers.iter().for_each(Trigger::resync);
            }
        });
        Ok(builder.connect_lazy().await?)
    }
}

/// Keeps the rows of all sites until a signal says that it is enough.
async fn look_after(sites: Vec<Site>, client: &Client, server: &str, triggers: &Triggers) -> Result {
    let mut signals = Signals::new()?;
    let instance = format!("{:016x}", fastrand::u64(..));
    let clock = SystemClock::shared();
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut to_trigger = Vec::new();
    for site in sites {
        note(&format!(
            "looking after host {} at {} for {server}",
            site.host(),
            site.endpoint()
        ));
        let reconciler = site
            .reconciler(clock.clone())
            .keyspace(client.keyspace())
            .herald(Arc::new(Reporter::new(client.clone())))
            .instance(&instance)
            .description(format!("agent on {}", machine_name()))
            .build();
        to_trigger.push(reconciler.trigger());
        let mut stopped = stopped.clone();
        running.spawn(reconciler.run(async move {
            // Also if there is nobody left to say so.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }));
    }
    let _ = triggers.set(to_trigger);
    tracing::info!(instance, server, "looking after {} hosts", running.len());
    let failed = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "asked to end; a second signal ends at once");
            None
        }
        ended = running.join_next() => ended,
    };
    let _ = stop.send(true);
    while running.join_next().await.is_some() {}
    client.close();
    match failed {
        Some(Err(error)) => Err(Failure::new(
            exit::FAILED,
            anyhow::Error::new(error).context("a reconciler ended"),
        )),
        _ => Ok(()),
    }
}
