//! `tidewatch backup`: a copy of the keyspace, while everything goes on.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tidewatch_client::Client;

use crate::connection::Connection;
use crate::exit;
use crate::failure::{Failure, Result, note};
use crate::signal::Signals;

/// Copy the server's keyspace to a file, while everything goes on
///
/// The copy is consistent, holds the history too, and appears under its name only when it is complete. An existing file
/// is not overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to write the copy
    file: PathBuf,
}

const EXAMPLES: &str = "\
Bring a copy back with `tidewatch restore`.

Examples:
  tidewatch backup /var/backups/tidewatch-$(date +%F).db";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    let mut signals = Signals::new()?;
    let client = connection.open().await?;
    tokio::select! {
        copied = copy(&client, &args.file) => copied,
        // Dropping the copy removes what there is of it; being killed would not.
        signal = signals.next() => Err(Failure::message(
            exit::FAILED,
            format!("{signal}: {} was not written", args.file.display()),
        )),
    }
}

async fn copy(client: &Client, target: &Path) -> Result {
    let mut copy = Copy::beside(target)?;
    let mut backup = client.backup().await?;
    let revision = backup.revision();
    while let Some(chunk) = backup.next().await? {
        copy.write(&chunk)?;
    }
    copy.finish()?;
    note(&format!("copied revision {revision} to {}", target.display()));
    Ok(())
}

/// A file that gets its name when it is complete, and goes if it never is.
struct Copy {
    partial: NamedTempFile,
    target: PathBuf,
}

impl Copy {
    /// Begins a copy, in the directory where it is to be: only there can it get its name in one step.
    fn beside(target: &Path) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let dir = directory(target);
        let partial = tempfile::Builder::new()
            .prefix(".tidewatch-backup-")
            .tempfile_in(dir)
            .with_context(|| format!("failed to make a file in {}", dir.display()))?;
        Ok(Self {
            partial,
            target: target.to_owned(),
        })
    }

    fn write(&mut self, chunk: &[u8]) -> Result {
        let written = self.partial.write_all(chunk);
        Ok(written.with_context(|| format!("failed to write {}", self.target.display()))?)
    }

    /// Makes it durable, and gives it its name unless another file has got it meanwhile.
    fn finish(self) -> Result {
        let target = &self.target;
        let failed = || format!("failed to write {}", target.display());
        self.partial.as_file().sync_all().with_context(failed)?;
        self.partial
            .persist_noclobber(target)
            .map_err(|error| match error.error.kind() {
                io::ErrorKind::AlreadyExists => exists(target),
                _ => anyhow::Error::new(error.error).context(failed()).into(),
            })?;
        let synced = File::open(directory(target)).and_then(|dir| dir.sync_all());
        Ok(synced.with_context(failed)?)
    }
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

fn exists(file: &Path) -> Failure {
    Failure::message(exit::REFUSED, format!("{} exists already", file.display()))
        .hint("name another file, or move that one away")
}
