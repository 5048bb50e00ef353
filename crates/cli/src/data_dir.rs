//! Where the server keeps its data.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::exit;
use crate::failure::{Failure, Result};

/// The data directory, as an option of commands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataDir {
    /// Where the keyspace is kept [default: `$XDG_DATA_HOME/tidewatch`, else `~/.local/share/tidewatch`]
    #[arg(long, value_name = "DIR", env = "TIDEWATCH_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
}

impl DataDir {
    /// The directory that was named.
    pub(crate) fn named(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// The directory that was named, else the usual one.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.data_dir {
            return Ok(path.clone());
        }
        let base = etcetera::choose_base_strategy().map_err(|error| {
            Failure::new(
                exit::USAGE,
                anyhow::Error::new(error).context("no data directory can be chosen"),
            )
            .hint("name one with `--data-dir`, or set HOME or XDG_DATA_HOME")
        })?;
        Ok(base.data_dir().join("tidewatch"))
    }
}
