//! `tidewatch serve`: the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::ValueEnum;
use tidewatch_server::{Adopt, Config, DockerEndpoint, Error, ErrorClass, Server};

use crate::data_dir::DataDir;
use crate::failure::{Failure, Result, note};
use crate::signal::Signals;
use crate::{exit, trace};

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
    /// The Docker engines to watch [default: `DOCKER_HOST`, else the usual socket]
    #[arg(long, value_name = "[NAME=]URL", env = "TIDEWATCH_DOCKER", value_delimiter = ',', value_parser = docker)]
    docker: Vec<DockerEndpoint>,
    /// Watch no Docker engine
    #[arg(long)]
    no_docker: bool,
    /// What this host is called in the fleet [default: the machine's name]
    #[arg(long, value_name = "NAME", env = "TIDEWATCH_HOST_NAME")]
    host_name: Option<String>,
    /// The address at which others reach the ports that containers publish here
    #[arg(long, value_name = "A", env = "TIDEWATCH_HOST_ADDRESS")]
    host_address: Option<String>,
    /// Which containers without labels of ours get rows: those of Docker Compose, or none
    #[arg(
        long,
        value_name = "WHICH",
        env = "TIDEWATCH_ADOPT",
        default_value = "compose"
    )]
    adopt: AdoptArg,
    /// Listen on an address that others can reach although nothing keeps them out
    #[arg(long)]
    insecure: bool,
    /// Check the settings, and end
    #[arg(long)]
    check_config: bool,
}

const EXAMPLES: &str = "\
What is logged goes to stderr; TIDEWATCH_LOG sets how much, as in TIDEWATCH_LOG=debug or
TIDEWATCH_LOG=warn,tidewatch_docker=debug.

Examples:
  tidewatch serve
  tidewatch serve --docker web1=tcp://10.0.0.5:2375,web2=tcp://10.0.0.6:2375
  tidewatch serve --listen 127.0.0.1:0 --data-dir ./data --no-docker";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AdoptArg {
    Compose,
    None,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "it looks like `127.0.0.1:7480` or `[::1]:7480`".to_owned())
}

/// `[NAME=]URL`. A `=` behind the scheme belongs to the URL.
fn docker(text: &str) -> Result<DockerEndpoint, String> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if !name.contains("://") => (Some(name.to_owned()), url),
        _ => (None, text),
    };
    if name.as_deref() == Some("") || url.is_empty() {
        return Err("it looks like `unix:///var/run/docker.sock` or `web1=tcp://10.0.0.5:2375`".to_owned());
    }
    Ok(DockerEndpoint {
        name,
        url: url.to_owned(),
    })
}

pub(crate) fn run(args: &Args) -> Result {
    let config = args.config()?;
    config.check().map_err(judge)?;
    if args.check_config {
        return Ok(());
    }
    trace::start()?;
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
        Ok(Config {
            listen: self.listen,
            insecure: self.insecure,
            data_dir: Some(self.data_dir.path()?),
            docker: if self.no_docker {
                Vec::new()
            } else {
                self.docker.clone()
            },
            no_docker: self.no_docker,
            host_name: self.host_name.clone(),
            host_address: self.host_address.clone(),
            adopt: match self.adopt {
                AdoptArg::Compose => Adopt::Compose,
                AdoptArg::None => Adopt::None,
            },
            ..Config::default()
        })
    }
}

/// What is served besides the port.
fn summary(config: &Config) -> String {
    let data = match &config.data_dir {
        Some(path) => format!("data in {}", path.display()),
        None => "data in memory".to_owned(),
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

fn judge(error: Error) -> Failure {
    let code = match error.class() {
        ErrorClass::Usage => exit::USAGE,
        ErrorClass::Failed => exit::FAILED,
    };
    Failure::new(code, error)
}
