//! Which Docker engines a command looks after: the same for `serve` and `agent`.

use clap::ValueEnum;
use tidewatch_server::{Adopt, DockerEndpoint, Engines, Error, ErrorClass};

use crate::exit;
use crate::failure::Failure;

/// The options.
#[derive(Debug, clap::Args)]
pub(crate) struct DockerArgs {
    /// The Docker engines to watch [default: `DOCKER_HOST`, else the usual socket]
    #[arg(long, value_name = "[NAME=]URL", env = "TIDEWATCH_DOCKER", value_delimiter = ',', value_parser = endpoint)]
    docker: Vec<DockerEndpoint>,
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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AdoptArg {
    Compose,
    None,
}

impl DockerArgs {
    /// What was asked for. It is checked when its sites are asked for.
    pub(crate) fn engines(&self) -> Engines {
        Engines {
            docker: self.docker.clone(),
            host_name: self.host_name.clone(),
            host_address: self.host_address.clone(),
            adopt: match self.adopt {
                AdoptArg::Compose => Adopt::Compose,
                AdoptArg::None => Adopt::None,
            },
        }
    }
}

/// `[NAME=]URL`. A `=` behind the scheme belongs to the URL.
fn endpoint(text: &str) -> Result<DockerEndpoint, String> {
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

/// An error of the server, or of the settings it shares with an agent.
pub(crate) fn judge(error: Error) -> Failure {
    let code = match error.class() {
        ErrorClass::Usage => exit::USAGE,
        ErrorClass::Failed => exit::FAILED,
    };
    Failure::new(code, error)
}
