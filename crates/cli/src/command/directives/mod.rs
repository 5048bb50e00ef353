//! `tidewatch directives`: temporary verbosity and switches for the whole fleet.

mod follow;
mod follower;
mod publish;
mod set;
mod show;
mod target;

use serde::Serialize;
use tidewatch_directives::Rejection;

use crate::connection::Connection;
use crate::exit;
use crate::failure::{Failure, Result};
use crate::output::Format;

/// Publish temporary verbosity and switches for the whole fleet, and follow them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Publish(publish::Args),
    Set(set::Args),
    Rm(Rm),
    Show(show::Args),
    Clear(Clear),
    Follow(follow::Args),
}

/// Take a directive out
#[derive(Debug, clap::Args)]
#[command(after_help = RM_EXAMPLES)]
struct Rm {
    /// Its id
    id: String,
}

const RM_EXAMPLES: &str = "\
Ends with 5 if there is no such directive.

Examples:
  tidewatch directives rm slow-checkout";

/// Take all directives out
#[derive(Debug, clap::Args)]
#[command(after_help = CLEAR_EXAMPLES)]
struct Clear {}

const CLEAR_EXAMPLES: &str = "\
Examples:
  tidewatch directives clear";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    match &args.action {
        Action::Publish(args) => publish::run(args, connection).await,
        Action::Set(args) => set::run(args, connection).await,
        Action::Rm(args) => {
            let revision = connection.open().await?.remove_directive(&args.id).await?;
            changed(&connection, revision.0)
        }
        Action::Show(args) => show::run(args, connection).await,
        Action::Clear(Clear {}) => {
            let (revision, _) = connection.open().await?.clear_directives().await?;
            changed(&connection, revision.0)
        }
        Action::Follow(args) => follow::run(args, connection).await,
    }
}

#[derive(Serialize)]
struct Changed {
    revision: u64,
}

/// Prints the revision of a change.
fn changed(connection: &Connection, revision: u64) -> Result {
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&Changed { revision })?,
        Format::Text => output.line(format_args!("revision {revision}"))?,
    }
    output.flush()
}

/// The failure of a set, or a directive, that was found to be wrong before a server was asked.
fn rejected(rejection: &Rejection) -> Failure {
    Failure::message(exit::USAGE, format!("invalid directives: {rejection}"))
}

/// An attribute and its value, as `--match` takes it.
fn attribute(text: &str) -> Result<(tidewatch_directives::Attribute, String), String> {
    const FORM: &str = "it looks like host=h1; the attributes are host, workload, role, component, principal";
    match text.split_once('=') {
        Some((name, value)) if !value.is_empty() => {
            Ok((name.parse().map_err(|_| FORM.to_owned())?, value.to_owned()))
        }
        _ => Err(FORM.to_owned()),
    }
}
