//! The `tidewatch` command: the server, and the tools to look at one and change what it holds.
//!
//! Data goes to stdout and everything else to stderr, so that a pipe carries data only. How it ends
//! tells what happened: the codes are in [`exit`]. What it prints is made in [`output`]; each
//! subcommand is a file in [`command`].

mod age;
mod args;
mod command;
mod connection;
mod data_dir;
mod directed_filter;
mod disposition;
mod docker;
mod entry;
mod etcd;
mod exit;
mod failure;
mod fleet_row;
mod output;
mod reporter;
mod signal;
mod state;
mod table;
mod trace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::parse();
    match args.command.run(args.global) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(failure) => failure.report(),
    }
}
