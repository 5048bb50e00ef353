//! `tidewatch completions`: what a shell needs to complete the command line.

use clap_complete::{Shell, generate};

use crate::args;
use crate::failure::Result;
use crate::output::{Format, Output};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch completions bash > ~/.local/share/bash-completion/completions/tidewatch
  tidewatch completions zsh > ~/.zfunc/_tidewatch
  tidewatch completions fish > ~/.config/fish/completions/tidewatch.fish";

pub(crate) fn run(args: &Args) -> Result {
    let mut script = Vec::new();
    generate(args.shell, &mut args::definition(), "tidewatch", &mut script);
    let mut output = Output::new(Format::Text);
    output.bytes(&script)?;
    output.flush()
}
