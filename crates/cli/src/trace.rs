//! What the server logs, and where it goes.

use std::io::{self, IsTerminal as _};

use anyhow::anyhow;
use tidewatch_server::LogDirectives;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::directed_filter::DirectedFilter;
use crate::exit;
use crate::failure::{Failure, Result, colors_wanted};

/// What is logged unless the environment says otherwise.
const DEFAULT_FILTER: &str = "info";

/// The variables that say what is logged; the first one that is set counts.
const VARIABLES: [&str; 2] = ["TIDEWATCH_LOG", "RUST_LOG"];

/// Starts to log to stderr: what the environment says, and what directives want beyond that.
pub(crate) fn start(directives: LogDirectives) -> Result {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && colors_wanted())
        // Complaining about a stderr that nobody reads any more, on stderr, would be a panic in whatever task logs.
        .log_internal_errors(false)
        .with_filter(DirectedFilter {
            base: filter()?,
            directives,
        });
    tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .map_err(|error| Failure::new(exit::FAILED, anyhow!(error).context("failed to start logging")))
}

fn filter() -> Result<EnvFilter> {
    let set = VARIABLES
        .into_iter()
        .find_map(|name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?)));
    let Some((name, value)) = set else {
        return Ok(EnvFilter::new(DEFAULT_FILTER));
    };
    EnvFilter::try_new(&value).map_err(|error| {
        Failure::new(
            exit::USAGE,
            anyhow::Error::new(error).context(format!("{name} is not valid")),
        )
        .hint("it looks like `debug`, or `warn,tidewatch_docker=debug`")
    })
}
