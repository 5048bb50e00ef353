//! `tidewatch restore`: puts a backup in the place of a data directory's keyspace.

use std::path::{Path, PathBuf};

use tidewatch_sqlite::{Error, Existing};

use crate::data_dir::DataDir;
use crate::exit;
use crate::failure::{Failure, Result, note};

/// Put a backup into a data directory, while no server runs on it
///
/// The restored keyspace gets a new identity: a watch that saw changes made after the backup ends and says so, instead of
/// going on in a history that took another course.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file that `tidewatch backup` wrote
    file: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    /// Replace the keyspace that is there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  tidewatch restore /var/backups/tidewatch-2026-03-01.db
  tidewatch restore backup.db --data-dir /srv/tidewatch --force";

pub(crate) fn run(args: &Args) -> Result {
    let dir = args.data_dir.path()?;
    let existing = if args.force {
        Existing::Replace
    } else {
        Existing::Refuse
    };
    let restored =
        tidewatch_sqlite::restore(&args.file, &dir, existing).map_err(|error| judge(error, &args.file))?;
    note(&format!(
        "restored revision {} into {}; the keyspace was {} and is {} now",
        restored.revision,
        dir.display(),
        restored.from,
        restored.keyspace
    ));
    Ok(())
}

fn judge(error: Error, backup: &Path) -> Failure {
    let code = match &error {
        Error::InUse { .. } | Error::NotEmpty { .. } => exit::REFUSED,
        Error::NoDatabase { .. } => exit::NOT_FOUND,
        _ => exit::FAILED,
    };
    let shown = backup.display();
    // What the library says of these is about a data directory.
    let failure = match &error {
        Error::NoDatabase { path } if path == backup => {
            Failure::message(code, format!("there is no backup {shown}"))
        }
        Error::NotADatabase { path } if path == backup => Failure::message(
            code,
            format!("{shown} is no backup; name a file that `tidewatch backup` wrote"),
        ),
        _ => Failure::new(code, error),
    };
    failure.context("nothing was restored")
}
