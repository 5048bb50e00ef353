//! `tidewatch serve`: the server.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use tidewatch_server::{Config, EtcdConfig, Server};

use crate::data_dir::DataDir;
use crate::docker::{DockerArgs, judge};
use crate::etcd::EtcdArgs;
use crate::failure::{Result, note};
use crate::signal::Signals;
use crate::trace;

/// Run the server: shows what Docker runs here, and keeps the keyspace
///
/// Without a Docker it serves all the same and keeps trying. SIGTERM and Ctrl-C end it in order: watches are told where
/// to resume and writes finish; a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen, for gRPC and HTTP alike; port 0 takes any free one
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEWATCH_LISTEN",
        default_value = "127.0.0.1:7480",
        value_parser = address
    )]
    listen: SocketAddr,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    docker: DockerArgs,
    /// Watch no Docker engine
    #[arg(long)]
    no_docker: bool,
    /// A name under which clients reach the server, through a proxy for instance; can be repeated
    #[arg(
        long,
        value_name = "NAME",
        env = "TIDEWATCH_ALLOWED_HOST",
        value_delimiter = ','
    )]
    allowed_host: Vec<String>,
    /// Listen on an address that others can reach although nothing keeps them out
    #[arg(long)]
    insecure: bool,
    /// Check the settings, and end
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    etcd: EtcdArgs,
}

const EXAMPLES: &str = "\
What is logged goes to stderr; TIDEWATCH_LOG sets how much, as in TIDEWATCH_LOG=debug or
TIDEWATCH_LOG=warn,tidewatch_docker=debug.

Examples:
  tidewatch serve
  tidewatch serve --docker web1=tcp://10.0.0.5:2375,web2=tcp://10.0.0.6:2375
  tidewatch serve --docker 'web1=ssh://ops@10.0.0.5,web2=https://10.0.0.6:2376?certs=/etc/web2'
  tidewatch serve --listen 127.0.0.1:0 --data-dir ./data --no-docker
  tidewatch serve --etcd etcd-1:2379,etcd-2:2379,etcd-3:2379 --etcd-namespace /fleet/";

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "it looks like `127.0.0.1:7480` or `[::1]:7480`".to_owned())
}

pub(crate) fn run(args: &Args) -> Result {
    let config = args.config()?;
    config.check().map_err(judge)?;
    if args.check_config {
        return Ok(());
    }
    trace::start(config.log_directives.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result {
    let mut signals = Signals::new()?;
    let summary = summary(&config);
    let server = Server::bind(config).await.map_err(judge)?;
    let address = server.local_addr();
    let ready = || note(&format!("serving on http://{address}, {summary}"));
    let shutdown = async {
        let signal = signals.next().await;
        tracing::info!(signal, "asked to end; a second signal ends at once");
    };
    server.run_with(ready, shutdown).await.map_err(judge)
}

impl Args {
    fn config(&self) -> Result<Config> {
        let engines = self.docker.engines();
        let etcd = self.etcd.config()?;
        let data_dir = match &etcd {
            Some(_) => self.data_dir.named().map(Path::to_path_buf),
            None => Some(self.data_dir.path()?),
        };
        Ok(Config {
            listen: self.listen,
            insecure: self.insecure,
            allowed_hosts: self.allowed_host.clone(),
            data_dir,
            etcd,
            docker: if self.no_docker {
                Vec::new()
            } else {
                engines.docker
            },
            no_docker: self.no_docker,
            host_name: engines.host_name,
            host_address: engines.host_address,
            adopt: engines.adopt,
            ..Config::default()
        })
    }
}

/// What is served besides the port.
fn summary(config: &Config) -> String {
    let data = match (&config.etcd, &config.data_dir) {
        (Some(etcd), _) => data_in(etcd),
        (None, Some(path)) => format!("data in {}", path.display()),
        (None, None) => "data in memory".to_owned(),
    };
    let docker = if config.no_docker {
        "no docker".to_owned()
    } else if config.docker.is_empty() {
        match std::env::var("DOCKER_HOST") {
            Ok(url) if !url.is_empty() => format!("docker at {url}"),
            _ => "docker at the usual socket".to_owned(),
        }
    } else {
        let urls: Vec<_> = config.docker.iter().map(|engine| engine.url.as_str()).collect();
        format!("docker at {}", urls.join(", "))
    };
    format!("{data}, {docker}")
}

fn data_in(etcd: &EtcdConfig) -> String {
    let members = etcd.endpoints.join(" and ");
    match etcd.namespace.as_str() {
        "" => format!("data in etcd at {members}"),
        namespace => format!("data in etcd at {members} below {namespace}"),
    }
}
