//! The command line.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};

use crate::command::Command;
use crate::output::Format;

/// A live, revisioned, watchable picture of a container fleet.
///
/// `tidewatch serve` shows what Docker runs here and keeps the keyspace that it is written to; the other commands look
/// at a server and change what it holds. Data goes to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "tidewatch", version, after_help = EXIT_CODES, after_long_help = MORE, max_term_width = 100)]
pub(crate) struct Args {
    /// What goes for all commands that ask a server.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What goes for all commands that ask a server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// The server to ask
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDEWATCH_ENDPOINT",
        default_value = "http://127.0.0.1:7480",
        help_heading = "Connection and output"
    )]
    pub(crate) endpoint: String,
    /// A file with the token to show the server; without it the one in `TIDEWATCH_TOKEN` is taken
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection and output"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Text for people, or JSON lines for scripts
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Connection and output"
    )]
    pub(crate) output: Format,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not reachable, 4 refused, 5 not found.";

const MORE: &str = "\
Exit codes:
  0  done (also when the reader of the output went away)
  1  failed
  2  the command line, a key, a name or a value is not valid
  3  the server was not reached
  4  the server refused: not allowed, a limit is reached, or something stands against it
  5  what was asked for does not exist

Examples:
  tidewatch serve
  tidewatch ps --watch
  tidewatch put /config/db postgres://db
  tidewatch watch /config/ --exec 'systemctl reload shop'";

/// The options that only commands which ask a server know.
const GLOBAL_IDS: [&str; 3] = ["endpoint", "token_file", "output"];

/// Commands that ask no server as the others do, with the options of those that they do not know.
const LOCAL_COMMANDS: [(&str, &[&str]); 4] = [
    ("serve", &GLOBAL_IDS),
    // It names its server in its own way, and shows it a token all the same.
    ("agent", &["endpoint", "output"]),
    ("restore", &GLOBAL_IDS),
    ("completions", &GLOBAL_IDS),
];

/// The whole command line, for the parser and for completions.
pub(crate) fn definition() -> clap::Command {
    let definition = Args::command();
    // An option of its own keeps the global one of that name from being handed down; hidden, it does not clutter the help.
    let global: Vec<_> = definition
        .get_arguments()
        .map(|arg| arg.clone().global(false).hide(true))
        .collect();
    LOCAL_COMMANDS
        .into_iter()
        .fold(definition, |definition, (name, unknown)| {
            let hidden = global
                .iter()
                .filter(|arg| unknown.contains(&arg.get_id().as_str()));
            definition.mut_subcommand(name, |local| local.args(hidden))
        })
}

/// Reads the command line; ends the process, with advice, if it makes no sense.
pub(crate) fn parse() -> Args {
    let mut definition = definition();
    let matches = definition.get_matches_mut();
    if let Some(conflict) = conflict(&matches) {
        definition.error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut definition).exit())
}

/// What was given and would be ignored.
fn conflict(matches: &ArgMatches) -> Option<String> {
    let (name, of_command) = matches.subcommand()?;
    let given = |matches: &ArgMatches, id| matches.value_source(id) == Some(ValueSource::CommandLine);
    let unknown = LOCAL_COMMANDS.iter().find(|(local, _)| *local == name);
    let mut unknown = unknown.into_iter().flat_map(|(_, unknown)| *unknown);
    if let Some(id) = unknown.find(|id| given(matches, id) || given(of_command, id)) {
        let flag = id.replace('_', "-");
        return Some(match name {
            "agent" => format!("`agent` names its server with --server: --{flag} means nothing to it"),
            _ => format!("`{name}` asks no server: --{flag} means nothing to it"),
        });
    }
    // An engine that the environment names gives way to the flag.
    if name == "serve" && given(of_command, "docker") && given(of_command, "no_docker") {
        return Some("--docker and --no-docker contradict each other: leave one of them out".to_owned());
    }
    if name == "watch"
        && given(of_command, "exec")
        && (given(matches, "output") || given(of_command, "output"))
    {
        return Some("with --exec no events are printed: --output means nothing to it".to_owned());
    }
    None
}
