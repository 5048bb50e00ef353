//! How a journal is opened.

use std::path::Path;

use crate::error::Error;
use crate::journal::SqliteJournal;

/// How a journal is opened; [`SqliteJournal::open`] uses the defaults.
///
/// ```
/// use tidewatch_sqlite::{Options, Synchronous};
///
/// # let dir = tempfile::tempdir()?;
/// let journal = Options::new().synchronous(Synchronous::Normal).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) synchronous: Synchronous,
}

/// When what was committed is forced to the disk.
///
/// SQLite knows a third kind, `EXTRA`; with a write-ahead log it does what `FULL` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Before a commit is acknowledged. It survives the end of the process, the loss of power and a
    /// crash of the machine.
    #[default]
    Full,
    /// Now and then. What was acknowledged survives the end of the process, but its newest part, up
    /// to some megabytes, may be missing after the machine crashed or lost power: **revisions then go
    /// back under the same keyspace id**. For caches and trials.
    Normal,
}

impl Synchronous {
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

impl Options {
    /// The defaults: [`Synchronous::Full`].
    pub fn new() -> Self {
        Self::default()
    }

    /// When what was committed is forced to the disk.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Opens the journal in `dir`; see [`SqliteJournal::open`].
    ///
    /// # Errors
    /// Those of [`SqliteJournal::open`].
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<SqliteJournal, Error> {
        SqliteJournal::open_with(dir.as_ref(), self)
    }
}
