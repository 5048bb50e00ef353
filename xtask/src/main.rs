//! `cargo xtask`: the tasks that build, check and test Tidewatch.
//!
//! Each subcommand is a file of its own here. They call `cargo` and the tools beside it and hold no logic that the crates
//! themselves need. CI calls nothing else, so what passes here passes there.

mod codegen;
mod docs;
mod process;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The tasks that build, check and test Tidewatch."
)]
enum Task {
    Codegen(codegen::Args),
    Docs(docs::Args),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Codegen(args) => codegen::run(&args),
        Task::Docs(args) => docs::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::report(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
